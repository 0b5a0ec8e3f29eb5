"""Every key of the configuration file; the words below a key are its text on the reference page.

A field's title is what its key wants, as the object of "give ...": mistakes and the reference
page both use it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    model_validator,
)

from m365watch.config import values
from m365watch.config.clouds import parse_base_url


class NoEffect:
    """Marks a key of Devo's that is read and checked, but changes nothing in this version."""


NO_EFFECT = NoEffect()


class Section(BaseModel):
    """One object of the file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: object) -> object:
        """A known key without a value counts as left out, as it does in Devo's collector."""
        if not isinstance(given, dict):
            return given
        return {k: v for k, v in given.items() if v is not None or k not in cls.model_fields}


def _of_text(parse: Callable[[str], object]) -> Callable[[object], object]:
    """A validator that hands texts to `parse` and refuses everything else."""

    def parse_text(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("is not text")  # noqa: TRY004 - pydantic collects ValueError only
        return parse(value)

    return parse_text


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _refuse_masking(value: object) -> object:
    if value == []:
        return value
    raise ValueError(
        "cannot be honoured, since this version masks nothing; remove the key only if no value needs it"
    )


Switch = Annotated[bool, BeforeValidator(values.parse_switch)]
Label = Annotated[str, BeforeValidator(values.parse_label), Field(min_length=1)]
Name = Annotated[str, AfterValidator(values.parse_name)]
Whole = Annotated[int, BeforeValidator(values.refuse_boolean)]
Number = Annotated[float, BeforeValidator(values.refuse_boolean), Field(allow_inf_nan=False)]
Guid = Annotated[str, AfterValidator(values.parse_guid)]
TenantGuids = Annotated[
    tuple[Annotated[str, AfterValidator(values.parse_tenant_id)], ...],
    BeforeValidator(_listed),
    Field(min_length=1),
]
Instant = Annotated[datetime, BeforeValidator(_of_text(values.parse_instant))]
FilePath = Annotated[Path, BeforeValidator(_of_text(values.parse_path))]
PeriodSecs = Annotated[int, BeforeValidator(_of_text(values.parse_period_s))]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
NoMasking = Annotated[tuple[()], BeforeValidator(_refuse_masking)]

_ON_OFF = "true or false"
_MASKING = "an empty list"


class RequestsLimit(Section):
    """One limit of `requests_limits`."""

    period: PeriodSecs = Field(title='a length of time such as "1m", "1h" or "1d"')
    """The span that the limit is for; s, m, h, d, w, M (30 days) and y are known."""

    number_of_requests: Whole = Field(ge=-1, le=100_000_000, title="a whole number, or -1 for no limit")
    """How many requests may be made in each such span."""


RequestsLimits = tuple[RequestsLimit, ...]


class ServiceSection(Section):
    """One service of `services`."""

    enabled: Switch = Field(default=True, title=_ON_OFF)
    """Whether the service is collected; a service that is switched off is not read further."""

    start_time_in_utc: Instant | None = Field(default=None, title="an instant such as 2026-11-17T00:00:00Z")
    """Collects only content created from here on; left out, all that the service still serves (7 days).
    It is compared with the time at which Microsoft made the content available, never with the time at
    which something happened in the tenant."""

    request_period_in_seconds: Whole = Field(
        default=300, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400"
    )
    """How often new content is asked for."""

    override_tag: Annotated[str, AfterValidator(values.parse_tag)] | None = Field(
        default=None,
        title='a Devo tag of 2 to 6 levels of letters, digits, "_" and "-", joined by dots',
    )
    """The table for every record of the service, in place of the one that each record's Workload names."""

    override_bloom_filter_size: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=1_000_000_000, title="a whole number, 1 to 1,000,000,000"
    )
    """Devo's size of its filter of known records. Duplicates are found exactly here, without one."""

    override_bloom_filter_buffer_size: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=1_000_000_000, title="a whole number, 1 to 1,000,000,000"
    )
    """Devo's buffer before that filter."""

    requests_per_second: Annotated[Number | None, NO_EFFECT] = Field(
        default=None, gt=0, le=10_000, title="a number above 0"
    )
    """The budget of requests is the tenant's: set it on the input."""

    requests_limits: Annotated[RequestsLimits, NO_EFFECT] = Field(default=(), title="a list of limits")
    """The budget of requests is the tenant's: set it on the input."""

    use_time_slots_for_retrievals: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=_ON_OFF)
    """Windows are always planned without gaps."""

    obfuscation_data: NoMasking = Field(default=(), title=_MASKING)
    """Masking is not part of this version; anything but an empty list is refused."""


