"""When a feed's whole 7 days are listed again, and who is shown what comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from m365watch.common.errors import CollectorError
from m365watch.common.model import BlobRef, TenantId, Window

CATCH_UP = timedelta(hours=1)
"""Relistings that were due while the collector stood still are spread over this time after its start."""
LIVE = timedelta(hours=3)
"""Windows that end before this age are asked for in the background: see `feed.api.LIVE_S`."""
_DAY = timedelta(days=1)


class PageWatch(Protocol):
    """Is shown every page of one feed's relisting before the ledger knows what is on it."""

    def begin(self, window: Window) -> None:
        """The window is listed from its first page on, perhaps not for the first time."""
        ...

    async def look(self, page: Sequence[BlobRef]) -> int | None:
        """One page; the ledger still knows what it knew before.

        How many of its blobs are missing, rests of known blobs left out; None leaves that to the ledger.
        """
        ...

    async def end(self, windows: Sequence[Window], failures: Mapping[datetime, CollectorError]) -> None:
        """All windows were listed; of those in `failures` (by their end) something could not be read."""
        ...


class NobodyWatches:
    """A `PageWatch` that looks away."""

    def begin(self, window: Window) -> None:
        """Nothing to do."""

    async def look(self, page: Sequence[BlobRef]) -> int | None:  # noqa: ARG002 - it looks away
        """Nothing to say."""
        return None

    async def end(self, windows: Sequence[Window], failures: Mapping[datetime, CollectorError]) -> None:
        """Nothing to do."""


def share_of_day(tenant_id: TenantId) -> float:
    """Where in the day, in [0, 1), a tenant has its turn; always the same for a tenant."""
    return int.from_bytes(hashlib.sha256(tenant_id.encode()).digest()[:6]) / 2**48


def relisting_due_at(
    tenant_id: TenantId, relisted_at: datetime, *, started_at: datetime | None = None
) -> datetime:
    """When the tenant's feeds are to be listed again: its time of day that comes after `relisted_at`.

    That is at most 24 h later. What was due before the run started (`started_at`; None for a run that
    ends once it is caught up) comes within the first hour, spread in the same way.
    """
    share = share_of_day(tenant_id)
    midnight = relisted_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    due_at = midnight + share * _DAY
    if due_at <= relisted_at:
        due_at += _DAY
    if started_at is not None and due_at < started_at:
        return started_at + share * CATCH_UP
    return due_at


def in_background(windows: Sequence[Window], now: datetime) -> list[Window]:
    """The same windows, cut where they become so old that live requests go before theirs."""
    edge = now.replace(microsecond=0) - LIVE
    cut = []
    for window in windows:
        if window.start < edge < window.end:
            cut += [Window(edge, window.end), Window(window.start, edge)]
        else:
            cut.append(window)
    return cut
