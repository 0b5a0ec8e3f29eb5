"""The key `outputs`: what every output takes."""

# Annotations stay objects here (`base.Section` says why).

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from m365watch.config.config_file import absolute
from m365watch.config.models.base import FOLDER, ON_OFF, GlobalKey, Section, Switch
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.kinds import KindSection, sections_of
from m365watch.http.settings import NetworkSettings
from m365watch.registry.output_specs import OUTPUTS, OutputSettings


class OutputSection(OutputSettings, KindSection):
    """What every output takes."""

    enabled: Switch = Field(default=True, title=ON_OFF)
    """Whether the output gets records; one that is switched off is not read further."""

    config: Section
    """The options of its kind."""

    def for_run(self, name: str, *, folder: Path, overall: GlobalOverrides) -> Self:
        """The same as a run has it: paths start at `folder`, and `overall` has what is left to `globals`."""
        changes: dict[str, Any] = {}
        for key, field in type(self.config).model_fields.items():
            for mark in field.metadata:
                if mark is FOLDER:
                    changes[key] = absolute(folder, getattr(self.config, key))
                elif isinstance(mark, GlobalKey) and key not in self.config.model_fields_set:
                    changes[key] = getattr(overall, mark.key)
        return self.named(name).with_options(**changes)

    def with_options(self, **changes: Any) -> Self:
        """The same with other values of some options; those that the file leaves out still count as such."""
        given = self.config.model_fields_set
        options = self.config.model_construct(given, **vars(self.config) | changes)
        return self.model_copy(update={"config": options})

    @property
    def folder(self) -> Path | None:
        """The option `directory`, where the kind has it."""
        return getattr(self.config, "directory", None)

    def into(self, folder: Path) -> Self:
        """The same with its files in `folder`."""
        return self.with_options(directory=folder)

    def with_override_tags(self, tags: tuple[str, ...]) -> Self:  # noqa: ARG002 - of those that need them
        """The same, told every `override_tag` of the inputs."""
        return self

    def with_network(self, network: NetworkSettings) -> Self:  # noqa: ARG002 - of those that speak HTTP
        """The same, told how servers are reached."""
        return self

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
    def compresses_by_globals(self) -> bool:
        """Whether the keys of `globals` on compression are for it."""
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
