"""The loop that every command runs in."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import termios
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from m365watch.cli.terminal.log_output import tell
from m365watch.common.child_process import forbid_dumps

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


class StopSignals:
    """While entered, the first signal sets `stop` and the second ends the process.

    Nothing is lost by the second either: the ledger and the outputs are made for kill -9.
    """

    def __init__(self, stop: asyncio.Event, *, on_hangup: Callable[[], None] | None = None) -> None:
        """Set `stop` at the first signal; with `on_hangup`, SIGHUP calls that."""
        self._stop = stop
        self._on_hangup = on_hangup
        self._is_on_terminal = _is_terminal(sys.__stderr__)
        self.received: int | None = None
        """The first signal's number; None as long as there was none."""

    def __enter__(self) -> Self:
        """Take the signals over from the running loop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.receive, number)
        if self._on_hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, self.hang_up, self._on_hangup)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        if self._on_hangup is not None:
            loop.remove_signal_handler(signal.SIGHUP)

    def receive(self, number: int) -> None:
        """Act on the signal `number`; public so that a test may send one without the system."""
        if self.received is not None:
            _quit_at_once(number)
        self.received = number
        self._stop.set()
        tell(logging.INFO, "stopping: what is in flight is finished first; a second signal quits at once")

    def hang_up(self, ask: Callable[[], None]) -> None:
        """SIGHUP: `ask` for the configuration to be read again, or stop where the terminal was closed."""
        if not self._is_on_terminal or _is_terminal(sys.__stderr__):
            ask()
            return
        # Whatever is told from here on has nobody to read it, and may not fail for that.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        self.receive(signal.SIGHUP)

    @property
    def exit_code(self) -> int | None:
        """130 or 143 after a signal, None without one."""
        return None if self.received is None else 128 + self.received


def _is_terminal(text: TextIO | None) -> bool:
    """Whether it is a terminal that is there: one that was closed answers nothing."""
    if text is None:
        return False
    try:
        termios.tcgetattr(text.fileno())
    except (OSError, ValueError, termios.error):
        return False
    return True


def _quit_at_once(number: int) -> None:
    """End without unwinding, since a thread in the middle of a write could hold that up for long."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write(_SHOW_CURSOR + "\n")
        sys.__stderr__.flush()
    os._exit(128 + number)


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
