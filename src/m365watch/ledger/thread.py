"""The ledger's one thread: verbs go through it in order, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import LedgerUnavailable
from m365watch.ledger.writer_thread import GroupedThread, SettledLater

P = ParamSpec("P")
T = TypeVar("T")
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
