"""SIGINT and SIGTERM: the first asks the collector to finish, the second quits at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from types import TracebackType
from typing import Self

from m365watch.cli.diagnostics import tell

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = "\x1b[?25h"


class StopSignals:
    """While entered, the first signal sets `stop` and the second ends the process.

    Nothing is lost by the second either: the ledger and the outputs are made for kill -9.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        """Set `stop` at the first signal."""
        self._stop = stop
        self.received: int | None = None
        """The first signal's number; None as long as there was none."""

    def __enter__(self) -> Self:
        """Take the signals over from the running loop."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.receive, number)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def receive(self, number: int) -> None:
        """Act on the signal `number`; public so that a test may send one without the system."""
        if self.received is not None:
            _quit_at_once(number)
        self.received = number
        self._stop.set()
        tell(logging.INFO, "stopping: what is in flight is finished first; a second signal quits at once")

    @property
    def exit_code(self) -> int | None:
        """130 or 143 after a signal, None without one."""
        return None if self.received is None else 128 + self.received


def _quit_at_once(number: int) -> None:
    """End without unwinding, since a thread in the middle of a write could hold that up for long."""
    if sys.__stderr__ is not None and sys.__stderr__.isatty():
        sys.__stderr__.write(_SHOW_CURSOR + "\n")
        sys.__stderr__.flush()
    os._exit(128 + number)
