"""The ledger's figures as they were a moment ago: every open page asks for them every few seconds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from threading import Lock

from m365watch.common.progress import RunProgress
from m365watch.config.models.settings import Settings
from m365watch.health.collector_status import read_status

KEPT_S = 1.0
"""So old are figures at most that somebody else's page has asked for."""


class StatusMemory:
    """The last figures of all tenants: whoever is told of them is told within their rights."""

    def __init__(self) -> None:
        """Nothing was read."""
        self._lock = Lock()
        self._last: tuple[Path, float, RunProgress] | None = None

    def read(self, settings: Settings, *, now_s: float, now: datetime) -> RunProgress:
        """The figures; who asks at the same time waits for the one reading.

        Raises: LedgerUnusable.
        """
        with self._lock:
            if self._last is not None:
                place, read_s, found = self._last
                if place == settings.state_directory and 0 <= now_s - read_s < KEPT_S:
                    return found
            found = read_status(settings, now=now)
            self._last = settings.state_directory, now_s, found
            return found