class Services(Section):
    """What is collected of a tenant; a service that is named without options has the defaults."""

    azure_active_directory: ServiceSection | None = Field(default=None, title="an object of options")
    """Content type Audit.AzureActiveDirectory: sign-ins and changes of the directory."""

    exchange: ServiceSection | None = Field(default=None, title="an object of options")
    """Content type Audit.Exchange: mailboxes and their administration."""

    sharepoint: ServiceSection | None = Field(default=None, title="an object of options")
    """Content type Audit.SharePoint: SharePoint and OneDrive."""

    general_audit: ServiceSection | None = Field(default=None, title="an object of options")
    """Content type Audit.General: Teams, Defender, Power BI and every other workload."""

    dlp: ServiceSection | None = Field(default=None, title="an object of options")
    """Content type DLP.All: matches of data loss prevention rules."""

    uri_retry: ServiceSection | None = Field(default=None, title="an object of options")
    """Devo's switch for the retries of failed fetches; here they are always retried, named or not."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: object) -> object:
        """A service that is named without options is switched on with the defaults."""
        if not isinstance(given, dict):
            return given
        return {k: {} if v is None and k in cls.model_fields else v for k, v in given.items()}


class Credentials(Section):
    """The application that reads the audit records."""

    client_id: Guid = Field(title="the application (client) ID, a GUID")
    """The id of the app registration in Entra."""

    tenant_id: TenantGuids = Field(title="the tenant's GUID, or a list of GUIDs")
    """The directory (tenant) ID; a list collects several tenants with one multi-tenant application."""

    client_secret: Annotated[SecretStr, Field(min_length=1)] = Field(
        title="the secret's value in quotes, or ${NAME}, or the key client_secret_file"
    )
    """The value of the client secret (not its ID), or `${NAME}` to take it from the environment."""

    client_secret_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the secret, in place of `client_secret`. A line break at its end is left out."""


def _cloud_kind(given: object) -> str:
    return "|CloudSection" if isinstance(given, dict | BaseModel) else "|name"


CloudName = Literal["worldwide", "gcc", "gcc-high", "dod", "china"]


class CloudSection(Section):
    """A cloud of one's own, in place of the name of one of Microsoft's."""

    login_url: BaseUrl = Field(title="an https URL (http for loopback hosts only)")
    """Where tokens are asked for, without the tenant."""

    management_url: BaseUrl = Field(title="an https URL (http for loopback hosts only)")
    """Where the Management Activity API answers, without `/api/v1.0`."""

    audience: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, title="the resource that tokens are asked for"
    )
    """The resource that tokens are asked for; left out, `management_url`."""


class AutoConfig(Section):
    """Devo's refresh of services that are not known beforehand."""

    enabled: Switch = Field(default=False, title=_ON_OFF)
    """Whether Devo's collector looks for new services."""

    refresh_interval_in_seconds: Whole = Field(default=600, ge=1, title="a whole number of seconds")
    """How often it looks."""

    creation_timeout_in_second: Whole | None = Field(default=None, ge=1, title="a whole number of seconds")
    """How long it waits."""


