"""The key `outputs`: what every output takes."""

# Annotations stay objects here (`base.Section` says why).

import difflib
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from m365watch.config.models.base import ON_OFF, Switch
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.kinds import KindSection, sections_of
from m365watch.registry.output_specs import OUTPUTS, OutputSettings


class OutputSection(KindSection):
    """What every output takes."""

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the output gets records; one that is switched off is not read further."""

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> OutputSettings:
        """The output; relative paths start at `folder`, and `overall` has what is left to `globals`."""
        raise NotImplementedError

    @classmethod
    def default_directory(cls) -> str | None:
        """The option `directory` where it is left out; None for a kind without a folder."""
        options = getattr(cls.model_fields["config"].annotation, "model_fields", {})
        return str(options["directory"].default) if "directory" in options else None

    @property
    def adds_devo_fields(self) -> bool:
        """Whether Devo's own fields are added to each record."""
        return False

    @property
    def sends_events_unasked(self) -> bool:
        """Whether the collector's own events go there because nobody said otherwise."""
        return False


def output_sections() -> dict[str, type[OutputSection]]:
    """The section of each type of output, under all of its names."""
    return sections_of(OUTPUTS, OutputSection)


def no_such_output(name: str, names: Iterable[str]) -> str:
    """The end of a mistake's sentence about an output that is not among `names`."""
    near = difflib.get_close_matches(name, names := [*names], n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(names)}"
    return f"is no output that is switched on; {hint}"
