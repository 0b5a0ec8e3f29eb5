"""What can be said of some fields of a record, worked out once for each value that they have.

Few values of a field come again and again. What a field says is known by its bytes, so that nothing is
decoded of a record whose fields have all been seen, though it is like no other as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

from m365watch.detection.engine.lazy_decoder import TRIES_MIN, Piece, read_part
from m365watch.detection.engine.value_cache import Memory
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.record_view import View

PARTS_BYTES_MAX = 2_048
"""What is longer is worked out each time, and not remembered."""
_WEIGHED_BYTES = 128
"""So many bytes weigh as much as one short value."""

_T = TypeVar("_T")


class Source(Generic[_T]):
    """Something that some fields of a record tell, and nothing else."""

    __slots__ = ("_knowledge", "_memory", "_work_out", "fields", "known", "picked", "place")

    def __init__(
        self,
        fields: Sequence[str],
        among: Sequence[str],
        work_out: Callable[[View], _T],
        *,
        is_plain: bool,
        knowledge: Knowledge,
        memory: Memory,
        known: dict[object, Any] | None = None,
    ) -> None:
        """`among` has the fields whose bytes are read, in their order.

        `is_plain` where one field alone tells it, the same for every tenant. `known` is where others
        remember the same.
        """
        self.fields = tuple((name, among.index(name)) for name in fields)
        self.place = self.fields[0][1] if self.fields else 0
        self.picked: Callable[[Sequence[Piece]], object] | None = None
        if not is_plain:
            places = [place for _, place in self.fields]
            self.picked = itemgetter(*places) if places else lambda _raws: None
        self.known: dict[object, Any] = memory.make() if known is None else known
        self._work_out = work_out
        self._knowledge = knowledge
        self._memory = memory

    def key_of(self, raws: Sequence[Piece], tenant: str) -> object:
        """What is known by these bytes is known under this key."""
        return raws[self.place] if self.picked is None else (tenant, self.picked(raws))

    def learn(self, key: object, raws: Sequence[Piece], tenant: str) -> _T:
        """What these bytes tell, which is remembered under `key`. Raises: one of looks.UNREADABLE."""
        given = {name: raw for name, place in self.fields if (raw := raws[place]) is not None}
        record = {name: read_part(raw) for name, raw in given.items()}
        found = self._work_out(View(record, knowledge=self._knowledge, tenant=tenant))
        weight = weigh(given.values())
        if weight is not None:
            self.known[key] = found
            self._memory.values += weight
        return found


def picker_of(sources: Iterable[Source[Any]]) -> Callable[[Sequence[Piece]], object]:
    """What gives the pieces that any of the sources reads."""
    places = sorted({place for source in sources for _, place in source.fields})
    return itemgetter(*places) if places else lambda _raws: None


class Habit:
    """Whether the same fields come together again and again, so that it pays to remember them so."""

    __slots__ = ("hits", "misses", "pays")

    def __init__(self) -> None:
        """Until it has been tried, it is taken to pay."""
        self.pays = True
        self.hits = self.misses = 0

    def judge(self) -> None:
        """Think again; who finds that it does not pay asks the fields one by one from now on."""
        if self.hits + self.misses >= TRIES_MIN:
            self.pays = self.hits >= self.misses
            self.hits = self.misses = 0


def weigh(pieces: Iterable[str | bytes]) -> int | None:
    """What it weighs to remember something of these pieces; None where they are too long for that."""
    size = sum(map(len, pieces))
    return 1 + size // _WEIGHED_BYTES if size <= PARTS_BYTES_MAX else None
