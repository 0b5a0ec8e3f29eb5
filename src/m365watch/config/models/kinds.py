"""The sections of the configuration that registered kinds of things have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Protocol, TypeVar, Union

from pydantic import BaseModel, Tag

from m365watch.common.errors import Defect
from m365watch.config.models.base import Section, by_type
from m365watch.config.validation_report import SECRET_KEYS, KeyPath
from m365watch.registry.kinds import Registry, Spec

B = TypeVar("B", bound=Section)


class KindSection(Section):
    """What the sections of several kinds have in common: what may be wrong with their keys together."""

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


class ConfiguredSpec(Spec, Protocol):
    """The spec of a kind that the configuration has a section of."""

    @property
    def section(self) -> type[BaseModel]:
        """Its section, or that of its options."""
        ...


def sections_of(registry: Registry[Any], base: type[B]) -> dict[str, type[B]]:
    """The section of each type in the registry, under all of its names."""
    return {name: section_of(spec, base) for name, spec in registry.by_name.items()}


def section_of(spec: ConfiguredSpec, base: type[B]) -> type[B]:
    """The section of the spec. Raises: Defect: it is none that a configuration can hold."""
    section = spec.section
    if not issubclass(section, base):
        raise Defect(f"{section.__name__} is no {base.__name__}", fix=f"derive it from {base.__name__}")
    config = section.model_fields.get("config")
    options = section if config is None else config.annotation
    for key, option in getattr(options, "model_fields", {}).items():
        if "SecretStr" in str(option.annotation) and key not in SECRET_KEYS:
            fix = f"call the key one of {', '.join(sorted(SECRET_KEYS))}"
            raise Defect(f"{section.__name__}: messages would show the secret of {key}", fix=fix)
    return section


@lru_cache(maxsize=8)
def any_of(specs: Sequence[ConfiguredSpec], base: type[Section]) -> Any:
    """The annotation of one section of any of these kinds."""
    sections = {spec: section_of(spec, base) for spec in specs}
    names: dict[object, type[Section]] = {
        name: section for spec, section in sections.items() for name in (spec.type, *spec.aliases)
    }
    choices = tuple(Annotated[section, Tag(f"|{section.__name__}")] for section in sections.values())
    return Annotated[Union[choices], by_type(names)]  # noqa: UP007 - made of as many as there are
