"""The alerts as rows of lakes: brought there after they are durable here, one row for each alert.

What changes an alert writes down in the same transaction that its rows are behind (`due`). Bringing them
replaces rows by what the alerts are now, so that doing it twice, as after a crash in between, changes
nothing. Up to which number a lake has everything is written down here, and which number the lake itself says
that it has: one that says less, or nothing, was put back or is new, and gets all alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from m365watch.detection.store.detection_store import DetectionState
from m365watch.detection.store.lake_outbox import Due

ROWS_PER_STEP = 5_000
"""Alerts that are brought to a lake in one commit."""
NOTHING = -1
"""The number of a lake that is to get all of them."""

_FORGOTTEN = "forgotten for lakes"


class Shelf(Protocol):
    """A place in which alerts lie as rows."""

    name: str

    def takes(self, tenant: str) -> bool:
        """Whether alerts of the tenant belong there."""
        ...

    def last_number(self) -> int:
        """The number of the last change that is durable there; 0 for none. Raises: OutputUnavailable."""
        ...

    def put(self, due: Sequence[Due], *, number: int) -> bool:
        """Make the rows what is due, durably, and the number the last.

        False where somebody else is at work there: nothing was done. Raises: OutputUnavailable.
        """
        ...


class Brought(NamedTuple):
    """What came of it."""

    rows: int
    is_done: bool
    """Whether nothing is left: else a lake was busy, or there was much."""


def number_brought(state: DetectionState, name: str) -> int:
    """Up to which number the shelf of that name has been brought all; `NOTHING` for one that has nothing."""
    return int(state.read(_key(name)) or NOTHING)


def _key(name: str) -> str:
    return f"lake {name}"


def _number_key(name: str) -> str:
    return f"number of lake {name}"


class Shelving:
    """Brings what is due of one file of detections to its shelves."""

    def __init__(self, state: DetectionState, shelves: Sequence[Shelf]) -> None:
        """Nothing is looked at yet. Without shelves nothing is kept for them either."""
        self._state = state
        self._shelves = shelves
        self._looked: set[str] = set()

    def bring(self) -> Brought:
        """Bring one step's worth to every shelf.

        Raises: OutputUnavailable: a lake, or the file here, cannot be written; it is tried again.
        """
        with self._state.reading():
            newest = self._state.lake_due.newest()
            if not self._shelves and newest:
                self._forget(until=newest)
            found = [self._bring_to(shelf) for shelf in self._shelves]
            rows = sum(one.rows for one in found)
            if rows:
                self._forget(until=min(self._known_of(shelf) for shelf in self._shelves))
        return Brought(rows, is_done=all(one.is_done for one in found))

    def _bring_to(self, shelf: Shelf) -> Brought:
        known = self._known_of(shelf)
        due = self._state.lake_due.list(after=known, most=ROWS_PER_STEP)
        if not due and shelf.name in self._looked:
            return Brought(0, is_done=True)
        self._looked.add(shelf.name)
        # One that was put back from a copy, or taken away, also while a run goes on, ends before where it did
        # last; that need not be where it has everything, as what is not for it leaves no trace there.
        number = shelf.last_number()
        # One that was out of the configuration for a while lacks what was let go of meanwhile.
        if number < self._number_of(shelf, otherwise=known) or known < self._forgotten():
            known = NOTHING
        if known == NOTHING:
            known = self._begin(shelf, number)
            due = self._state.lake_due.list(after=known, most=ROWS_PER_STEP)
        mine = [one for one in due if one.kept is None or shelf.takes(one.kept.alert.tenant)]
        if not due:
            return Brought(0, is_done=True)
        if not shelf.put(mine, number=due[-1].number):
            return Brought(0, is_done=False)
        with self._state.transaction():
            self._write(shelf, due[-1].number, shelf.last_number() if mine else number)
        return Brought(len(mine), is_done=len(due) < ROWS_PER_STEP)

    def _begin(self, shelf: Shelf, number: int) -> int:
        """Let every alert be due to a shelf that has none, or only older ones; after which number."""
        with self._state.transaction():
            known = self._state.lake_due.newest()
            self._state.lake_due.mark_all()
            self._write(shelf, known, number)
        return known

    def _known_of(self, shelf: Shelf) -> int:
        return number_brought(self._state, shelf.name)

    def _number_of(self, shelf: Shelf, *, otherwise: int) -> int:
        """The number that the shelf had when it was last written to; `otherwise` where that is not known."""
        return int(self._state.read(_number_key(shelf.name)) or otherwise)

    def _write(self, shelf: Shelf, known: int, number: int) -> None:
        """Write down up to which number it has everything, and its own; part of a transaction."""
        self._state.write(_key(shelf.name), str(known))
        self._state.write(_number_key(shelf.name), str(number))

    def _forget(self, *, until: int) -> None:
        with self._state.transaction():
            self._state.lake_due.forget(until=until)
            self._state.write(_FORGOTTEN, str(max(until, self._forgotten())))

    def _forgotten(self) -> int:
        """Up to which number nobody knows any more what was due."""
        return int(self._state.read(_FORGOTTEN) or 0)
