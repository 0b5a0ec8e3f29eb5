"""Overview: what happens, who does it, what was found, and whether everything arrives."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from m365watch.board.pages.alerts import queue_url
from m365watch.board.pages.health.health_cells import counted_cell, feed_words, names_of, no_ledger
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.alert_selection import list_meant
from m365watch.board.query.data_sources import WAITING, Sources
from m365watch.board.query.display_names import Names, name_entities
from m365watch.board.query.ledger_queries import CollectorSeen, see_collector
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.query.time_range import HOUR_S
from m365watch.board.widgets.empty_states import no_records, no_records_beside
from m365watch.board.widgets.entity_links import entity_ways
from m365watch.board.widgets.labels import (
    change_words,
    record_type_words,
    short,
    span_words,
    user_type_words,
    workload_colour,
    workload_words,
)
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import number
from m365watch.board.widgets.time_series import chart_of, sparks_of
from m365watch.board.widgets.widget_types import (
    Cell,
    Empty,
    Grid,
    Heading,
    Ranked,
    Ranking,
    Several,
    Shape,
    Tile,
)
from m365watch.common.errors import CollectorError
from m365watch.common.progress import FeedProgress
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import KeptAlert, closed_of, rank_alerts
from m365watch.detection.rules.extension import Severity

BY = (("workload", "Workload"), ("type", "Record type"), ("usertype", "User type"))
SLOTS = ("c1", "c2", "c3", "c4", "c5", "c6", "c7")
OPERATIONS_SHOWN = 3
LATE_S = HOUR_S
COMPARED_FROM_S = 6 * HOUR_S
"""Of the last hours fewer are there than will be: content is published an hour after it, or later."""
FEEDS_SHOWN_MAX = 40
FEED_TONES = ("critical", "high", "medium", "ok")
"""Of feeds, the worst first."""


async def figures(view: View, sources: Sources) -> Shape:
    """The shift's first look: six numbers, each against the time before."""
    sums, sums_before, persons, addresses, (failed, failed_was), rows = await asyncio.gather(
        _sums(view, sources),
        _sums(view.before, sources),
        sources.ask(view, activity.TOP_PERSONS),
        _number(view, sources, activity.ADDRESSES),
        _failed(view, sources),
        sources.ask(view, activity.SPARK),
    )
    now, was = (_first(one["total"]) for one in (sums, sums_before))
    spark = sparks_of(view.range, rows)
    tiles = [
        Tile("Records", short(now), _against_before(view, now, was), spark=spark.get("", ())),
        Tile("People", short(persons[0][2] if persons else 0), "with any activity"),
        Tile("Addresses", short(addresses), "they came from"),
        Tile(
            "Failed sign-ins",
            short(failed),
            _against_before(view, failed, failed_was),
            url=view.url("/sign-ins"),
        ),
        await _read_or_trouble("Open alerts", _alerts_tile(view, sources)),
        await _read_or_trouble("Feeds in order", _feeds_tile(view, sources)),
    ]
    return await figures_here(view, sources, tiles)


def _against_before(view: View, now: int, was: int) -> str:
    """How a figure stands to the time before; of the last hours much is published later."""
    if view.range.span_s < COMPARED_FROM_S and view.range.end_s > view.now.timestamp() - COMPARED_FROM_S:
        return "more is still to come"
    return change_words(now, was)


async def _number(view: View, sources: Sources, query: Query) -> int:
    rows = await sources.ask(view, query)
    return int(rows[0][0]) if rows else 0


async def _failed(view: View, sources: Sources) -> list[int]:
    """Failed sign-ins, as their page counts them, now and in the time before."""
    return await asyncio.gather(*(_number(one, sources, sign_ins.FAILED) for one in (view, view.before)))


