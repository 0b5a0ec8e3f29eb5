"""Good inputs to begin with: what the simulated tenant writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from m365watch.common.model import Header
from m365watch_simulator.organization.organization import Organisation

_KINDS_MAX = 24


def one_of_each_kind() -> tuple[bytes, ...]:
    """One record of each operation that some hours of ordinary work and attacks bring about."""
    start = datetime(2026, 11, 17, 9, tzinfo=UTC)
    tenant = Organisation(7, "6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f", users=20, records_per_day=1_000)
    found: dict[str | None, bytes] = {}
    for record in tenant.records_between(start, start + timedelta(hours=6)):
        found.setdefault(msgspec.json.decode(record.body, type=Header).Operation, record.body)
    return tuple(list(found.values())[:_KINDS_MAX])
