"""Investigate: all that one person, address, application, mailbox or site did, on one axis of time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from m365watch.board.pages.alert import name_apps_of, record_shown
from m365watch.board.pages.alerts import about, instant
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.pages.period_comparison import (
    AGAINST,
    UNSEEN,
    compare,
    is_about_something,
    is_unseen,
    why_nothing,
)
from m365watch.board.query.alert_selection import list_meant, to_mark
from m365watch.board.query.data_sources import ACTIVE, Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.entity_counts import (
    bound_of,
    count_all,
    list_course,
    list_courses,
    list_values,
    list_whole,
    names_of,
)
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.time_range import TimeRange
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.entity_links import field_url, pivot_url
from m365watch.board.widgets.field_highlight import lights_of, operations_asked
from m365watch.board.widgets.labels import application_words, counted, short, workload_colour, workload_words
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.time_series import steps_of, ticks_of
from m365watch.board.widgets.widget_types import (
    Cell,
    Empty,
    Grid,
    Heading,
    Lane,
    Lanes,
    Mark,
    Records,
    Shape,
    Tile,
    Tiles,
)
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.rules.extension import Severity

STANDING_OUT_MAX = 8
"""Operations that have a lane beside the most frequent ones."""
_GROUPS = (
    ("workload", "", "Workloads", "c1"),
    ("operation", "operation", "Operations", "c1"),
    ("client_ip", "ip", "Addresses", "c3"),
    ("session", "session", "Sessions", "c4"),
    ("app_id", "app", "Applications", "c5"),
    ("user_id", "user", "People", "c2"),
)
"""Column, kind to pivot to, title and colour of the lanes."""
WHOLE = ("", "ip", "session", "app", "user")
"""Of which kind all lanes may be shown."""


def _concerns(view: View, kept: KeptAlert, records: Collection[object]) -> bool:
    """Whether the alert names what the view is about beside, or rests on one of the records that do."""
    values = [value.lower() for _, value in kept.alert.entities]
    is_named = all(any(wanted.lower() in value for value in values) for _, wanted in view.mentions)
    return is_named or any(one in records for one in kept.alert.evidence)


async def _alerts(view: View, sources: Sources) -> list[KeptAlert]:
    records: frozenset[object] = frozenset()
    if view.mentions:
        rows = await sources.ask(view, trails.trail(names_of(view)), **bound_of(view))
        records = frozenset(row[0] for row in rows)
    meant = await list_meant(view, sources)
    return [one for one in meant.alerts if _concerns(view, one, records)] if meant else []


async def figures(view: View, sources: Sources) -> Shape:
    """How much there is of it, and how bad it looks."""
    if (why := why_nothing(view)) is not None:
        return Tiles([], empty=why)
    row, alerts = await asyncio.gather(count_all(view, sources), _alerts(view, sources))
    total, failed, people, addresses, apps, sessions, first, last = row
    waiting = [one for one in alerts if one.state in ACTIVE]
    worst = max((one.alert.severity for one in waiting), key=lambda one: one.rank, default=None)
    risk = sum(one.alert.risk for one in waiting)
    seen = f"{_time(first)} to {_time(last)}" if total else "in this time"
    tone = str(worst) if worst is not None and worst.rank >= Severity.MEDIUM.rank else ""
    tiles = [
        Tile("Records", short(total), seen),
        Tile("Failed", short(failed), "or refused"),
        Tile("People", short(people)),
        Tile("Addresses", short(addresses)),
        Tile("Applications", short(apps), counted(sessions, "session", "sessions")),
        Tile("Risk", short(risk), f"{counted(len(waiting), 'alert', 'alerts')} not closed", tone=tone),
    ]
    return await figures_here(view, sources, tiles)


async def _courses(view: View, sources: Sources) -> list[Row]:
    if not is_about_something(view):
        return await sources.ask(view, trails.WORKLOAD_LANES)
    return await list_courses(view, sources)


async def timeline(view: View, sources: Sources) -> Shape:
    """Alerts, workloads, operations, addresses, sessions and applications on one axis of time."""
    step_s = view.range.lane_s
    instants = steps_of(view.range, step_s)
    if is_unseen(view):
        return Lanes(instants[0], step_s, len(instants), [], empty=UNSEEN)
    rows, alerts, values = await asyncio.gather(
        _courses(view, sources), to_mark(_alerts(view, sources)), _values(view, sources)
    )
    rows = rows + await _standing_out(view, sources, rows, values, alerts)
    whole = view.option("lanes", WHOLE)
    column_shown = next((column for column, kind, *_ in _GROUPS if whole and kind == whole), "")
    if column_shown and is_about_something(view):
        rows = [row for row in rows if row[0] != column_shown]
        rows += await list_whole(view, sources, column_shown)
    numbers = Counter(name.removeprefix(trails.RARE) for name, _ in values)
    more = {}
    counts: dict[str, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, value, at_s, count in rows:
        counts[name][value][at_s] = count
    named = await name_applications(view, sources, counts["app_id"])
    groups = [("Alerts", _alert_lanes(view, alerts, instants))] if alerts else []
    for column, kind, title, colour in _GROUPS:
        lanes = [
            _lane(view, kind, value, named.get(value, value), colour, [at.get(one, 0) for one in instants])
            for value, at in counts[column].items()
        ]
        if len(lanes) > 1 or (lanes and not view.narrowing.of(kind)):
            said = title + _of_all(column, len(lanes), numbers[column])
            groups.append((said, sorted(lanes, key=lambda one: (-one.total, one.label))))
            if kind in WHOLE and numbers[column] > 2 * trails.FEW:
                more[said] = _way_to(view, kind, numbers[column], is_whole=column == column_shown)
    return Lanes(
        instants[0],
        step_s,
        len(instants),
        groups,
        ticks_of(instants[0], span_s=len(instants) * step_s),
        more,
        empty=None if groups else await no_records(view, sources),
    )


async def _values(view: View, sources: Sources) -> list[tuple[str, str]]:
    """Column and value of all that there is, the most frequent of a column first."""
    if not is_about_something(view):
        return []
    found = await list_values(view, sources)
    return [(str(row[0]), str(row[1])) for row in sorted(found, key=lambda row: -row[2])]


async def _standing_out(
    view: View,
    sources: Sources,
    rows: Sequence[Row],
    values: Sequence[tuple[str, str]],
    alerts: Sequence[KeptAlert],
) -> list[Row]:
    """The courses of operations that the alerts' rules name, and of the rarest: intruders do them once."""
    shown = {value for name, value, *_ in rows if name == "operation"}
    left = [value for name, value in values if name == "operation" and value not in shown]
    rules = await sources.list_rules() if alerts else {}
    asked = {one: operations_asked(rules.get(one), rules) for one in {one.alert.rule_id for one in alerts}}
    wanted = telling_of(left, asked.values())
    return await list_course(view, sources, wanted) if wanted else []