async def _sums(view: View, sources: Sources) -> dict[str, list[tuple[str, int]]]:
    """Value and count by the name of the part; all panels ask for them together."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for part, value, count in await sources.ask(view, activity.SUMS):
        found[part].append((value or "", count))
    return found


def _first(counted: Sequence[tuple[str, int]]) -> int:
    return counted[0][1] if counted else 0


async def _read_or_trouble(label: str, reading: Awaitable[Tile]) -> Tile:
    """The tile; what cannot be read takes no other tile with it."""
    try:
        return await reading
    except CollectorError as error:
        return Tile(label, "unreadable", error.what, tone="critical")


async def _alerts_tile(view: View, sources: Sources) -> Tile:
    found = await _open_alerts(view, sources, severity_min=Severity.MEDIUM)
    if found is None:
        return Tile("Open alerts", "off", "no run has had its detections on", tone="muted")
    counts = Counter(one.alert.severity for one in found)
    worst = next((one for one in (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM) if counts[one]), None)
    grave = [f"{counts[one]} {one}" for one in (Severity.CRITICAL, Severity.HIGH) if counts[one]]
    return Tile(
        "Open alerts",
        short(len(found)),
        f"medium and worse: {', '.join(grave)}" if grave else "none above medium",
        tone=str(worst or "ok"),
        url=view.url("/alerts"),
    )


async def _feeds_tile(view: View, sources: Sources) -> Tile:
    feeds = await sources.list_feeds(view)
    if feeds is None:
        return Tile("Feeds", "none", "no collector has run yet", tone="muted")
    collector = await see_collector(sources, feeds)
    bad = [one for one in feeds if _state_of(one, view.now, collector)[1] != "ok"]
    waiting = sum(one.blobs_waiting for one in feeds)
    note = f"{waiting:,} blobs wait" if waiting else "nothing waits"
    note = collector.stopped_words(view.now) or note
    return Tile(
        "Feeds in order",
        f"{len(feeds) - len(bad)} of {len(feeds)}",
        note,
        tone="high" if bad else "ok",
        url=view.url("/health"),
    )


async def activity_over_time(view: View, sources: Sources) -> Shape:
    """Records over time, by workload, record type or user type."""
    by = view.option("by", tuple(name for name, _ in BY))
    columns = {"workload": "workload", "type": "record_type", "usertype": "user_type"}
    rows = await sources.ask(view, activity.over_time(columns[by]))
    # Where no collector has run, the panel of the feeds says with which command one is started.
    why = no_records if sources.has_ledger else no_records_beside
    empty = None if rows else await why(view, sources)
    counted = [(at, "" if name is None else name, count) for at, name, count in rows]
    names = [name for name, _ in Counter({n: 0 for _, n, _ in counted}).items()]
    totals: Counter[str] = Counter()
    for _, name, count in counted:
        totals[name] += count
    ranked = [name for name, _ in totals.most_common()] or names

    def colour(name: str) -> str:
        place = ranked.index(name)
        return workload_colour(name) if by == "workload" else (SLOTS[place] if place < len(SLOTS) else "c8")

    chart = chart_of(
        view.range,
        counted,
        colour=colour,
        words=partial(_words_of, by),
        narrows=lambda name: (by, name) if name else None,
        empty=empty,
    )
    return Several([chart], empty=empty, choices=BY, chosen=by)


def _words_of(by: str, name: str) -> str:
    if by == "workload":
        return workload_words(name)
    number = int(name) if name.isdigit() else None
    return record_type_words(number) if by == "type" else user_type_words(number)


async def shares(view: View, sources: Sources) -> Shape:
    """Which share each workload, record type and user type has."""
    parts = []
    for name, column, title in (
        ("workload", "workload", "By workload"),
        ("type", "record_type", "By record type"),
        ("usertype", "user_type", "By user type"),
    ):
        rows = (await _sums(view, sources))[column]
        total = sum(count for _, count in rows)
        ranked = [
            Ranked(
                _words_of(name, value),
                count,
                (name, value) if value else None,
                workload_colour(value) if name == "workload" else "c1",
            )
            for value, count in rows[:7]
        ]
        parts.append(Ranking(title, ranked, total))
    empty = None if parts[0].rows else await no_records_beside(view, sources)
    return Several(parts, empty=empty)


async def alerts(view: View, sources: Sources) -> Shape:
    """Open alerts over time by severity, and the rules that made them."""
    found = await _open_alerts(view, sources, severity_min=Severity.LOW)
    if found is None:
        empty = Empty(
            "No run has had its detections on.",
            "Run m365watch run with an output of type lake, or with detections.enabled: true.",
        )
        return Several([], empty=empty)
    if not found:
        return Several(
            [], empty=Empty("No alert is open in this time.", "That is good news, if all feeds are in order.")
        )
    # One that goes on after the time, or began before it, is of the time as well, and counts in the figure.
    ends = (min(kept.alert.last_at_ms // 1000, view.range.end_s - 1) for kept in found)
    rows = [
        (at_s // view.range.step_s * view.range.step_s, str(kept.alert.severity), 1)
        for at_s, kept in zip(ends, found, strict=True)
    ]
    chart = chart_of(
        view.range, rows, colour=str, words=str.capitalize, order=[str(one) for one in reversed(Severity)]
    )
    rules: dict[tuple[str, Severity], list[Alert]] = defaultdict(list)
    ranks = rank_alerts((one.alert for one in found), closed=closed_of(found))
    for kept in sorted(found, key=lambda one: ranks[one.alert.id], reverse=True):
        rules[kept.alert.rule_id, kept.alert.severity].append(kept.alert)
    ordered = sorted(rules.values(), key=lambda of: (-len(of), of[0].title))
    ordered.sort(key=lambda of: max(ranks[one.id] for one in of), reverse=True)
    shown = ordered[:40]
    apps = await name_entities(view, sources, (entity for of in shown for entity in of[0].entities))
    grid = Grid(
        (Heading("Severity"), Heading("Open", numeric=True), Heading("Rule", wide=True), Heading("Who")),
        [_rule_row(view, of, apps) for of in shown],
    )
    return Several([chart, grid])


def _rule_row(view: View, of: Sequence[Alert], apps: Mapping[str, str]) -> list[Cell]:
    """A rule's open alerts of one severity: its title leads to the first of them, their number to all."""
    first = of[0]
    every = queue_url(view, first.severity, rule=first.rule_id) if len(of) > 1 else ""
    return [
        Cell(str(first.severity).capitalize(), tone=str(first.severity), sorts=-first.severity.rank),
        Cell(f"{len(of):,}", sorts=len(of), url=every),
        Cell(first.title, url=view.url("/alert", alert=first.id)),
        _who(view, first.entities, apps),
    ]


