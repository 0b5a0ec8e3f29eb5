"""One thread whose work becomes durable together: what waits is done, synced once, and only then answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
GROUP_MAX = 64
"""So many pieces of work wait for one another at most."""
_Work = tuple[Future[Any], Callable[[], Any], bool]
"""Who waits for it, what is to be done, and whether it may be answered before it is durable."""


class SettledLater(partial[T]):
    """Work that may be answered before it is durable: it is so with the next work that may not, or before."""


class GroupedThread(Executor):
    """Does what it is given one after the other; an answer is given once `settle` has returned.

    A disk takes as long to sync the work of many as that of one, and the feeds of 500 tenants would
    each wait for a sync of their own.
    """

    def __init__(self, *, name: str) -> None:
        """Settle nothing at first; the thread begins with the first piece of work."""
        self.settle: Callable[[], None] | None = None
        """Makes durable what was done; if it fails, so has the work."""
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = Lock()
        self._is_closed = self._is_cancelled = False
        self._thread = Thread(target=self._go_on, name=name, daemon=True)
        self._has_begun = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have it done; what is cancelled before its turn is not done at all.

        Raises: RuntimeError: the thread was shut down.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the thread has ended")
            self._waiting.put((future, partial(fn, *args, **kwargs), isinstance(fn, SettledLater)))
            if not self._has_begun:
                self._has_begun = True
                self._thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Let the thread end after what it was given, which `cancel_futures` cancels where it waits."""
        with self._lock:
            self._is_closed = True
            self._is_cancelled |= cancel_futures
            self._waiting.put(None)
        if wait and self._has_begun:
            self._thread.join()

    def _go_on(self) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._take()
            if self._is_cancelled:
                for future, *_ in group:
                    future.cancel()
            answers = [
                (future, *_do(work)) for future, work, _ in group if future.set_running_or_notify_cancel()
            ]
            self._settle(answers, is_due=not all(later for *_, later in group))

    def _take(self) -> tuple[Sequence[_Work], bool]:
        """What waits, at least one piece; and whether nothing follows."""
        group: list[_Work] = []
        work = self._waiting.get()
        while work is not None:
            group.append(work)
            if len(group) == GROUP_MAX:
                return group, False
            try:
                work = self._waiting.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _settle(
        self, answers: Sequence[tuple[Future[Any], Any, BaseException | None]], *, is_due: bool
    ) -> None:
        unsettled: BaseException | None = None
        try:
            if self.settle is not None and is_due:
                self.settle()
        except BaseException as error:  # noqa: BLE001 - whoever waits has to be told, whatever it is.
            unsettled = error
        for future, answer, failure in answers:
            failed = failure or unsettled
            if failed is None:
                future.set_result(answer)
            else:
                future.set_exception(failed)


def _do(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - it is the caller's.
        return None, error
