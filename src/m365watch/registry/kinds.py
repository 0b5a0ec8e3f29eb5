"""One kind of thing, one registration: each has a folder with a module `spec` whose `SPEC` says all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Generic, Protocol, TypeVar

from m365watch.common.errors import Defect


class Spec(Protocol):
    """What every spec has."""

    @property
    def type(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names for the same."""
        ...


S = TypeVar("S", bound=Spec)


class Registry(Generic[S]):
    """The specs of one kind of thing: those in `package`, and those of other packages.

    Another package registers its own with an entry point of the group, or by `register` at run time.
    """

    def __init__(self, package: str, *, group: str, default: str, in_modules: bool = False) -> None:
        """Nothing is imported before the first question; `default` is the type that comes first.

        A kind has a folder in the package, with a module `spec`; `in_modules` it is a module.
        """
        self._package = package
        self._group = group
        self._default = default
        self._in_modules = in_modules
        self._added: dict[str, S] = {}

    @cached_property
    def _found(self) -> dict[str, S]:
        specs = [*self._in_package(), *(one.load() for one in entry_points(group=self._group))]
        return {spec.type: spec for spec in specs}

    def _in_package(self) -> Iterator[S]:
        for one in iter_modules(import_module(self._package).__path__):
            name = f"{self._package}.{one.name}"
            if self._in_modules:
                yield import_module(name).SPEC
            elif one.ispkg and find_spec(f"{name}.spec") is not None:
                yield import_module(f"{name}.spec").SPEC

    @property
    def specs(self) -> tuple[S, ...]:
        """All specs, the default's first and the others by type."""
        specs = {**self._found, **self._added}
        return tuple(sorted(specs.values(), key=lambda one: (one.type != self._default, one.type)))

    @property
    def by_name(self) -> Mapping[str, S]:
        """Each spec under its type, and under each of its aliases."""
        return {name: spec for spec in self.specs for name in (spec.type, *spec.aliases)}

    @property
    def types_wanted(self) -> str:
        """The types, as the object of "give ..."."""
        names = [
            f"{one.type} (or {', '.join(one.aliases)})" if one.aliases else one.type for one in self.specs
        ]
        return f"{', '.join(names[:-1])} or {names[-1]}"

    @contextmanager
    def register(self, spec: S) -> Iterator[None]:
        """Know `spec` as well, for as long as the context lasts. Raises: Defect: its name is taken."""
        if taken := {spec.type, *spec.aliases} & {*self.by_name}:
            raise Defect(f"{self._group} knows {min(taken)} already", fix="give the spec another type")
        self._added[spec.type] = spec
        try:
            yield
        finally:
            del self._added[spec.type]