def telling_of(operations: Sequence[str], asked: Iterable[Collection[str]]) -> list[str]:
    """At most `STANDING_OUT_MAX` of `operations` (most frequent first): those rules ask for, then the rarest.

    Of a dozen alerts some rule asks for what people do all day, too: what a rule asks for that asks for
    little else comes first, and then what is rarer.
    """
    narrowness: dict[str, int] = {}
    for named in asked:
        for one in named:
            narrowness[one] = min(narrowness.get(one, len(named)), len(named))
    rarest = list(reversed(operations))
    alerted = [one for one in rarest if normalise_operation(one) in narrowness]
    alerted.sort(key=lambda one: narrowness[normalise_operation(one)])
    return list(dict.fromkeys([*alerted, *rarest]))[:STANDING_OUT_MAX]


def _way_to(view: View, kind: str, number: int, *, is_whole: bool) -> tuple[str, str]:
    """In words, and as a URL: to the lanes of all values of a kind, or of few again."""
    words = "show few" if is_whole else "show all" if number <= 2 * trails.MANY else "show more"
    return words, f"{view.url('/investigate', lanes='' if is_whole else kind)}#panel-timeline"


def _of_all(column: str, shown: int, number: int) -> str:
    """What of the values has a lane, if some have none."""
    if number <= shown:
        return ""
    which = "the most frequent and the rarest"
    if column == "operation":
        which = "the most frequent, then of alerts, and the rarest"
    every = f"{number:,}" if number < trails.VALUES_MAX else f"{trails.VALUES_MAX:,}+"
    return f": {which}, {shown} of {every}"


def _lane(view: View, kind: str, value: str, named: str, colour: str, values: list[int]) -> Lane:
    """A value's lane; without a kind to pivot to it is a workload's."""
    if kind:
        return Lane(named, pivot_url(view, kind, value), colour, values, total=sum(values))
    url = view.narrowed_url("/investigate", "workload", value)
    return Lane(workload_words(value), url, workload_colour(value), values, total=sum(values))


