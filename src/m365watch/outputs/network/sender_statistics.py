"""A sender's figures, told once in a while in the words that Devo's operators know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from m365watch.common.clock import Clock

_log = structlog.get_logger(__name__)


class Now(NamedTuple):
    """How a sender stands at this moment."""

    connections: int
    """Connections that are open."""
    queued: int
    """Batches that were taken and are not known to be delivered."""


@dataclass(slots=True)
class _Count:
    """Lines of one kind, altogether and since the last report."""

    total: int = 0
    recent: int = 0
    recent_bytes: int = 0

    def add(self, count: int, size_bytes: int) -> None:
        self.total += count
        self.recent += count
        self.recent_bytes += size_bytes


class Statistics:
    """Counts what an output has sent, and tells it every `period_s` seconds between `start` and `stop`.

    Source of the words: log lines of Devo's Collector SDK.
    """

    def __init__(self, look: Callable[[], Now], *, name: str, period_s: float, clock: Clock) -> None:
        """The first report counts from now; `name` is the output's."""
        self._look = look
        self._name = name
        self._period_s = period_s
        self._clock = clock
        self._standard = _Count()
        self._internal = _Count()
        self._since_at = clock.now()
        self._since_s = clock.monotonic_s()
        self._reporter: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tell the figures once in a while from now on."""
        self._reporter = asyncio.create_task(self._report(), name=f"statistics of {self._name}")

    async def stop(self) -> None:
        """Tell nothing more."""
        if self._reporter is not None:
            self._reporter.cancel()
            with suppress(asyncio.CancelledError):
                await self._reporter
            self._reporter = None

    def count(self, records: int, size_bytes: int) -> None:
        """Records were delivered, of so many bytes."""
        self._standard.add(records, size_bytes)

    def count_internal(self, lines: int, size_bytes: int) -> None:
        """Lines of what the collector says itself were sent, of so many bytes."""
        self._internal.add(lines, size_bytes)

    async def _report(self) -> None:
        while True:
            await self._clock.sleep(self._period_s)
            for line in self._list_lines():
                _log.info(f"output {self._name}: {line}")

    def _list_lines(self) -> list[str]:
        """The report since the last one, which ends with it."""
        now_s = self._clock.monotonic_s()
        senders, queued = self._look()
        lines = [
            f"Number of available senders: {senders}, sender manager internal queue size: {queued}",
            self._line("Standard", self._standard, now_s - self._since_s),
            self._line("Internal", self._internal, now_s - self._since_s),
        ]
        for kind in (self._standard, self._internal):
            kind.recent = kind.recent_bytes = 0
        self._since_at, self._since_s = self._clock.now(), now_s
        return lines

    def _line(self, name: str, count: _Count, elapsed_s: float) -> str:
        return (
            f"{name} - Total number of messages: {count.total} messages/bytes sent since "
            f'"{self._since_at.isoformat()}": {count.recent}/{count.recent_bytes} '
            f"(elapsed {elapsed_s:.6f} seconds)"
        )