async def _open_alerts(view: View, sources: Sources, *, severity_min: Severity) -> list[KeptAlert] | None:
    """Those that the queue has for this view."""
    found = await list_meant(view, sources, states=WAITING, severity_min=severity_min)
    return None if found is None else list(found.alerts)


def _who(view: View, entities: tuple[tuple[str, str], ...], apps: Mapping[str, str]) -> Cell:
    ways = entity_ways(view, entities, apps)
    way = next((one for one in ways if one.kind in {"user", "address"}), ways[0] if ways else None)
    return Cell("") if way is None else Cell(way.text, url=way.url)


async def changes(view: View, sources: Sources) -> Shape:
    """What was added, changed and removed over time, and how users and groups changed against before."""
    rows = await sources.ask(view, activity.CHANGES_OVER_TIME)
    colours = {"added": "ok", "changed": "c1", "removed": "failed"}
    empty = None if rows else await no_records_beside(view, sources, of="changes")
    chart = chart_of(view.range, rows, colour=colours.__getitem__, words=str.capitalize, empty=empty)
    now = (await _sums(view, sources))["accounts"]
    before = dict((await _sums(view.before, sources))["accounts"])
    grid = Grid(
        (Heading("Users and groups"), Heading("Now", numeric=True), Heading("Before", numeric=True)),
        [
            [
                Cell(operation.rstrip("."), narrows=("operation", operation)),
                number(count),
                Cell(f"{before.get(operation, 0):,}", sorts=before.get(operation, 0), tone="muted"),
            ]
            for operation, count in now[:12]
        ],
        empty=None if now else Empty("No user or group changed in this time."),
    )
    return Several([chart, grid], empty=empty)


async def admin_activities(view: View, sources: Sources) -> Shape:
    """What administrators did, by operation."""
    of_all = _is_of_all(view)
    rows = await sources.ask(view, activity.ADMIN_ACTIVITIES_OF_ALL if of_all else activity.ADMIN_ACTIVITIES)
    grid = [
        [
            Cell(operation.rstrip("."), narrows=("operation", operation)),
            number(count),
            number(persons),
        ]
        for operation, count, persons, _ in rows
    ]
    headings = (
        Heading("Operation"),
        Heading("Records", numeric=True),
        Heading("People", numeric=True),
    )
    total = rows[0][3] if rows else 0
    cut = [f"the {len(rows)} most frequent of {total:,} operations"] if total > len(rows) else []
    return Grid(
        headings,
        grid,
        cut="; ".join(cut if of_all or not rows else [*cut, _LEFT_OUT]),
        empty=None if rows else await no_records_beside(view, sources, of="admin activities"),
    )


_LEFT_OUT = "without Microsoft's own administrators and services: narrow to a user type or user to see them"


def _is_of_all(view: View) -> bool:
    """Whether somebody asks for what Microsoft's own administrators and services do, too."""
    return bool(view.narrowing.of("usertype") or view.narrowing.of("user"))


async def top_people(view: View, sources: Sources) -> Shape:
    """Who did most, what it was, and how it went over the time."""
    tops = [user for user, *_ in await sources.ask(view, activity.TOP_PERSONS)]
    of_them = view.narrowed("user", tops)
    found = await sources.ask(of_them, activity.DEEDS) if tops else []
    rows = sorted(found, key=lambda row: (row[0], row[2]))  # whoever did as much stands in this order
    sparks = sparks_of(view.range, [(user, at, count) for user, at, _, count in rows if at is not None])
    totals: Counter[str] = Counter()
    operations: dict[str, Counter[str]] = defaultdict(Counter)
    for user, at, operation, count in rows:
        if at is None:
            totals[user] += count
            operations[user][operation] += count
    ranked = [
        Ranked(
            user,
            total,
            ("user", user),
            spark=sparks[user],
            note=", ".join(
                f"{name} {count:,}" for name, count in operations[user].most_common(OPERATIONS_SHOWN)
            ),
        )
        for user, total in totals.most_common()
    ]
    empty = None if rows else await no_records_beside(view, sources, of="records of people")
    return Ranking("", ranked, sum(totals.values()), empty=empty)


