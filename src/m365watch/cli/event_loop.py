"""The loop that every command runs in."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from m365watch.lake.sql_sandbox.confinement import forbid_dumps

T = TypeVar("T")
_COLLECT_EVERY = 100_000
"""New containers from one look for garbage to the next."""
_SWITCH_EVERY_S = 0.001
"""How long a thread that wants to go on waits for one that computes. An output's thread waits after each call
that let go of the interpreter; with Python's own 5 ms the lake took 5 % fewer records a second."""


def run_in_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine`, run in a loop of uvloop where that is installed."""
    forbid_dumps()
    # What was imported stays; looking through it for garbage again and again took, with the threshold
    # that Python begins with, 0.6 of 10 microseconds a record.
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 5, 5)
    sys.setswitchinterval(_SWITCH_EVERY_S)
    with asyncio.Runner(loop_factory=_quickest_loop()) as runner:
        return runner.run(coroutine)


def _quickest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
