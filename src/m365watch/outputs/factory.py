"""The outputs of a configuration, each of its settings."""

from __future__ import annotations

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import Defect
from m365watch.config.models.settings import (
    ConsoleSettings,
    DevoHttpSettings,
    DevoSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    SyslogSettings,
)
from m365watch.registry.outputs import Output


def refuse_to_make(settings: OutputSettings) -> Output:
    """For whoever has to name what makes outputs, and has none made. Raises: Defect."""
    raise Defect(f"output {settings.name} is not to be opened here", fix="report it")


def make_output(settings: OutputSettings, *, clock: Clock, random: Random, collector_name: str) -> Output:
    """The output that `settings` describe; its libraries are imported only now."""
    match settings:
        case LakeSettings():
            from m365watch.outputs.lake.lake_output import LakeOutput

            return LakeOutput(
                settings.name,
                settings.directory,
                writer_id=collector_name,
                clock=clock,
                retention=settings.retention,
            )
        case FilesSettings():
            from m365watch.outputs.files.files_output import FilesOutput

            return FilesOutput(settings, clock=clock)
        case ConsoleSettings():
            from m365watch.outputs.console.console_output import ConsoleOutput

            return ConsoleOutput(settings)
        case DevoSettings():
            from m365watch.outputs.devo.output import DevoOutput

            return DevoOutput(settings, clock=clock, random=random)
        case DevoHttpSettings():
            from m365watch.outputs.devo_http.output import DevoHttpOutput

            return DevoHttpOutput(settings, clock=clock)
        case SyslogSettings():
            from m365watch.outputs.syslog.output import SyslogOutput

            return SyslogOutput(settings, clock=clock, random=random)