async def recent(view: View, sources: Sources) -> Shape:
    """The last hundred records."""
    of_all = _is_of_all(view)
    rows = await sources.ask(view, activity.RECENT_OF_ALL if of_all else activity.RECENT)
    headings = ("Time (UTC)", "Workload", "Operation", "Who", "From", "Result")
    grid = [
        [
            Cell(f"{_instant(at):%m-%d %H:%M:%S}", sorts=at, tone="muted"),
            Cell(workload_words(workload), narrows=("workload", workload) if workload else None),
            Cell(operation.rstrip("."), narrows=("operation", operation) if operation else None),
            Cell(user, narrows=("user", user) if user else None),
            Cell(address, narrows=("ip", address) if address else None),
            Cell(outcome, narrows=("result", outcome), tone=outcome),
        ]
        for at, workload, operation, user, address, outcome in rows
    ]
    return Grid(
        [Heading(one) for one in headings],
        grid,
        empty=None if rows else await no_records_beside(view, sources),
        cut=", ".join(
            [*(["the last 100"] if len(rows) == 100 else []), *([_LEFT_OUT] if rows and not of_all else [])]
        ),
    )


async def health(view: View, sources: Sources) -> Shape:
    """Whether each feed arrives: how far it is listed, what waits, what was lost or came twice."""
    feeds = await sources.list_feeds(view)
    if not feeds:
        return Grid((), (), empty=no_ledger(view, sources))
    headings = (
        Heading("Feed", wide=True),
        Heading("State"),
        Heading("Listed up to", numeric=True),
        Heading("Records", numeric=True),
        Heading("Waiting", numeric=True),
        Heading("Quarantined", numeric=True),
        Heading("Lost", numeric=True),
        Heading("Duplicates", numeric=True),
    )
    named = await names_of(view, sources, (one.feed for one in feeds))
    collector = await see_collector(sources, feeds)
    states = {one.feed: _state_of(one, view.now, collector) for one in feeds}
    worst = sorted(feeds, key=lambda one: (FEED_TONES.index(states[one.feed][1]), str(one.feed)))
    more = len(feeds) - FEEDS_SHOWN_MAX
    return Grid(
        headings,
        [_feed_row(one, view.now, states[one.feed], named=named) for one in worst[:FEEDS_SHOWN_MAX]],
        cut=f"and {more:,} more feeds, none of them in a worse state" if more > 0 else "",
    )


def _feed_row(feed: FeedProgress, now: datetime, state: tuple[str, str], *, named: Names) -> list[Cell]:
    words, tone = state
    lag_s = feed.lag_s(now)
    return [
        Cell(feed_words(feed.feed, named=named), narrows=("tenant", feed.feed.tenant_id)),
        Cell(words, tone=tone),
        Cell("never" if lag_s is None else f"{span_words(lag_s)} ago", sorts=lag_s or 0),
        Cell(f"{feed.records_delivered:,}", sorts=feed.records_delivered),
        counted_cell(feed.blobs_waiting, "medium"),
        counted_cell(feed.records_quarantined, "high"),
        counted_cell(feed.blobs_lost, "critical"),
        Cell(f"{feed.records_duplicate:,}", sorts=feed.records_duplicate, tone="muted"),
    ]


def _state_of(feed: FeedProgress, now: datetime, collector: CollectorSeen) -> tuple[str, str]:
    lag_s = feed.lag_s(now)
    if feed.last_error:
        return feed.last_error, "high"
    if feed.blobs_lost or feed.unlisted_s:
        return "something was lost", "critical"
    if lag_s is None:
        return "not listed yet", "medium"
    if collector.has_stopped:
        return "not running", "medium"
    return ("behind", "medium") if lag_s > LATE_S else ("in order", "ok")


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


PAGE = Page(
    "overview",
    "Overview",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel(
            "activity",
            "Activity over time",
            activity_over_time,
            width=6,
            says="Records by the time at which they happened. Drag over the chart to narrow the time.",
            tall="chart",
            is_live=True,
        ),
        Panel("alerts", "Open alerts", alerts, width=6, tall="chart", is_live=True),
        Panel("shares", "Shares", shares, tall="rows"),
        Panel("people", "Most active people", top_people, width=4, tall="chart"),
        Panel("changes", "Added, changed, removed", changes, width=4, tall="chart"),
        Panel("admin", "Administration", admin_activities, width=4, tall="chart"),
        Panel("health", "Collector health", health, tall="rows", is_live=True),
        Panel("recent", "Latest records", recent, tall="rows", is_live=True),
    ),
    says="What happens in your tenants, what was found, and whether everything arrives.",
    choices={"by": dict(BY)},
)
