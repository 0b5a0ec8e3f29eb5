"""An event loop whose time jumps to the next timer, so that hours of waiting take no time.

Everything runs in one thread and in a fixed order: the same coroutine has the same history
every time. A ledger is called in line, because a thread would work while time jumps.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from m365watch_testing.clock import START

P = ParamSpec("P")
T = TypeVar("T")


class Deadlock(AssertionError):
    """Every task waits, and no timer will ever wake one."""


class LoopClock:
    """Implements `Clock` on the loop that runs; it starts at `START` with the loop."""

    ahead = timedelta(0)
    """How far its time of day is ahead; a change is a jump."""

    def now(self) -> datetime:
        """The start and what the loop has passed since."""
        return START + self.ahead + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        """Seconds since the loop's beginning."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Return when the loop has moved on by `seconds`."""
        await asyncio.sleep(seconds)


class CallsInLine:
    """Implements `LedgerCalls` without a thread: the verb is done at once, and others have a turn."""

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the verb; what it returns."""
        await asyncio.sleep(0)
        result = verb(*args, **kwargs)
        await asyncio.sleep(0)
        return result


def run_jumping(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine` on a loop of its own whose time jumps.

    Raises: Deadlock.
    """
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(coroutine)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.elapsed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("every task waits, and no timer runs")
        self.elapsed_s += max(timeout, 0.0)
        return []


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed_s
