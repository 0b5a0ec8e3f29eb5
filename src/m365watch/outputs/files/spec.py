"""Output `files`: NDJSON, one folder per table."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from m365watch.common.errors import OutputUnusable
from m365watch.common.file_access import is_folder, require_writable, why_shut
from m365watch.config.models.base import DEFAULTS, OBJECT, FolderPath, Section, Whole
from m365watch.config.models.outputs import OutputSection
from m365watch.registry.checks import Check, Checked, good
from m365watch.registry.output_specs import BuildContext, CheckContext, OutputSpec, PersonalData
from m365watch.registry.outputs import Output

ALERTS_SUFFIX = "-alerts"
"""What the folder beside that of the records is called after, where alerts go there too."""


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


class FilesSection(OutputSection):
    """The records themselves, one a line, in a folder for each table."""

    type: Literal["files"] = Field(title="files")
    """The kind of output."""

    config: FilesConfig = Field(default=DEFAULTS, validate_default=True, title=OBJECT)
    """The options of the output."""

    @property
    def place(self) -> str:
        """The folder, and what is in it."""
        return f"files in {self.config.directory}"

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """The files, and those of alerts beside them."""
        directory, alerts = self.config.directory, self._alerts
        advice = (
            "nothing is erased there: take the lines or the files out, and look in what was copied from there"
        )
        found = [PersonalData(str(directory), advice, directory)]
        if alerts.is_dir():
            advice = (
                "alerts that were told here; take the lines or the files out, and look in what was copied"
            )
            found.append(PersonalData(str(alerts), advice, alerts))
        return found

    def for_alerts(self, name: str, table: str) -> Self:  # noqa: ARG002 - any table has a folder
        """The same kind of files, in a folder beside."""
        return self.named(name).into(self._alerts)

    @property
    def _alerts(self) -> Path:
        directory = self.config.directory
        return directory.with_name(f"{directory.name}{ALERTS_SUFFIX}")


def _build(settings: FilesSection, context: BuildContext) -> Output:
    from m365watch.outputs.files.files_output import FilesOutput

    return FilesOutput(settings, clock=context.clock)


async def _check(settings: FilesSection, _: CheckContext) -> Sequence[Checked]:
    """The files may belong to a collector that runs: they are looked at, and never opened."""
    return [await asyncio.to_thread(_check_folders, settings)]


def _check_folders(settings: FilesSection) -> Checked:
    directory = settings.config.directory
    require_writable(directory)
    for folder in directory.iterdir() if is_folder(directory) else ():
        # A start looks into each, for what a crash has left.
        if closed := why_shut(folder):
            raise OutputUnusable(f"{folder}: {closed}", fix="let this user read and write all that is there")
    return good(Check.OUTPUT, f"{directory} can be written", subject=settings.name)


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