def _alert_lanes(view: View, alerts: Sequence[KeptAlert], instants: Sequence[int]) -> list[Lane]:
    start_s, span_s = instants[0], len(instants) * view.range.lane_s
    lanes = []
    for severity in reversed(Severity):
        of = [one.alert for one in alerts if one.alert.severity is severity]
        marks = [
            Mark(
                min(max((one.last_at_ms / 1000 - start_s) / span_s, 0), 1),
                str(severity),
                f"{one.title}, {instant(one.last_at_ms)}",
                view.url("/alert", alert=one.id),
            )
            for one in sorted(of, key=lambda one: one.last_at_ms)
        ]
        if marks:
            lanes.append(Lane(str(severity).capitalize(), "", str(severity), marks=marks, total=len(marks)))
    return lanes


async def alerts_about(view: View, sources: Sources) -> Shape:
    """The alerts that are about it."""
    if not is_about_something(view):
        return await about(view, sources)
    if is_unseen(view):
        return Grid((), (), empty=UNSEEN)
    found = await _alerts(view, sources)
    headings = (
        Heading("Severity"),
        Heading("What", wide=True),
        Heading("State"),
        Heading("Last (UTC)"),
        Heading("How it came about", wide=True),
    )
    rows = [
        [
            Cell(
                str(one.alert.severity).capitalize(),
                tone=str(one.alert.severity),
                sorts=one.alert.severity.rank,
            ),
            Cell(one.alert.title, url=view.url("/alert", alert=one.alert.id)),
            Cell(str(one.state).capitalize(), tone="" if one.state in ACTIVE else "muted"),
            Cell(instant(one.alert.last_at_ms), sorts=one.alert.last_at_ms, tone="muted"),
            Cell(one.alert.explanation, tone="muted"),
        ]
        for one in found[:100]
    ]
    return Grid(headings, rows, empty=None if rows else Empty("No alert is about it in this time."))


async def records(view: View, sources: Sources) -> Shape:
    """What it did, the newest first; a time opens the record, any other value leads to all that has it."""
    if not is_about_something(view):
        return await _most_active(view, sources)
    if is_unseen(view):
        return Grid((), (), empty=UNSEEN)
    sheet = _sheet(view)
    trail = trails.trail(names_of(view), sheets=sheet)
    found, alerts = await asyncio.gather(
        sources.ask(view, trail, **bound_of(view)), to_mark(sources.list_alerts(view))
    )
    first, end = (sheet - 1) * trails.TRAIL_MAX, sheet * trails.TRAIL_MAX
    rows, has_more = found[first:end], len(found) > end
    worst = _worst_of(alerts)
    headings = ("Time (UTC)", "Workload", "Operation", "Who", "From", "Result", "What it was about")
    return Grid(
        [Heading(one) for one in headings],
        [_record_cells(view, row, worst.get(row[0])) for row in rows],
        cut=_cut(first, len(rows), has_more=has_more),
        earlier=view.url("/investigate", sheet=str(sheet + 1))
        if has_more and sheet < trails.SHEETS_MAX
        else "",
        later=view.url("/investigate", sheet=str(sheet - 1)) if sheet > 1 else "",
        empty=None if rows else await no_records(view, sources),
    )


def _sheet(view: View) -> int:
    given = view.given("sheet")
    number = int(given) if given.isascii() and given.isdigit() and len(given) <= 3 else 1
    return min(max(number, 1), trails.SHEETS_MAX)


def _cut(first: int, count: int, *, has_more: bool) -> str:
    if not (first or has_more):
        return ""
    said = f"Records {first + 1:,} to {first + count:,}, the newest first."
    is_last = has_more and first + count >= trails.SHEETS_MAX * trails.TRAIL_MAX
    return f"{said} There are more: choose a shorter time." if is_last else said


def _worst_of(alerts: Iterable[KeptAlert]) -> dict[str, Severity]:
    """The gravest severity of the alerts that rest on it, by record."""
    found: dict[str, Severity] = {}
    for kept in sorted(alerts, key=lambda one: one.alert.severity.rank):
        found |= dict.fromkeys(kept.alert.evidence, kept.alert.severity)
    return found


