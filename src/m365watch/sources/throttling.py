"""How often Microsoft asked for fewer requests, by tenant and hour, so that it can be seen over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

import msgspec

from m365watch.common.model import TenantId

MEMORY = "throttling"
"""The name under which the ledger remembers it."""
HOUR_S = 3_600
HOURS_KEPT = 15 * 24
"""As long as the hours of feeds are remembered."""
TENANTS_MAX = 1_000
"""Tenants whose answers are counted."""

_BODY = msgspec.json.Decoder(dict[str, dict[int, int]])


class ThrottlingBook:
    """Answers that were throttled, counted."""

    def __init__(self) -> None:
        """Nothing was throttled yet."""
        self._counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.is_changed = False
        """Whether something was counted since this was last set to False."""

    @property
    def by_tenant(self) -> Mapping[str, Mapping[int, int]]:
        """Answers by tenant and by the hour, in whole hours since 1970."""
        return self._counts

    def note(self, tenant_id: TenantId | str, at: datetime) -> None:
        """Count one answer; what is older than `HOURS_KEPT` goes."""
        if tenant_id not in self._counts and len(self._counts) >= TENANTS_MAX:
            return
        hours = self._counts[str(tenant_id)]
        hour = int(at.timestamp()) // HOUR_S
        if hour not in hours:
            for old in [one for one in hours if one <= hour - HOURS_KEPT]:
                del hours[old]
        hours[hour] += 1
        self.is_changed = True

    def add(self, body: str | None) -> None:
        """Count what another run has counted, as `body` says it; nothing where it cannot be read."""
        try:
            said = _BODY.decode(body or "{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        for tenant_id, hours in list(said.items())[:TENANTS_MAX]:
            for hour, count in hours.items():
                self._counts[tenant_id][hour] += count

    def body(self) -> str:
        """Everything as JSON, for the ledger to remember."""
        return msgspec.json.encode(self._counts).decode()

    @classmethod
    def of_body(cls, body: str | None) -> ThrottlingBook:
        """What `body` says; an empty book for None, and for what cannot be read."""
        book = cls()
        book.add(body)
        return book
