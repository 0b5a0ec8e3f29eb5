"""Files that are looked at again and again: told when they have changed and lie still."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from m365watch.common.clock import Clock
from m365watch.ledger.thread import LedgerCalls

LOOK_EVERY_S = 2.0
"""Between two looks. What differs in one look and is the same in the next is a change."""
MISSING_S = 10.0
"""A file that is not there for so long is gone; some programs take it away before they put the new one."""

_State = tuple[int, int, int] | None
"""When a file was written, which it is, and its size; None where there is none."""


class FileWatch:
    """Some files, which may be replaced, rewritten in place, or reached by a link that is turned.

    Links are followed: a volume of Kubernetes changes by the link to its folder.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, *, work: LedgerCalls = asyncio.to_thread) -> None:
        """Changes count from now on. `work` does what may have to wait for a disk, off the loop."""
        self._work = work
        self._paths = tuple(paths)
        self._clock = clock
        self._known = self._look()

    def take_note(self) -> None:
        """What there is now is no change any more."""
        self._known = self._look()

    async def changed(self) -> None:
        """Return once the files are others than at the last time, and were the same in two looks."""
        last, missing_s = self._known, 0.0
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            now = await self._work(self._look)
            missing_s = missing_s + LOOK_EVERY_S if None in now else 0.0
            if now == last != self._known and (None not in now or missing_s >= MISSING_S):
                self._known = now
                return
            last = now

    def _look(self) -> tuple[_State, ...]:
        return tuple(_state_of(path) for path in self._paths)


def _state_of(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