class InputSection(Section):
    """One application and the tenants that it may read."""

    type: Literal["office365"] | None = Field(default=None, title="office365")
    """What is collected. Left out only by the input that is itself named `office365`."""

    id: Label | None = Field(default=None, title="a short text that no other input has")
    """Tells inputs apart in what the collector reports; left out, the input's name."""

    enabled: Switch = Field(default=True, title=_ON_OFF)
    """Whether the input is collected; an input that is switched off is not read further."""

    credentials: Credentials = Field(title="an object with client_id, tenant_id and client_secret")
    """The application that reads the audit records."""

    cloud: Annotated[
        Annotated[CloudName, Tag("|name")] | Annotated[CloudSection, Tag("|CloudSection")],
        Discriminator(_cloud_kind),
    ] = Field(
        default="worldwide",
        title="worldwide, gcc, gcc-high, dod, china, or an object with login_url and management_url",
    )
    """The cloud that the tenants are in."""

    publisher_identifier: Guid | None = Field(default=None, title="a GUID")
    """The tenant of whoever runs the collector, under which Microsoft counts its requests; left out,
    the collected tenant itself."""

    services: Services | None = Field(default=None, title="an object of services")
    """What is collected; left out, all five kinds of content."""

    lookback_secs: Whole = Field(
        default=7_200, ge=0, le=604_800, title="a whole number of seconds, 0 to 604,800"
    )
    """How far before the newest listed content each listing starts again, to catch late content."""

    requests_per_second: Number | None = Field(default=None, gt=0, le=10_000, title="a number above 0")
    """How many requests a second each tenant gets, on average over a minute."""

    requests_limits: RequestsLimits = Field(default=(), title="a list of limits")
    """How many requests each tenant gets; of several limits the tightest holds, spread evenly. Left out:
    2,000 a minute on Microsoft's hosts, no limit on those of a `cloud` of one's own."""

    environment: Annotated[str | None, NO_EFFECT] = Field(default=None, title="a text")
    """Devo's `@devo_environment`; records are delivered without it in this version."""

    autoconfig: Annotated[AutoConfig | None, NO_EFFECT] = Field(default=None, title="an object of options")
    """Services are fixed; there is nothing to look for."""

    retries: Annotated[Whole | None, NO_EFFECT] = Field(default=None, title="a whole number")
    """Failed requests are retried for as long as the service serves the content."""

    obfuscation_data: NoMasking = Field(default=(), title=_MASKING)
    """Masking is not part of this version; anything but an empty list is refused."""


class LakeConfig(Section):
    """Options of an output of type `lake`."""

    directory: FilePath = Field(default=Path("lake"), title="a path")
    """Where the Delta tables are, relative to the configuration file's folder."""


class LakeOutput(Section):
    """Delta tables that `m365watch query` and any other engine can read."""

    type: Literal["lake"] = Field(title="lake")
    """The kind of output."""

    config: LakeConfig = Field(default=LakeConfig(), title="an object of options")
    """The options of the output."""


class FilesConfig(Section):
    """Options of an output of type `files`."""

    directory: FilePath = Field(default=Path("records"), title="a path")
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


class FilesOutput(Section):
    """The records themselves, one a line, in a folder for each table."""

    type: Literal["files"] = Field(title="files")
    """The kind of output."""

    config: FilesConfig = Field(default=FilesConfig(), title="an object of options")
    """The options of the output."""


class ConsoleConfig(Section):
    """Options of an output of type `console`."""

    destination: Annotated[str | None, NO_EFFECT] = Field(default=None, title="a text")
    """Records always go to standard output."""


class ConsoleOutput(Section):
    """The records themselves on standard output, one a line."""

    type: Literal["console", "stdout"] = Field(title="console or stdout")
    """The kind of output."""

    config: ConsoleConfig = Field(default=ConsoleConfig(), title="an object of options")
    """The options of the output."""


