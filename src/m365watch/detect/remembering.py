"""What was worked out lately, kept within bounds: most values of a feed come again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

REMEMBERED_MAX = 100_000
"""What is remembered, over all fields and kinds of records, counted in values of one field."""

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """Answers by their keys; one that nobody has asked for between two turns falls out."""

    __slots__ = ("_memory", "_new", "_old", "_weight")

    def __init__(self, memory: Memory, weight: int) -> None:
        """Each answer counts as `weight` values."""
        self._memory = memory
        self._weight = weight
        self._new: dict[object, _T] = {}
        self._old: dict[object, _T] = {}
        memory.turning.append(self)

    def get(self, key: object) -> _T | None:
        """What was put under that key; None where it has fallen out."""
        found = self._new.get(key)
        if found is None and self._old and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: object, answer: _T) -> None:
        """Remember an answer."""
        self._new[key] = answer
        self._memory.values += self._weight

    def turn(self) -> None:
        """Let go of what was not asked for since the last turn."""
        self._old, self._new = self._new, {}


@dataclass(slots=True)
class Memory:
    """What is remembered, over all that remember."""

    values: int = 0
    most: int = REMEMBERED_MAX
    _all: list[dict[object, tuple[int, ...]]] = field(default_factory=list)
    turning: list[Recent[Any]] = field(default_factory=list)
    """Whose answers are too dear to begin anew with: what is asked for again outlives the others."""

    def make(self) -> dict[object, tuple[int, ...]]:
        """A place for one probe to remember in; it begins anew when there is too much."""
        place: dict[object, tuple[int, ...]] = {}
        self._all.append(place)
        return place

    def trim(self) -> None:
        """Let go of something where it has become too much."""
        if self.values > self.most:
            for place in self._all:
                place.clear()
            for recent in self.turning:
                recent.turn()
            self.values = 0

    def drop(self) -> None:
        """Nobody asks any more."""
        self._all.clear()
        self.turning.clear()
        self.values = 0
