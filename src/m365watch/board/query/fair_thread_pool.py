"""Threads that several people's questions share: nobody has all of them, and who has the fewest is next.

One thread more is for who has none, so that two whose questions last keep no third waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Waiting:
    """A piece of work that has no thread yet."""

    who: str
    work: Callable[[], Any]
    future: Future[Any]


class FairThreads:
    """Does what it is given: each one's work in its order, and a thread is always left for others.

    Of `count` threads one has at most all but one; the one besides begins nobody's second work.
    """

    def __init__(self, count: int, name: str) -> None:
        """Threads start with the work for them."""
        self._threads = ThreadPoolExecutor(count + 1, thread_name_prefix=name)
        self._each_max = max(1, count - 1)
        self._lock = Lock()
        self._free = count + 1
        self._working: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []

    def submit(self, who: str, work: Callable[[], T]) -> Future[T]:
        """What becomes of the work that is done for `who`; cancelled before it begins, it never does."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append(_Waiting(who, work, future))
            self._begin()
        return future

    def close(self, *, waits: bool) -> None:
        """Begin nothing more; with `waits`, return when what has begun is done."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.future.cancel()
        self._threads.shutdown(wait=waits)

    def _begin(self) -> None:
        """Give the free threads to those who have the fewest, the longest waiting first."""
        self._waiting = [one for one in self._waiting if not one.future.cancelled()]
        while self._free:
            able = [one for one in self._waiting if self._may_begin(self._working[one.who])]
            if not able:
                return
            chosen = min(able, key=lambda one: self._working[one.who])
            self._waiting.remove(chosen)
            self._free -= 1
            self._working[chosen.who] += 1
            self._threads.submit(self._do, chosen)

    def _may_begin(self, has: int) -> bool:
        """Whether somebody who has so many threads may have one of those that are free."""
        return not has or (self._free > 1 and has < self._each_max)

    def _do(self, one: _Waiting) -> None:
        tell = _done(one) if one.future.set_running_or_notify_cancel() else None
        with self._lock:
            self._free += 1
            self._working[one.who] -= 1
            self._working += Counter()  # forgets who has none
            self._begin()
        if tell is not None:
            tell()


def _done(one: _Waiting) -> Callable[[], None]:
    """Do the work; what tells whoever waits what has become of it."""
    try:
        return partial(one.future.set_result, one.work())
    except BaseException as error:  # noqa: BLE001 - whoever waits for it hears of it
        return partial(one.future.set_exception, error)