def _record_cells(view: View, row: Sequence[object], worst: Severity | None) -> list[Cell]:
    record, at_s, workload, operation, user, address, outcome, target = (
        "" if one is None else str(one) for one in row
    )
    opens = view.option_url("/record", "record", f"{at_s}:{record}") if record else ""
    return [
        Cell(f"{datetime.fromtimestamp(int(at_s), UTC):%m-%d %H:%M:%S}", sorts=int(at_s), url=opens),
        Cell(workload_words(workload), narrows=("workload", workload) if workload else None),
        Cell(
            operation,
            url=pivot_url(view, "operation", operation) if operation else "",
            tone=str(worst) if worst else "",
        ),
        Cell(user, url=pivot_url(view, "user", user) if user else ""),
        Cell(address, url=pivot_url(view, "ip", address) if address else ""),
        Cell(outcome, tone=outcome),
        Cell(application_words(target), url=field_url(view, "ObjectId", target)),
    ]


async def _most_active(view: View, sources: Sources) -> Shape:
    rows = await sources.ask(view, activity.share_of("user_id"))
    people = [(user, count) for user, count in rows if "@" in user][:30]
    headings = (Heading("Who"), Heading("Records", numeric=True))
    return Grid(
        headings,
        [
            [Cell(user, url=pivot_url(view, "user", user)), Cell(f"{count:,}", sorts=count)]
            for user, count in people
        ],
        title="Most active people",
        empty=None if people else await no_records(view, sources),
    )


async def record(view: View, sources: Sources) -> Shape:
    """One record, field by field; what rules looked at that raised an alert for it is lit up."""
    given = view.given("record")
    at_s, _, record_id = given.partition(":")
    if not (record_id and at_s.isascii() and at_s.isdigit() and len(at_s) <= 11):
        why = "This is no record's address, or not all of it." if given else "No record is named."
        return Records([], empty=Empty(why, "Open one from a timeline."))
    second = replace(view, range=TimeRange(int(at_s), int(at_s) + 1))
    rows = await sources.ask(second, trails.BY_ID, ids=[record_id])
    if not rows:
        return Records([], empty=Empty("The lake does not hold this record (any more)."))
    alerts = await to_mark(sources.list_alerts(second))
    named = [one.alert for one in alerts if record_id in one.alert.evidence]
    rules = await sources.list_rules() if named else {}
    lights = [light for alert in named for light in lights_of(rules.get(alert.rule_id), rules)]
    apps = await name_apps_of(view, sources, rows)
    return Records([replace(record_shown(view, rows[0], lights, apps), is_open=True)])


async def rested_on(view: View, sources: Sources) -> Shape:
    """The alerts that rest on the record."""
    at_s, _, record_id = view.given("record").partition(":")
    is_named = record_id and at_s.isascii() and at_s.isdigit() and len(at_s) <= 11
    second = replace(view, range=TimeRange(int(at_s), int(at_s) + 1)) if is_named else view
    found = await sources.list_alerts(second) or [] if is_named else []
    ranked = [one for one in found if record_id in one.alert.evidence]
    rows = [
        [
            Cell(one.alert.title, url=view.url("/alert", alert=one.alert.id, record="")),
            Cell(str(one.alert.severity).capitalize(), tone=str(one.alert.severity)),
        ]
        for one in ranked
    ]
    empty = None if rows else Empty("No alert rests on it.")
    return Grid((Heading("Alert", wide=True), Heading("Severity")), rows, empty=empty)


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M}"


PAGE = Page(
    "investigate",
    "Investigate",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel(
            "timeline",
            "On one axis of time",
            timeline,
            says="Drag over a lane to narrow the time; a name leads to all that has it.",
            tall="chart",
        ),
        Panel("alerts", "Alerts", alerts_about, tall="rows", is_live=True),
        Panel("compare", "What is new", compare, tall="rows"),
        Panel(
            "records",
            "Records",
            records,
            says="An operation in the colour of a severity is what an alert rests on.",
            tall="rows",
        ),
    ),
    says="One person, address, application, mailbox, site or session. Every value leads to all that has it.",
    choices={"by": dict(AGAINST), "lanes": WHOLE[1:]},
)
RECORD = Page(
    "record",
    "Record",
    (
        Panel("record", "Record", record, width=8, tall="rows"),
        Panel("alerts", "Alerts that rest on it", rested_on, width=4, tall="rows"),
    ),
    says="Every value leads to all that has it.",
    under="investigate",
)
