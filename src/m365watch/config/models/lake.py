"""The keys of `outputs`: where records go, each kind with its options."""

# Annotations stay objects here (`kinds.Section` says why).

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Tag

from m365watch.config.models import values
from m365watch.config.models.base import (
    DEFAULTS,
    NO_EFFECT,
    OBJECT,
    FolderPath,
    Output,
    Section,
    Whole,
    by_type,
)
from m365watch.outputs.network.wires import DevoHttpOutput, DevoPlatformOutput, SyslogOutput

_DAYS = "a whole number of days, 1 to 36,500"
_MEGABYTES = "a whole number of megabytes, 1 to 1,000,000,000"


class TableRetentionKeys(Section):
    """How long the records of one of Devo's tables stay; `devo.collectors.out` are the notices."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records of this table go when their day (UTC) is more than so many days ago; longer than those of
    all tables, or shorter. Left out, the days of all tables hold."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What the table's records may take on disk; its oldest days go until it fits. A file with several tables
    counts for each by its number of records."""


TableRetentions = Annotated[
    dict[Annotated[str, AfterValidator(values.parse_table_name)], TableRetentionKeys], Field(max_length=1_000)
]


class RetentionKeys(Section):
    """How long records stay in the lake. The ledger still knows those that went, so that none comes again."""

    days: Whole | None = Field(default=None, ge=1, le=36_500, title=_DAYS)
    """Records go when their day (UTC) is more than so many days ago; left out, they stay."""

    megabytes: Whole | None = Field(default=None, ge=1, le=1_000_000_000, title=_MEGABYTES)
    """What all records together may take on disk; the oldest days go until they fit, but for today's.
    Files that were replaced are not counted; they stay for two hours more."""

    tables: TableRetentions = Field(default={}, title="an object, one key for each table")
    """Other bounds for single tables."""


class LakeConfig(Section):
    """Options of an output of type `lake`."""

    directory: FolderPath = Field(default=Path("lake"), title="a path")
    """Where the Delta tables are, relative to the configuration file's folder."""

    retention: RetentionKeys = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """How long records stay; left out, for ever."""


class LakeOutput(Output):
    """Delta tables that `m365watch query` and any other engine can read."""

    type: Literal["lake"] = Field(title="lake")
    """The kind of output."""

    config: LakeConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""


class FilesConfig(Section):
    """Options of an output of type `files`."""

    directory: FolderPath = Field(default=Path("records"), title="a path")
    """Where the folders of the tables are, relative to the configuration file's folder."""

    compression: Literal["none", "gzip", "zstd"] = Field(default="none", title="none, gzip or zstd")
    """How the files are compressed: .ndjson, .ndjson.gz or .ndjson.zst."""

    rotate_megabytes: Whole = Field(
        default=256, ge=1, le=1_048_576, title="a whole number of megabytes, 1 to 1,048,576"
    )
    """The size at which a new file is started."""

    rotate_secs: Whole = Field(
        default=3_600, ge=1, le=2_678_400, title="a whole number of seconds, 1 to 2,678,400"
    )
    """The age at which a new file is started."""


class FilesOutput(Output):
    """The records themselves, one a line, in a folder for each table."""

    type: Literal["files"] = Field(title="files")
    """The kind of output."""

    config: FilesConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""


class ConsoleConfig(Section):
    """Options of an output of type `console`."""

    destination: Annotated[str | None, NO_EFFECT] = Field(default=None, title="a text")
    """Records always go to standard output."""


class ConsoleOutput(Output):
    """The records themselves on standard output, one a line."""

    type: Literal["console", "stdout"] = Field(title="console or stdout")
    """The kind of output."""

    config: ConsoleConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""


OUTPUT_TYPES: dict[object, type[Output]] = {
    "lake": LakeOutput,
    "files": FilesOutput,
    "console": ConsoleOutput,
    "stdout": ConsoleOutput,
    "devo_platform": DevoPlatformOutput,
    "relay": DevoPlatformOutput,
    "devo_http": DevoHttpOutput,
    "syslog": SyslogOutput,
    "in_house_relay": SyslogOutput,
    "sidecar": SyslogOutput,
}
OUTPUT_TYPES_WANTED = (
    "lake, files, devo_platform (or relay), devo_http, syslog, in_house_relay (or sidecar) or console"
)


OutputSection = Annotated[
    Annotated[LakeOutput, Tag("|LakeOutput")]
    | Annotated[FilesOutput, Tag("|FilesOutput")]
    | Annotated[DevoPlatformOutput, Tag("|DevoPlatformOutput")]
    | Annotated[DevoHttpOutput, Tag("|DevoHttpOutput")]
    | Annotated[SyslogOutput, Tag("|SyslogOutput")]
    | Annotated[ConsoleOutput, Tag("|ConsoleOutput")],
    by_type(OUTPUT_TYPES),
]
