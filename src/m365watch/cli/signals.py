"""SIGINT and SIGTERM: the first asks the collector to finish, the second quits at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import termios
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from m365watch.cli.terminal.log_output import tell

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
