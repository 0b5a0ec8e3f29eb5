"""Alerts that were read lately: a page has several panels, and each of them wants all alerts of its time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from m365watch.board.query.fact_queries import Row
from m365watch.common.progress import RunProgress
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.alerts.triage import AlertsAsked, list_alerts
from m365watch.health.collector_status import read_status

KINDS_MAX = 200_000
"""Records whose kind is remembered; beyond that all are forgotten and looked up anew."""
MISSED_S = 60
"""A record that was not there is looked for again after that long: it may be on its way to the lake."""


class RecordKind(NamedTuple):
    """What a view may be narrowed to, and an alert does not say itself."""

    workload: str
    type: str
    operation: str
    usertype: str
    result: str


Key = tuple[str, str]
"""A tenant in lower case, and the id of one of its records."""


class EvidenceMemory:
    """Kinds of records by their tenant and id."""

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._kinds: dict[Key, RecordKind] = {}
        self._missed_at_s: dict[Key, float] = {}

    def unknown(self, alerts: Iterable[KeptAlert], *, now_s: float) -> list[KeptAlert]:
        """The alerts that rest on records of which nothing is known and that were not looked for lately."""
        return [
            one
            for one in alerts
            if any(
                key not in self._kinds and now_s - self._missed_at_s.get(key, 0) >= MISSED_S
                for key in keys_of(one)
            )
        ]

    def learn(self, alerts: Iterable[KeptAlert], rows: Iterable[Row], *, now_s: float) -> None:
        """Remember what was found of their records, and that the others were not."""
        if len(self._kinds) + len(self._missed_at_s) > KINDS_MAX:
            self._kinds.clear()
            self._missed_at_s.clear()
        for tenant, record, *kind in rows:
            self._kinds[tenant, record] = RecordKind(*("" if one is None else str(one) for one in kind))
        for alert in alerts:
            self._missed_at_s |= {key: now_s for key in keys_of(alert) if key not in self._kinds}

    @property
    def kinds(self) -> Mapping[Key, RecordKind]:
        """All that is known."""
        return self._kinds


def keys_of(kept: KeptAlert) -> list[Key]:
    """The records that the alert names."""
    tenant = kept.alert.tenant.lower()
    return [(tenant, one) for one in kept.alert.evidence]


LASTS_S = 600
"""How long a name counts, or that there is none."""
NAMES_MAX = 20_000
"""Beyond that all are forgotten and looked up anew."""
Scope = tuple[str, ...] | None
"""The tenants in whose records a name was looked for; None: in all."""


class NameMemory:
    """What ids are called, by the scope in which that was looked up."""

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._told: dict[tuple[Scope, str], tuple[float, str]] = {}

    def unknown(self, scope: Scope, ids: Iterable[str], *, now_s: float) -> list[str]:
        """Those of which nothing was looked up lately, in order."""
        return [
            one
            for one in sorted(set(ids))
            if now_s - self._told.get((scope, one), (float("-inf"), ""))[0] >= LASTS_S
        ]

    def learn(self, scope: Scope, asked: Iterable[str], names: Mapping[str, str], *, now_s: float) -> None:
        """Remember what those that were asked for are called, and which of them nothing."""
        if len(self._told) > NAMES_MAX:
            self._told.clear()
        self._told |= {(scope, one): (now_s, names.get(one, "")) for one in asked}

    def names(self, scope: Scope, ids: Iterable[str]) -> dict[str, str]:
        """The names of those that have one."""
        told = ((one, self._told.get((scope, one), (0.0, ""))[1]) for one in ids)
        return {one: name for one, name in told if name}


STATUS_KEPT_S = 1.0
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
                if place == settings.state_directory and 0 <= now_s - read_s < STATUS_KEPT_S:
                    return found
            found = read_status(settings, now=now)
            self._last = settings.state_directory, now_s, found
            return found


ALERTS_KEPT_S = 5
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
            signs = (path, _signs_of(path), now_s // ALERTS_KEPT_S)
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
