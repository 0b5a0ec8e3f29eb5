"""Health's panels over time: completeness by hour, gaps, and what audits found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from m365watch.board.pages.health.health_cells import (
    ago_cell,
    at_cell,
    counted_cell,
    feed_words,
    names_of,
    no_ledger,
    sentence,
)
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import Names
from m365watch.board.query.ledger_queries import (
    FEEDS_READ_MAX,
    feeds_listed,
    list_audits,
    list_gaps,
    list_hours,
)
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import HOUR_S
from m365watch.board.widgets.labels import counted, span_words
from m365watch.board.widgets.time_series import ticks_of
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Heat, HeatCell, HeatRow, Shape
from m365watch.common.model import Feed
from m365watch.health.completeness.content_gaps import Gap, GapsFound
from m365watch.health.completeness.feed_audit import FeedAudit
from m365watch.health.completeness.hour_status import FeedHours, HourStanding, HourState
from m365watch.ledger.limits import HORIZON

STEPS_MAX = 168
ROWS_MAX = 24
GAPS_SHOWN_MAX = 100
_STEPS_H = (1, 2, 3, 4, 6, 12, 24)
_DAY_H = 24
_DAYS_MAX = 14
_KNOWN_MIN = 0.99
_LOOKS = {
    HourState.LOST: ("critical", "lost"),
    HourState.MISSING: ("critical", "missing, an audit says"),
    HourState.QUARANTINED: ("high", "quarantined"),
    HourState.UNLISTED: ("medium", "not listed"),
    HourState.WAITING: ("low", "on their way"),
    HourState.SILENT: ("c7", "silent, and should not be"),
    HourState.WHOLE: ("ok", "all delivered"),
    HourState.QUIET: ("c8", "listed, nothing in it"),
}
"""Colour and words of the states that are shown."""
_RANKS = {state: place for place, state in enumerate(HourState)}
_SOUND = frozenset({HourState.WHOLE, HourState.QUIET})
_NOT_JUDGED = frozenset({HourState.DUE, HourState.UNKNOWN})
_QUIET_DEPTH = 0.3


async def hours(view: View, sources: Sources) -> Shape:
    """How each hour of each feed stands."""
    span = _hours_of(view)
    if not span:
        why = f"The collector remembers the hours of the last {HORIZON.days} days, and none of this time."
        return _nothing(Empty(why, "Choose a later time."))
    every = await feeds_listed(view, sources)
    found = await list_hours(view, sources, every[:FEEDS_READ_MAX], span)
    if found is None:
        return _nothing(no_ledger(view, sources))
    step_h = next((one for one in _STEPS_H if len(span) <= one * STEPS_MAX), _STEPS_H[-1])
    found = sorted(found, key=lambda one: (_share_of(one.hours), str(one.feed)))
    named = await names_of(view, sources, (one.feed for one in found))
    shown = [one for one in found[:ROWS_MAX] if _share_of(one.hours) <= 1]
    if not shown:
        return _nothing(Empty("No hour of this time was listed yet.", "See that m365watch run is running."))
    seen = Counter(hour.state for one in shown for hour in one.hours)
    return Heat(
        span.start * HOUR_S,
        step_h * HOUR_S,
        -(-len(span) // step_h),
        rows_of(view, shown, span, step_h=step_h, named=named),
        ticks=ticks_of(span.start * HOUR_S, span_s=-(-len(span) // step_h) * step_h * HOUR_S),
        legend=[
            (tone, _QUIET_DEPTH if state is HourState.QUIET else 1.0, f"{words}: {seen[state]:,} h")
            for state, (tone, words) in _LOOKS.items()
            if seen[state]
        ],
        cut=_cut(len(every), len(shown)),
    )


def _cut(feeds: int, shown: int) -> str:
    """What is not shown: of very many feeds, only those of the tenants that stand worst are looked at."""
    looked = min(feeds, FEEDS_READ_MAX)
    beside = f"; {feeds - looked:,} feeds of tenants in better order were not looked at"
    least = f"the {shown} least complete of {looked:,} feeds" if looked > shown else ""
    return f"{least}{beside if feeds > looked else ''}".strip("; ")


def _nothing(empty: Empty) -> Heat:
    return Heat(0, HOUR_S, 0, (), empty=empty)


def _hours_of(view: View) -> range:
    """The hours of the view that the ledger may know; since 1970."""
    now_h = int(view.now.timestamp()) // HOUR_S
    first = max(view.range.start_s // HOUR_S, now_h - int(HORIZON.total_seconds()) // HOUR_S)
    return range(first, min(-(-view.range.end_s // HOUR_S), now_h + 1))


def _share_of(hours: Sequence[HourStanding]) -> float:
    """How many of the hours that can be judged are sound, 0 to 1; 2 where none can."""
    judged = [one for one in hours if one.state not in _NOT_JUDGED]
    return sum(one.state in _SOUND for one in judged) / len(judged) if judged else 2.0


def rows_of(
    view: View, shown: Sequence[FeedHours], span: range, *, step_h: int, named: Names
) -> list[HeatRow]:
    """The rows, those of a tenant under each other; the tenant of the worst one comes first."""
    order = list(dict.fromkeys(one.feed.tenant_id for one in shown))
    rows = sorted(shown, key=lambda one: order.index(one.feed.tenant_id))
    return [_row(view, one, span, step_h=step_h, named=named) for one in rows]


def _row(view: View, found: FeedHours, span: range, *, step_h: int, named: Names) -> HeatRow:
    steps = [_together(found.hours[place : place + step_h]) for place in range(0, len(span), step_h)]
    most = max((one.blobs for one in steps), default=0) or 1
    share = math.floor(_share_of(found.hours) * 1_000) / 10
    counts = Counter(one.state for one in found.hours if one.state in _LOOKS)
    says = ", ".join(f"{_LOOKS[state][1]} {counts[state]} h" for state in HourState if counts[state])
    return HeatRow(
        feed_words(found.feed, named=named),
        [_cell(one, most, (span.start + place * step_h) * HOUR_S) for place, one in enumerate(steps)],
        f"{share:g} %",
        f"{share:g} % of hours are sound; {says}",
        url=view.narrowed_url("/health", "tenant", found.feed.tenant_id) if named else "",
        group=named.get(found.feed.tenant_id.lower(), found.feed.tenant_id) if named else "",
        name=str(found.feed.content_type) if named else "",
    )


def _together(hours: Sequence[HourStanding]) -> HourStanding:
    """The worst of some hours in a row."""
    worst = min((one.state for one in hours), key=_RANKS.__getitem__)
    return HourStanding(
        worst,
        sum(one.blobs for one in hours),
        sum(one.amiss for one in hours if one.state is worst),
    )


def _cell(one: HourStanding, most: int, at_s: int) -> HeatCell:
    at = f"{_instant(at_s):%a %-d %b %H:%M}"
    if one.state not in _LOOKS:
        later = "not judged yet" if one.state is HourState.DUE else "before the first listing"
        return HeatCell("", 0, f"{at}: {later}")
    tone, words = _LOOKS[one.state]
    depth = 1.0
    if one.state is HourState.WHOLE:
        depth = 0.3 + 0.7 * math.sqrt(one.blobs / most)
    elif one.state is HourState.QUIET:
        depth = _QUIET_DEPTH
    count = counted(one.blobs, "blob", "blobs")
    of = f"{one.amiss:,} {words} of {count}" if one.amiss else f"{count}, {words}" if one.blobs else words
    return HeatCell(tone, round(depth, 2), f"{at}: {of}")


async def gaps(view: View, sources: Sources) -> Shape:
    """Hours without content that need an eye, the newest first."""
    seconds = view.now.timestamp() - view.range.start_s
    days = min(_DAYS_MAX, max(1, math.ceil(seconds / (_DAY_H * HOUR_S))))
    every = await feeds_listed(view, sources)
    found = await list_gaps(view, sources, every[:FEEDS_READ_MAX], days=days)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    inside = [
        one
        for one in found.gaps
        if one.end.timestamp() > view.range.start_s and one.start.timestamp() < view.range.end_s
    ]
    inside.sort(key=lambda one: (not one.is_unusual, -one.start.timestamp(), str(one.feed)))
    named = await names_of(view, sources, (one.feed for one in inside))
    headings = (
        Heading("From (UTC)"),
        Heading("Length", numeric=True),
        Heading("Feed"),
        Heading("Reason"),
        Heading("Usual blobs", numeric=True),
        Heading("What it means", wide=True),
    )
    more, beside = len(inside) - GAPS_SHOWN_MAX, len(every) - FEEDS_READ_MAX
    cuts = [f"and {more:,} more: m365watch gaps names them all"] if more > 0 else []
    cuts += [f"{beside:,} feeds of tenants in better order were not looked at"] if beside > 0 else []
    return Grid(
        headings,
        [_gap_row(one, named=named) for one in inside[:GAPS_SHOWN_MAX]],
        empty=None if inside else _no_gap(found),
        cut="; ".join(cuts),
    )


def _gap_row(gap: Gap, *, named: Names) -> list[Cell]:
    seconds = (gap.end - gap.start).total_seconds()
    usual = "" if gap.usual_blobs is None else f"{gap.usual_blobs:,.0f}"
    tone = "high" if gap.is_unusual else "medium" if gap.usual_blobs is None else "muted"
    return [
        at_cell(gap.start),
        Cell(span_words(seconds), sorts=seconds),
        Cell(feed_words(gap.feed, named=named)),
        Cell(gap.reason.replace("-", " "), tone=tone),
        Cell(usual, sorts=gap.usual_blobs or 0),
        Cell(sentence(gap.text.replace("`", ""))),
    ]


def _no_gap(found: GapsFound) -> Empty:
    if not found.known_share:
        return Empty("No feed of this view was listed yet.", "See that m365watch run is running.")
    share = min(found.known_share.values())
    why = f"No gap up to {found.due_to:%-d %b %H:%M} UTC; later content may still come."
    if share >= _KNOWN_MIN:
        return Empty(why)
    then = (
        f"What is usual is still being learned ({share:.0%} of the week is known): silence may go unnoticed."
    )
    return Empty(why, then)


async def audits(view: View, sources: Sources) -> Shape:
    """What the last audit of each feed found."""
    found = await list_audits(view, sources)
    if found is None:
        return Grid((), (), empty=no_ledger(view, sources))
    found.sort(key=lambda one: (one.is_proven, str(one.feed)))
    named = await names_of(view, sources, (one.feed for one in found))
    figures = ("Listed", "Delivered", "Waiting", "Quarantined", "Lost", "Missing", "Repaired", "Remain")
    headings = (
        Heading("Feed"),
        Heading("Verdict"),
        Heading("When", numeric=True),
        *(Heading(one, numeric=True) for one in figures),
    )
    why = "No feed was audited yet."
    empty = Empty(why, "A running collector audits each feed once a day; m365watch audit does it now.")
    rows = [_audit_row(one, view.now, _name(one.feed, named=named)) for one in found]
    return Grid(headings, rows, empty=None if found else empty)


def _name(feed: Feed, *, named: Names) -> Cell:
    return Cell(feed_words(feed, named=named), narrows=("tenant", feed.tenant_id) if named else None)


def _audit_row(audit: FeedAudit, now: datetime, name: Cell) -> list[Cell]:
    total = audit.total
    verdict = "nothing missing" if audit.is_proven else "not read" if audit.error else "blobs missing"
    return [
        name,
        Cell(verdict, tone="ok" if audit.is_proven else "high" if audit.error else "critical"),
        ago_cell(audit.at, now),
        Cell(f"{total.listed:,}", sorts=total.listed),
        Cell(f"{total.delivered:,}", sorts=total.delivered),
        counted_cell(total.waiting, "medium"),
        counted_cell(total.quarantined, "high"),
        counted_cell(total.lost, "critical"),
        counted_cell(total.missing, "high"),
        counted_cell(audit.repaired, "ok"),
        counted_cell(audit.remaining, "critical"),
    ]


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