OUTPUT_TYPES: dict[object, type[Section]] = {
    "lake": LakeOutput,
    "files": FilesOutput,
    "console": ConsoleOutput,
    "stdout": ConsoleOutput,
}
OUTPUT_TYPES_WANTED = "lake, files, console or stdout"


def _output_kind(given: object) -> str | None:
    """The tag of the output's class; None lets the reader of mistakes look at `type` itself."""
    kind = given.get("type") if isinstance(given, dict) else None
    section = OUTPUT_TYPES.get(kind) if isinstance(kind, str) else None
    return f"|{section.__name__}" if section else None


OutputSection = Annotated[
    Annotated[LakeOutput, Tag("|LakeOutput")]
    | Annotated[FilesOutput, Tag("|FilesOutput")]
    | Annotated[ConsoleOutput, Tag("|ConsoleOutput")],
    Discriminator(_output_kind),
]


class PersistenceConfig(Section):
    """Options of `persistence`."""

    directory_name: FilePath = Field(default=Path("state"), title="a path")
    """Where the ledger is, relative to the configuration file's folder."""


class Persistence(Section):
    """Where the collector keeps its state."""

    type: Literal["filesystem", "json"] = Field(default="filesystem", title="filesystem")
    """The kind of store; `json` is Devo's older name for the same."""

    config: PersistenceConfig = Field(default=PersistenceConfig(), title="an object of options")
    """The options of the store."""


class Globals(Section):
    """What holds for the whole collector."""

    debug: Switch = Field(default=False, title=_ON_OFF)
    """Whether more is reported than an operator needs every day."""

    id: Label | None = Field(default=None, title="a text")
    """The number of the job on Devo's collector server."""

    name: Annotated[Label, AfterValidator(values.parse_collector_name)] = Field(
        default="m365watch", title='a name of letters, digits, "_" and "-"'
    )
    """The collector's name in what it reports, and the lake's name for this writer: it stays as it is once
    records are there; ".", "#" and spaces become "_"."""

    persistence: Persistence = Field(default=Persistence(), title="an object with type and config")
    """Where the collector keeps its state."""

    queue_max_size_in_mb: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=5_120, title="a whole number, 1 to 5,120"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_max_size_in_messages: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=100_000, title="a whole number, 1 to 100,000"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_max_elapsed_time_in_sec: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=600, title="a whole number of seconds, 1 to 600"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_wrap_max_size_in_messages: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=500, title="a whole number, 1 to 500"
    )
    """Devo's queue in memory; records wait in the ledger here."""

    queue_generate_metrics: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=_ON_OFF)
    """Devo's figures about its queue."""

    sender_stats_period_in_sec: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=60, le=1_800, title="a whole number of seconds, 60 to 1,800"
    )
    """How often Devo's senders report."""

    devo_sender_threshold_for_using_gzip_in_transport_layer: Annotated[Number | None, NO_EFFECT] = Field(
        default=None, ge=-1.0, le=1.1, title="a number, -1.0 to 1.1"
    )
    """How full Devo's queue is when its sender starts to compress."""

    devo_sender_compression_level: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=9, title="a whole number, 1 to 9"
    )
    """How hard Devo's sender compresses."""

    devo_sender_compression_buffer_in_bytes: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=1, le=10_485_760, title="a whole number of bytes, 1 to 10,485,760"
    )
    """How much Devo's sender compresses at once."""

    generate_collector_details: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=_ON_OFF)
    """Devo's details about the collector."""


class ConfigurationFile(Section):
    """The whole file."""

    globals: Globals = Field(default=Globals(), title="an object of options")
    """What holds for the whole collector."""

    inputs: dict[Name, InputSection] = Field(title="an object of inputs, each under a name of its own")
    """What is collected: each input is one application and its tenants."""

    outputs: dict[Name, OutputSection] = Field(
        default={}, title="an object of outputs, each under a name of its own"
    )
    """Where records go: each output gets every record. Left out: one lake in the folder `lake`."""
