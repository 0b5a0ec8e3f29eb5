"""An event loop for one life of a simulated collector: time jumps, threads work in line, a crash ends it.

What other code gives to a thread is done on the loop, one piece after the other for each executor, and
takes a little time that the seed decides. So the order in which things happen differs from seed to
seed and is the same for the same seed. A crash strikes between two turns of the loop: whatever waits
there never goes on.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from random import Random
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS_MAX = 400_000
"""Turns of one life; more than that goes round without end."""
_TURNS_OF_THE_DEAD = 5_000
_WORK_S = (0.0001, 0.0001, 0.0005, 0.002, 0.03)
_STEP_S = 1e-6


class Crash(BaseException):
    """The process is gone."""


class Endless(AssertionError):
    """The loop went round too often, or waits for nothing."""


class _Turns(selectors.SelectSelector):
    """Counts the turns and moves the time: nothing here waits for the world outside."""

    def __init__(self, crash_after: int | None) -> None:
        super().__init__()
        self.elapsed_s = 0.0
        self.left = TURNS_MAX
        self.crash_after = crash_after

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.left -= 1
        if self.left < 0:
            raise Endless("the loop goes round without end")
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise Crash
        if timeout is None:
            raise Endless("every task waits, and no timer runs")
        self.elapsed_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """One life's loop; `crash_after` turns it ends with `Crash`."""

    def __init__(self, random: Random, *, crash_after: int | None = None) -> None:
        """`random` decides how long work on a thread takes."""
        self._turns = _Turns(crash_after)
        super().__init__(self._turns)
        self._random = random
        self._free_at_s: dict[Executor | None, float] = {}
        self._is_dead = False

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._turns.elapsed_s

    def crash_within(self, turns: int) -> None:
        """Crash after `turns` more."""
        self._turns.crash_after = turns

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Do the work on the loop, after what the executor was given before."""
        future: asyncio.Future[T] = self.create_future()
        if self._is_dead:
            future.cancel()
            return future
        begin_s = max(self.time(), self._free_at_s.get(executor, 0.0)) + _STEP_S
        end_s = begin_s + self._random.choice(_WORK_S)
        self._free_at_s[executor] = end_s
        self.call_at(begin_s, self._begin, end_s, future, func, args)
        return future

    def _begin(self, end_s: float, future: asyncio.Future[Any], func: Callable[..., Any], args: Any) -> None:
        # What is cancelled before its turn is never done; what has begun comes to its end unheard.
        if not future.cancelled():
            self.call_at(end_s, self._work, future, func, args)

    def _work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: Any) -> None:
        if self._is_dead:
            return
        try:
            done = func(*args)
        except Exception as error:  # noqa: BLE001 - as a thread does: it goes to whoever waits.
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(done)

    def bury(self) -> None:
        """Let nothing that is left on the loop do any more work, and close it."""
        self._is_dead = True
        self._turns.crash_after = None
        self._turns.left = _TURNS_OF_THE_DEAD
        self.set_exception_handler(lambda _loop, _context: None)
        # Before the loop turns again: what was about to go on must not take another step.
        for task in asyncio.all_tasks(self):
            task.cancel()
        for _ in range(2):
            # The first may meet the stop of a run that ended in the very turn of the crash.
            with suppress(Crash, Endless, RuntimeError):
                self.run_until_complete(self._dismiss())
                break
        self.close()

    async def _dismiss(self) -> None:
        tasks = asyncio.all_tasks(self) - {asyncio.current_task(self)}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
