"""The key `outputs`: what every output takes, and the choice among the kinds that are registered."""

# Annotations stay objects here (`base.Section` says why).

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field, Tag

from m365watch.common.errors import Defect
from m365watch.config.models.base import ON_OFF, Section, Switch, by_type, require_secret_names
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.validation_report import KeyPath
from m365watch.registry.output_specs import OUTPUTS, OutputSettings, OutputSpec


class OutputSection(Section):
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

    @classmethod
    def disagreements(
        cls,
        options: Mapping[str, object],  # noqa: ARG003 - of those that have any
        path: KeyPath,  # noqa: ARG003
    ) -> Iterator[tuple[KeyPath, str]]:
        """Options that do not go together, as they are written at `path`."""
        return iter(())

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:  # noqa: ARG002 - of those that have any
        """What can be used, but not quite as it reads; `path` is that of the section."""
        return iter(())

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
    return {name: section_of(spec) for name, spec in OUTPUTS.by_name.items()}


def section_of(spec: OutputSpec[Any]) -> type[OutputSection]:
    """The section of the spec. Raises: Defect: it is none that a configuration can hold."""
    section = spec.section
    if not issubclass(section, OutputSection):
        raise Defect(f"{section.__name__} is no OutputSection", fix="derive it from OutputSection")
    require_secret_names(section.model_fields["config"].annotation)
    return section


def output_types_wanted() -> str:
    """The types, as the object of "give ..."."""
    names = [
        f"{one.type} (or {', '.join(one.aliases)})" if one.aliases else one.type for one in OUTPUTS.specs
    ]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def any_output() -> Any:
    """The annotation of one output of any registered kind."""
    return _any_of(OUTPUTS.specs)


@lru_cache(maxsize=4)
def _any_of(specs: Sequence[OutputSpec[Any]]) -> Any:
    sections = {spec: section_of(spec) for spec in specs}
    names: dict[object, type[Section]] = {
        name: section for spec, section in sections.items() for name in (spec.type, *spec.aliases)
    }
    choices = tuple(Annotated[section, Tag(f"|{section.__name__}")] for section in sections.values())
    return Annotated[Union[choices], by_type(names)]  # noqa: UP007 - made of as many as there are
