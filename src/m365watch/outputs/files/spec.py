"""Output `files`: NDJSON, one folder per table."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from m365watch.common.errors import OutputUnusable
from m365watch.common.file_access import is_folder, require_writable, why_shut
from m365watch.config.config_file import absolute
from m365watch.config.models.base import DEFAULTS, OBJECT, FolderPath, Section, Whole
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.outputs import OutputSection
from m365watch.registry.checks import Check, Checked, good
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
    OutputSettings,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output

ALERTS_SUFFIX = "-alerts"
"""What the folder beside that of the records is called after, where alerts go there too."""
_MEGABYTE_BYTES = 1_000_000


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


@dataclass(frozen=True, slots=True)
class FilesSettings(OutputSettings):
    """NDJSON, one folder per table below `directory`."""

    type: ClassVar[str] = "files"
    directory: Path
    compression: str
    """none, gzip or zstd."""
    rotate_bytes: int
    rotate_s: float

    @property
    def place(self) -> str:
        """The folder, and what is in it."""
        return f"files in {self.directory}"

    @property
    def folder(self) -> Path:
        """That of the tables."""
        return self.directory

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """The files, and those of alerts beside them."""
        advice = (
            "nothing is erased there: take the lines or the files out, and look in what was copied from there"
        )
        found = [PersonalData(str(self.directory), advice, self.directory)]
        alerts = _for_alerts(self.directory)
        if alerts.is_dir():
            advice = (
                "alerts that were told here; take the lines or the files out, and look in what was copied"
            )
            found.append(PersonalData(str(alerts), advice, alerts))
        return found

    def for_alerts(self, name: str, table: str) -> "FilesSettings":  # noqa: ARG002 - any table has a folder
        """The same kind of files, in a folder beside."""
        return replace(self, name=name, directory=_for_alerts(self.directory))

    def into(self, folder: Path) -> "FilesSettings":
        """The same with its files in `folder`."""
        return replace(self, directory=folder)


def _for_alerts(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}{ALERTS_SUFFIX}")


class FilesSection(OutputSection):
    """The records themselves, one a line, in a folder for each table."""

    type: Literal["files"] = Field(title="files")
    """The kind of output."""

    config: FilesConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> FilesSettings:  # noqa: ARG002
        """The settings of the files."""
        return FilesSettings(
            name=name,
            directory=absolute(folder, self.config.directory),
            compression=self.config.compression,
            rotate_bytes=self.config.rotate_megabytes * _MEGABYTE_BYTES,
            rotate_s=float(self.config.rotate_secs),
        )


def _build(settings: FilesSettings, context: BuildContext) -> Output:
    from m365watch.outputs.files.files_output import FilesOutput

    return FilesOutput(settings, clock=context.clock)


async def _check(settings: FilesSettings, _: CheckContext) -> Sequence[Checked]:
    """The files may belong to a collector that runs: they are looked at, and never opened."""
    return [await asyncio.to_thread(_check_folders, settings)]


def _check_folders(settings: FilesSettings) -> Checked:
    require_writable(settings.directory)
    for folder in settings.directory.iterdir() if is_folder(settings.directory) else ():
        # A start looks into each, for what a crash has left.
        if closed := why_shut(folder):
            raise OutputUnusable(f"{folder}: {closed}", fix="let this user read and write all that is there")
    return good(Check.OUTPUT, f"{settings.directory} can be written", subject=settings.name)


SPEC = OutputSpec(
    type="files",
    summary="NDJSON, one folder per table",
    section=FilesSection,
    build=_build,
    check=_check,
    template="""\
type: files
config:
  directory: records                  # below the configuration's folder
  compression: zstd                   # or gzip, none
""",
)
