"""The outputs of a configuration, each of its settings."""

from __future__ import annotations

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import Defect
from m365watch.registry.output_specs import OUTPUTS, BuildContext, OutputSettings
from m365watch.registry.outputs import Output


def refuse_to_make(settings: OutputSettings) -> Output:
    """For whoever has to name what makes outputs, and has none made. Raises: Defect."""
    raise Defect(f"output {settings.name} is not to be opened here", fix="report it")


def make_output(settings: OutputSettings, *, clock: Clock, random: Random, collector_name: str) -> Output:
    """The output that `settings` describe; its libraries are imported only now."""
    spec = OUTPUTS.by_name[settings.type]
    return spec.build(settings, BuildContext(clock, random, collector_name))
