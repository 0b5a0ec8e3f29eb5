"""What became of every blob that the service lists, per hour: pure sums over a listing and the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from m365watch.common.model import BlobRef, BlobState, Feed, Window
from m365watch.ledger.blob_states import Absent
from m365watch.ledger.queries import remembered
from m365watch.sources.management_api.responses import CONTENT_LIFE
from m365watch.storage.database import Database

MISSING_NAMED_MAX = 100_000
"""Missing blobs of a feed that are named; the others are counted."""
FINAL = frozenset({BlobState.DELIVERED, BlobState.QUARANTINED, BlobState.LOST})
"""The states in which a blob stays."""


@dataclass(slots=True)
class Counts:
    """Blobs that the service lists, and where they stand: the others add up to the first."""

    listed: int = 0
    delivered: int = 0
    waiting: int = 0
    """Known, and not in a final state yet."""
    quarantined: int = 0
    lost: int = 0
    missing: int = 0
    """Not known to the ledger, although a listing should have shown them."""
    newer: int = 0
    """Not known to the ledger, because they are newer than the last listing."""

    def add(self, state: BlobState | Absent) -> None:
        """Count one more blob."""
        self.listed += 1
        match state:
            case Absent.MISSING:
                self.missing += 1
            case Absent.NEWER:
                self.newer += 1
            case BlobState.DELIVERED:
                self.delivered += 1
            case BlobState.QUARANTINED:
                self.quarantined += 1
            case BlobState.LOST:
                self.lost += 1
            case _:
                self.waiting += 1

    @property
    def is_sound(self) -> bool:
        """Whether everything that could be collected has been delivered."""
        return self.listed == self.delivered + self.newer


def total_of(counts: Iterable[Counts]) -> Counts:
    """The sums."""
    rows = list(counts)
    return Counts(**{one.name: sum(getattr(row, one.name) for row in rows) for one in fields(Counts)})


@dataclass(frozen=True, slots=True)
class FeedAudit:
    """One feed's listing beside its ledger."""

    feed: Feed
    at: datetime
    """When the listing was complete."""
    span: Window
    """What was asked for, of contentCreated; it may exceed 24 h."""
    hours: Mapping[datetime, Counts] = field(default_factory=dict)
    """By the beginning of the hour; only hours of which something is listed."""
    missing: tuple[BlobRef, ...] = ()
    """The missing blobs, `MISSING_NAMED_MAX` of them at most."""
    repaired: int = 0
    """Missing blobs that have become known, and are fetched like all others."""
    remaining: int = 0
    """Missing blobs that are not known even now; after a repair also those that could not be fetched."""
    error: str | None = None
    """Why part of the listing could not be read; what is said above holds for the rest of it."""
    fix: str | None = None
    """What a person has to do about `error`."""
    asked: str | None = None
    """The number of the request that it answers; None for the daily one."""

    @property
    def total(self) -> Counts:
        """All hours together."""
        return total_of(self.hours.values())

    @property
    def is_proven(self) -> bool:
        """Whether all was listed, and nothing that is listed remains missing."""
        return self.error is None and not self.remaining


