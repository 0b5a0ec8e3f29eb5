"""What is known of every hour of a feed: whole, quiet, or what is amiss; from the ledger alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from m365watch.common.model import BlobState, Feed, Window
from m365watch.health.completeness.content_gaps import find_gaps
from m365watch.health.completeness.feed_audit import FeedAudit, last_audit
from m365watch.health.completeness.silence_monitor import listed_hours
from m365watch.ledger.blob_states import HOUR_S, states_per_hour
from m365watch.ledger.queries import coverage
from m365watch.storage.database import Database

_FEED_NUMBER = "SELECT id FROM feed WHERE tenant_id = ? AND content_type = ?"
_DAYS_MAX = 14
_ON_ITS_WAY = (BlobState.WAITING, BlobState.QUEUED, BlobState.LEFT_OUT)


class HourState(StrEnum):
    """How an hour of a feed stands, the worst first."""

    LOST = "lost"
    """Blobs of it are no longer served, and never arrived."""
    MISSING = "missing"
    """The last audit found blobs that the ledger does not know."""
    QUARANTINED = "quarantined"
    UNLISTED = "unlisted"
    """Nobody has asked what it has, although it is over."""
    WAITING = "waiting"
    """Blobs of it are known and on their way."""
    SILENT = "silent"
    """Nothing in it, at a time at which the feed usually has content."""
    WHOLE = "whole"
    """All that was listed has been delivered."""
    QUIET = "quiet"
    """Listed, and nothing in it."""
    DUE = "due"
    """Not over for long enough to be judged."""
    UNKNOWN = "unknown"
    """Before the first listing."""


@dataclass(frozen=True, slots=True)
class HourStanding:
    """One hour of one feed."""

    state: HourState
    blobs: int = 0
    amiss: int = 0
    """Those of them, or beside them, that the state speaks of."""


@dataclass(frozen=True, slots=True)
class FeedHours:
    """The hours of one feed, one after the other."""

    feed: Feed
    hours: Sequence[HourStanding]


@dataclass(frozen=True, slots=True)
class HoursKnown:
    """What the hours of one feed are judged by; hours since 1970."""

    counts: Mapping[int, Mapping[BlobState, int]]
    listed: Collection[int]
    """Listed from their beginning to their end."""
    first: int | None
    """The first hour of which anything was listed; None before the first listing."""
    silent: Collection[int] = ()
    missing: Mapping[int, int] = field(default_factory=dict)
    """Blobs that the last audit found missing."""


def find_hours(
    connection: Database, feeds: Sequence[Feed], hours: range, *, now: datetime
) -> list[FeedHours]:
    """The hours of each feed, in the order of `feeds`."""
    silent: dict[Feed, set[int]] = {feed: set() for feed in feeds}
    for gap in find_gaps(connection, feeds, now=now, days=_DAYS_MAX).gaps:
        if gap.is_unusual:
            silent[gap.feed].update(range(_hour(gap.start), _hour(gap.end)))
    return [
        FeedHours(feed, judge_hours(_known(connection, feed, hours, silent[feed]), hours, now=now))
        for feed in feeds
    ]


def judge_hours(known: HoursKnown, hours: range, *, now: datetime) -> list[HourStanding]:
    """How each of `hours` stands."""
    # An hour that has just ended is listed by the next poll.
    over_before = _hour(now) - 1
    return [_judge(known, hour, is_over=hour < over_before) for hour in hours]


def _judge(known: HoursKnown, hour: int, *, is_over: bool) -> HourStanding:
    counts = known.counts.get(hour, {})
    blobs = sum(counts.values())
    amiss = {
        HourState.LOST: counts.get(BlobState.LOST, 0),
        HourState.MISSING: known.missing.get(hour, 0),
        HourState.QUARANTINED: counts.get(BlobState.QUARANTINED, 0),
    }
    for state, number in amiss.items():
        if number:
            return HourStanding(state, blobs, number)
    if known.first is None or hour < known.first:
        return HourStanding(HourState.UNKNOWN, blobs)
    # The first listing may begin in the middle of an hour.
    if is_over and hour not in known.listed and hour != known.first:
        return HourStanding(HourState.UNLISTED, blobs)
    if waiting := sum(counts.get(state, 0) for state in _ON_ITS_WAY):
        return HourStanding(HourState.WAITING, blobs, waiting)
    if hour in known.silent:
        return HourStanding(HourState.SILENT)
    if blobs:
        return HourStanding(HourState.WHOLE, blobs)
    return HourStanding(HourState.QUIET if is_over else HourState.DUE)


def _known(connection: Database, feed: Feed, hours: range, silent: Collection[int]) -> HoursKnown:
    row = connection.execute(_FEED_NUMBER, (feed.tenant_id, feed.content_type)).fetchone()
    spans: list[Window] = [] if row is None else coverage(connection, int(row[0]))
    return HoursKnown(
        states_per_hour(connection, feed, first_hour=hours.start, end_hour=hours.stop),
        listed_hours(spans, hours),
        _hour(spans[0].start) if spans else None,
        silent,
        _missing(last_audit(connection, feed)),
    )


def _missing(audit: FeedAudit | None) -> dict[int, int]:
    """By the hour, what an audit found missing and no repair has brought since."""
    if audit is None or not audit.remaining:
        return {}
    return {_hour(hour): counts.missing for hour, counts in audit.hours.items() if counts.missing}


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // HOUR_S
