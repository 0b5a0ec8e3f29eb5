"""One thread whose work becomes durable together: what waits is done, synced once, and only then answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, Protocol, TypeVar

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import LedgerUnavailable

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


PATIENCE_ONCE_S = 15.0
"""How long a run that ends by itself tries an output or a ledger that cannot write."""
_RETRY_S = 2.0
_log = structlog.get_logger(__name__)


class LedgerCalls(Protocol):
    """How the collector calls its ledger."""

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the verb, repeating it while the ledger cannot be written; what it returns."""
        ...


def settled_later(verb: Callable[P, T]) -> Callable[P, T]:
    """The verb, for a caller that does not need its answer to be durable.

    What a power cut takes away of it, it takes of all that came after it as well: SQLite's log counts from
    its beginning on. Nothing goes to an output before its batch, and so all before it, is durable.
    """
    return SettledLater(verb)


class LedgerThread:
    """Runs ledger verbs one after the other in one thread.

    A verb that fails with `LedgerUnavailable` did nothing; it is repeated until it succeeds,
    or until `patience_s` is over, when the error goes to the caller.
    """

    def __init__(self, clock: Clock, *, patience_s: float | None) -> None:
        """`patience_s` of None repeats for ever."""
        self._clock = clock
        self._patience_s = patience_s
        self._told = ""
        self._executor = GroupedThread(name="ledger")

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the verb in the ledger's thread; what it returns.

        Raises: LedgerUnavailable: the patience is over. LedgerUnusable.
        """
        loop = asyncio.get_running_loop()
        started_s = self._clock.monotonic_s()
        kind = SettledLater if isinstance(verb, SettledLater) else partial
        failed = False
        while True:
            try:
                answer = await loop.run_in_executor(self._executor, kind(verb, *args, **kwargs))
            except LedgerUnavailable as error:
                waited_s = self._clock.monotonic_s() - started_s
                if self._patience_s is not None and waited_s >= self._patience_s:
                    raise
                self._tell(error)
                failed = True
            else:
                if failed:
                    self._told = ""
                return answer
            await self._clock.sleep(_RETRY_S)

    def settle_with(self, settle: Callable[[], None] | None) -> None:
        """Answer a verb once `settle` has returned, which makes durable all that was done before it.

        With None each verb is durable of its own.
        """
        self._executor.settle = settle

    def _tell(self, error: LedgerUnavailable) -> None:
        """Many calls meet one full disk: it is told once, until a call that met it succeeds."""
        if self._told != str(error):
            self._told = str(error)
            _log.warning(str(error), code=error.code)

    def close(self) -> None:
        """Let the thread end."""
        self._executor.shutdown(wait=True)
