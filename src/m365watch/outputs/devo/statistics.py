"""The sender's figures in the words that Devo's operators know."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.clock import Clock
from m365watch.outputs.wire import WireSender


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
    """Counts what a sender has delivered.

    Source of the words: log lines of Devo's Collector SDK.
    """

    def __init__(self, sender: WireSender, *, clock: Clock) -> None:
        """The first report counts from now."""
        self._sender = sender
        self._clock = clock
        self._standard = _Count()
        self._internal = _Count()
        self._since_at = clock.now()
        self._since_s = clock.monotonic_s()

    def count(self, records: int, size_bytes: int) -> None:
        """Records were delivered, of so many bytes."""
        self._standard.add(records, size_bytes)

    def count_internal(self, lines: int, size_bytes: int) -> None:
        """Lines of what the collector says itself were handed over, of so many bytes."""
        self._internal.add(lines, size_bytes)

    def list_lines(self) -> list[str]:
        """The report since the last one, which ends with it."""
        now_s = self._clock.monotonic_s()
        senders = self._sender.figures.connections
        queued = self._sender.open_count
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
