"""What kind of records alerts rest on: looked up once, as a record never changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from m365watch.board.query.fact_queries import Row
from m365watch.detection.alerts.stored_alert import KeptAlert

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
