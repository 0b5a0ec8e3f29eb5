"""Which windows to list next: a pure function of what was listed and what time it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from m365watch.common.model import LOOK_BACK_MAX, Window

WINDOW_MAX = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Plan:
    """Windows in the order in which to list them."""

    live: tuple[Window, ...]
    """What is new, with the lookback before it."""
    backfill: tuple[Window, ...]
    """What was never listed, newest first."""


def plan_windows(
    coverage: Sequence[Window],
    now: datetime,
    *,
    start_at: datetime | None,
    lookback: timedelta,
    margin: timedelta,
) -> Plan:
    """Windows that list all of [start, now) that was not listed, and the lookback once more.

    Half-open, in whole seconds, each at most 24 h and none of them starting more than 7 days
    less `margin` ago. Live windows begin at the end of the newest coverage less `lookback`,
    because content turns up late behind the newest instant that was listed. Nothing is
    planned before `start_at`.

    Source: Management Activity API reference, "List available content": both times at most
    24 h apart, the start no more than 7 days in the past, startTime <= contentCreated < endTime.
    """
    end = now.replace(microsecond=0)
    start = oldest_reachable(now, margin=margin)
    if start_at is not None:
        # The second that the start time lies in is listed whole; who lists it leaves out what is older.
        start = max(start, _floor(start_at))
    if start >= end:
        return Plan((), ())
    newest = min(coverage[-1].end, end) if coverage else end
    live_start = max(start, _floor(newest - lookback))
    live = [Window(live_start, end)]
    holes = _without([Window(start, live_start)], coverage)
    return Plan(tuple(_pieces(live)), tuple(_pieces(holes)))


def unreachable_spans(coverage: Sequence[Window], now: datetime, *, margin: timedelta) -> list[Window]:
    """What lies between listed spans and is older than what may still be planned: lost for good.

    Holes appear where the collector stood still for more than 7 days.
    """
    if not coverage:
        return []
    edge = oldest_reachable(now, margin=margin)
    holes = _without([Window(coverage[0].start, max(edge, coverage[-1].end))], coverage)
    return [hole for hole in holes if hole.end <= edge]


def oldest_reachable(now: datetime, *, margin: timedelta) -> datetime:
    """From when on content may still be listed."""
    return _ceil(_floor(now) - LOOK_BACK_MAX + margin)


def plan_relisting(now: datetime, *, start_at: datetime | None, margin: timedelta) -> tuple[Window, ...]:
    """Windows that list everything that the service still serves once more, newest first."""
    plan = plan_windows([], now, start_at=start_at, lookback=timedelta(0), margin=margin)
    return plan.live + plan.backfill


def _without(spans: Sequence[Window], covered: Sequence[Window]) -> list[Window]:
    """`spans` less `covered`, both disjoint and oldest first."""
    left: list[Window] = []
    for span in spans:
        at = span.start
        for done in covered:
            if done.end <= at or done.start >= span.end:
                continue
            if done.start > at:
                left.append(Window(at, done.start))
            at = max(at, done.end)
        if at < span.end:
            left.append(Window(at, span.end))
    return left


def _pieces(spans: Sequence[Window]) -> list[Window]:
    """The same spans in pieces of at most 24 h, newest first."""
    pieces: list[Window] = []
    for span in reversed(spans):
        end = span.end
        while end > span.start:
            start = max(span.start, end - WINDOW_MAX)
            pieces.append(Window(start, end))
            end = start
    return pieces


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)


def _ceil(at: datetime) -> datetime:
    whole = _floor(at)
    return whole if whole == at else whole + timedelta(seconds=1)
