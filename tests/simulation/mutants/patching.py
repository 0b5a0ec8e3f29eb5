"""A known bug as a small patch of the shipped code, and the import that puts it in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


@dataclass(frozen=True, slots=True)
class Patch:
    """What is written in place of what stands exactly once in a module."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A collector with one bug that loses or doubles records and says nothing."""

    name: str
    does: str
    """What goes wrong, and in what kind of collector that was seen."""
    patches: tuple[Patch, ...]
    hint: int
    """A seed that has caught it; the first to be tried, and never the only one."""
    lacks: tuple[Patch, ...] = ()
    """What collectors of that kind do without, and what would mend the bug's harm here. Without that
    alone, nothing else being wrong, the seed that catches the mutant has to be a good one."""


class StalePatch(Exception):
    """The shipped code is not what the patch was made for."""


def patched(source: str, patch: Patch, *, mutant: str) -> str:
    """The module's source with the bug in it.

    Raises: StalePatch: the old text does not stand in it exactly once.
    """
    count = source.count(patch.old)
    if count != 1:
        raise StalePatch(
            f"mutant {mutant}: its old text stands {count} times in {patch.module}, once is needed; "
            f"make the patch anew, or drop the mutant if its bug cannot be written any more:\n{patch.old}"
        )
    return source.replace(patch.old, patch.new)


class _PatchedLoader(SourceFileLoader):
    """Compiles the patched source in place of the file's; nothing is written anywhere."""

    def __init__(self, name: str, path: str, patches: Sequence[Patch], *, mutant: str) -> None:
        super().__init__(name, path)
        self._patches = patches
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text("utf-8")
        for patch in self._patches:
            if patch.module == fullname:
                source = patched(source, patch, mutant=self._mutant)
        return compile(source, self.path, "exec", dont_inherit=True)


class PatchingFinder(MetaPathFinder):
    """Finds the modules of some patches, and has them compiled with the bug."""

    def __init__(self, patches: Sequence[Patch], *, mutant: str) -> None:
        self._patches = patches
        self._mutant = mutant
        self.missing = {patch.module for patch in patches}
        """The modules that nobody has imported yet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in {patch.module for patch in self._patches}:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _PatchedLoader(fullname, spec.origin, self._patches, mutant=self._mutant)
        self.missing.discard(fullname)
        return spec


def install(patches: Sequence[Patch], *, mutant: str) -> PatchingFinder:
    """From now on this process imports what is patched; nothing of it may have been imported before."""
    early = [patch.module for patch in patches if patch.module in sys.modules]
    if early:
        raise StalePatch(f"mutant {mutant}: {early[0]} was imported before it could be patched")
    finder = PatchingFinder(patches, mutant=mutant)
    sys.meta_path.insert(0, finder)
    return finder
