"""Alerts that were read lately: a page has several panels, and each of them wants all alerts of its time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Lock

from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.alerts.triage import AlertsAsked, list_alerts

KEPT_S = 5
"""No list is older, should a file ever change without showing it."""
LISTS_MAX = 8


class AlertMemory:
    """Lists of alerts, as long as their file is as it was."""

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._lock = Lock()
        self._signs: object = None
        self._lists: dict[AlertsAsked, list[KeptAlert]] = {}

    def list(self, path: Path, asked: AlertsAsked, *, now_s: float) -> list[KeptAlert]:
        """The alerts that are meant, the worst first; who asks at the same time waits for the one reading.

        Raises: OutputUnusable.
        """
        with self._lock:
            signs = (path, _signs_of(path), now_s // KEPT_S)
            if signs != self._signs or len(self._lists) >= LISTS_MAX:
                self._lists.clear()
                self._signs = signs
            if asked not in self._lists:
                self._lists[asked] = list_alerts(path, asked)
            return self._lists[asked]


def _signs_of(path: Path) -> list[tuple[int, int]]:
    """What changes with every transaction: size and time of the file and of its journal."""
    found = []
    for one in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            status = one.stat()
            found.append((status.st_size, status.st_mtime_ns))
    return found