class Tally:
    """Counts the pages of a feed's windows; a window that is begun again is counted anew."""

    def __init__(self) -> None:
        """Nothing was listed yet."""
        self._windows: dict[datetime, dict[datetime, Counts]] = {}
        """By the window's end: where its beginning is refused, it begins later."""
        self._missing: dict[datetime, list[BlobRef]] = {}
        self._seen: set[tuple[str, datetime]] = set()
        self._end: datetime | None = None

    def begin(self, window: Window) -> None:
        """What follows is in `window`, from its first page on."""
        self._end = window.end
        self._windows[window.end] = {}
        self._missing[window.end] = []
        # No blob is in two windows, so that only one window's names are remembered at a time.
        self._seen = set()

    def add(self, page: Sequence[BlobRef], states: Sequence[BlobState | Absent]) -> None:
        """Count a page; a blob that the pages repeat is counted once."""
        if self._end is None:
            return
        hours, missing = self._windows[self._end], self._missing[self._end]
        for ref, state in zip(page, states, strict=True):
            name = (ref.content_id, ref.created_at)
            if name in self._seen:
                continue
            self._seen.add(name)
            hours.setdefault(hour_of(ref.created_at), Counts()).add(state)
            if state is Absent.MISSING and len(missing) < MISSING_NAMED_MAX:
                missing.append(ref)

    def hours(self) -> dict[datetime, Counts]:
        """Every hour of which something is listed, oldest first."""
        parts: dict[datetime, list[Counts]] = {}
        for window in self._windows.values():
            for hour, counts in window.items():
                parts.setdefault(hour, []).append(counts)
        return {hour: total_of(parts[hour]) for hour in sorted(parts)}

    def missing(self) -> tuple[BlobRef, ...]:
        """The missing blobs, the newest windows' first, `MISSING_NAMED_MAX` of them at most."""
        every = [ref for refs in self._missing.values() for ref in refs]
        return tuple(every[:MISSING_NAMED_MAX])


def settled(audit: FeedAudit, states: Sequence[BlobState | Absent]) -> FeedAudit:
    """`audit` after a repair; `states` is where its `missing` blobs stand now, in their order.

    Repaired is what is in a final state; missing blobs that are not named cannot be looked up, and remain.
    """
    repaired = sum(state in FINAL for state in states)
    return replace(audit, repaired=repaired, remaining=audit.total.missing - repaired)


def hour_of(at: datetime) -> datetime:
    """The beginning of the hour that `at` lies in."""
    return at.replace(minute=0, second=0, microsecond=0)


NAMES_KEPT_MAX = 2_500
"""Missing blobs that are kept by name: some 500 kB of the 1 MB that one memory may have."""


GARBLED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, OSError)
"""What a text that `body_of` did not make may raise."""


def memory_name(feed: Feed) -> str:
    """The name under which a feed's last audit is kept."""
    return f"audit {feed}"


def body_of(audit: FeedAudit) -> str:
    """The audit as JSON."""
    body: dict[str, Any] = {
        "at": audit.at.timestamp(),
        "span": [audit.span.start.timestamp(), audit.span.end.timestamp()],
        "hours": [[int(hour.timestamp()), *astuple(counts)] for hour, counts in audit.hours.items()],
        "missing": [[ref.content_id, ref.created_at.isoformat()] for ref in audit.missing[:NAMES_KEPT_MAX]],
        "repaired": audit.repaired,
        "remaining": audit.remaining,
        "error": audit.error,
        "fix": audit.fix,
        "asked": audit.asked,
    }
    return json.dumps(body, separators=(",", ":"))


def audit_of(feed: Feed, body: str) -> FeedAudit:
    """The audit that `body_of` made the text of."""
    fields: Mapping[str, Any] = json.loads(body)
    created = [(content_id, datetime.fromisoformat(at)) for content_id, at in fields["missing"]]
    return FeedAudit(
        feed,
        at=_instant(fields["at"]),
        span=Window(*map(_instant, fields["span"])),
        hours={_instant(hour): Counts(*counts) for hour, *counts in fields["hours"]},
        missing=tuple(BlobRef(feed, content_id, at, at + CONTENT_LIFE) for content_id, at in created),
        repaired=fields["repaired"],
        remaining=fields["remaining"],
        error=fields["error"],
        fix=fields["fix"],
        asked=fields["asked"],
    )


def last_audit(connection: Database, feed: Feed) -> FeedAudit | None:
    """The feed's last audit; None if there was none, or it cannot be read: the next one is a day away."""
    body = remembered(connection, memory_name(feed))
    try:
        return None if body is None else audit_of(feed, body)
    except GARBLED:
        return None


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
