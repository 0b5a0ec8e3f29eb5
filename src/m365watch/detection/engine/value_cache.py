"""What was worked out lately, kept within bounds: most values of a feed come again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

REMEMBERED_MAX = 100_000
"""Short values whose answers are remembered, over all fields and kinds of records."""

_K = TypeVar("_K")
_T = TypeVar("_T")


class Remembered(dict[_K, _T]):
    """What was worked out lately; what was not is worked out when it is asked for."""

    __slots__ = ("work_out",)

    def __init__(self, work_out: Callable[[_K], _T]) -> None:
        """`work_out` puts in what is to be remembered."""
        super().__init__()
        self.work_out = work_out

    def __missing__(self, key: _K) -> _T:
        """Its value for what is asked for the first time."""
        return self.work_out(key)


@dataclass(slots=True)
class Memory:
    """What is remembered, over all that remember."""

    values: int = 0
    most: int = REMEMBERED_MAX
    _all: list[dict[object, Any]] = field(default_factory=list)
    _by_name: dict[str, dict[object, Any]] = field(default_factory=dict)

    def of(self, name: str) -> dict[object, Any]:
        """The place where whoever asks about that name remembers."""
        if name not in self._by_name:
            self._by_name[name] = self.make()
        return self._by_name[name]

    def make(self) -> dict[object, Any]:
        """A place to remember in; who puts something there counts it in `values`."""
        place: dict[object, Any] = {}
        self.watch(place)
        return place

    def watch(self, place: dict[object, Any]) -> None:
        """Empty it with the others."""
        self._all.append(place)

    def trim(self) -> None:
        """Begin anew where it has become too much."""
        if self.values > self.most:
            self.forget()

    def forget(self) -> None:
        """Begin anew."""
        for place in self._all:
            place.clear()
        self.values = 0

    def drop(self) -> None:
        """Nobody asks any more."""
        self._all.clear()
        self._by_name.clear()
        self.values = 0
