"""Investigate: all that one person, address, application, mailbox or site did, on one axis of time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from m365watch.board.counted import bound_of, count_all, list_compared, list_courses, list_values, names_of
from m365watch.board.emptiness import no_records
from m365watch.board.lake_reader import Row
from m365watch.board.lit import lights_of
from m365watch.board.pages.alert import record_shown
from m365watch.board.pages.alerts import about, instant, is_narrow
from m365watch.board.panels import Page, Panel
from m365watch.board.pivots import field_url, pivot_url
from m365watch.board.queries import activity, trails
from m365watch.board.series import steps_of, ticks_of
from m365watch.board.shapes import (
    Cell,
    Empty,
    Grid,
    Heading,
    Lane,
    Lanes,
    Mark,
    Records,
    Several,
    Shape,
    Tile,
    Tiles,
)
from m365watch.board.sources import ACTIVE, Sources
from m365watch.board.time_range import TimeRange, instant_text, span_between
from m365watch.board.view import View
from m365watch.board.words import application_words, counted, short, workload_colour, workload_words
from m365watch.detect.extension import Severity
from m365watch.detect.kept import KeptAlert

WEEK_S = 7 * 86_400
ABOUT = ("user", "ip", "app", "operation")
"""What narrows a view to something that can be investigated, beside what is mentioned."""
COMPARED_SHOWN_MAX = 40
NOBODY = Empty(
    "Nobody and nothing is named yet.",
    "Choose one below, narrow the view above, or click a value on any page of an alert or a record.",
)
UNSEEN = Empty(
    "You see no contents of records, and a text is looked for in these alone.",
    "Name a person, an address or an application, or ask somebody who may see them.",
)
NOTHING_THEN = Empty(
    "The lake has no record at all of that other time, so that nothing can be told new.",
    "Choose another time to compare with: what is older than the lake is not known.",
)
ALL_NEW = "There is none of this in that other time, of which the lake has records: all of it is new."
_GROUPS = (
    ("workload", "", "Workloads", "c1"),
    ("operation", "operation", "Operations", "c1"),
    ("client_ip", "ip", "Addresses", "c3"),
    ("session", "session", "Sessions", "c4"),
    ("app_id", "app", "Applications", "c5"),
    ("user_id", "user", "People", "c2"),
)
"""Column, kind to pivot to, title and colour of the lanes."""
_COMPARED_WORDS = {
    "operation": ("operation", "Operation"),
    "client_ip": ("ip", "Address"),
    "app_id": ("app", "Application"),
    "user_id": ("user", "Person"),
}
"""By column the kind to pivot to, and the title."""
AGAINST = (("before", "The time before"), ("week", "A week earlier"), ("chosen", "Another time"))
NO_SPAN = Empty(
    "No other time is chosen yet, or it ends before it begins.",
    "Say above from when to when, in UTC, and compare.",
)


def is_about_something(view: View) -> bool:
    """Whether the view names whom or what it is about."""
    return bool(view.mentions) or any(view.narrowing.of(name) for name in ABOUT)


def _is_unseen(view: View) -> bool:
    """Whether a text is looked for by somebody who must not see any: no count may say whether it is there."""
    return bool(view.given("text")) and not view.access.sees_contents


def _concerns(view: View, kept: KeptAlert, records: Collection[object]) -> bool:
    """Whether the alert is about what the view is about, or rests on one of the records that are."""
    if not is_narrow(view, kept):
        return False
    values = [value.lower() for _, value in kept.alert.entities]
    is_named = all(any(wanted.lower() in value for value in values) for _, wanted in view.mentions)
    return is_named or any(one in records for one in kept.alert.evidence)


async def _alerts(view: View, sources: Sources) -> list[KeptAlert]:
    records: frozenset[object] = frozenset()
    if view.mentions:
        rows = await sources.ask(view, trails.trail(names_of(view)), **bound_of(view))
        records = frozenset(row[0] for row in rows)
    return [one for one in await sources.list_alerts(view) or [] if _concerns(view, one, records)]


async def figures(view: View, sources: Sources) -> Shape:
    """How much there is of it, and how bad it looks."""
    if not is_about_something(view) or _is_unseen(view):
        return Tiles([], empty=UNSEEN if _is_unseen(view) else NOBODY)
    row, alerts = await asyncio.gather(count_all(view, sources), _alerts(view, sources))
    total, failed, people, addresses, apps, sessions, first, last = row
    waiting = [one for one in alerts if one.state in ACTIVE]
    worst = max((one.alert.severity for one in waiting), key=lambda one: one.rank, default=None)
    risk = sum(one.alert.risk for one in waiting)
    seen = f"{_time(first)} to {_time(last)}" if total else "in this time"
    tone = str(worst) if worst is not None and worst.rank >= Severity.MEDIUM.rank else ""
    return Tiles(
        [
            Tile("Records", short(total), seen),
            Tile("Failed", short(failed), "or refused"),
            Tile("People", short(people)),
            Tile("Addresses", short(addresses)),
            Tile("Applications", short(apps), counted(sessions, "session", "sessions")),
            Tile("Risk", short(risk), counted(len(waiting), "alert waits", "alerts wait"), tone=tone),
        ]
    )


async def _courses(view: View, sources: Sources) -> list[Row]:
    if not is_about_something(view):
        return await sources.ask(view, trails.WORKLOAD_LANES)
    return await list_courses(view, sources)


async def timeline(view: View, sources: Sources) -> Shape:
    """Alerts, workloads, operations, addresses, sessions and applications on one axis of time."""
    step_s = view.range.lane_s
    instants = steps_of(view.range, step_s)
    rows, alerts, numbers = await asyncio.gather(
        _courses(view, sources), _alerts(view, sources), _numbers(view, sources)
    )
    counts: dict[str, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, value, at_s, count in rows:
        counts[name][value][at_s] = count
    groups = [("Alerts", _alert_lanes(view, alerts, instants))] if alerts else []
    for column, kind, title, colour in _GROUPS:
        lanes = [
            _lane(view, column, kind, value, colour, [at.get(one, 0) for one in instants])
            for value, at in counts[column].items()
        ]
        if len(lanes) > 1 or (lanes and not view.narrowing.of(kind)):
            said = _of_all(column, len(lanes), numbers[column])
            groups.append((title + said, sorted(lanes, key=lambda one: (-one.total, one.label))))
    return Lanes(
        instants[0],
        step_s,
        len(instants),
        groups,
        ticks_of(instants[0], span_s=len(instants) * step_s),
        empty=None if groups else await no_records(view, sources),
    )


async def _numbers(view: View, sources: Sources) -> Counter[str]:
    """How many values each column has, as far as they are told."""
    if not is_about_something(view):
        return Counter()
    return Counter(str(row[0]) for row in await list_values(view, sources))


def _of_all(column: str, shown: int, number: int) -> str:
    """What of the values has a lane, if some have none."""
    if number <= shown:
        return ""
    which = "the most frequent and the rarest" if column == "operation" else "the most frequent"
    return f": {which}, {shown} of {number:,}{'+' if number == trails.VALUES_MAX else ''}"


def _lane(view: View, column: str, kind: str, value: str, colour: str, values: list[int]) -> Lane:
    is_workload = column == "workload"
    label = workload_words(value) if is_workload else application_words(value) if kind == "app" else value
    url = (
        view.narrowed_url("/investigate", "workload", value) if is_workload else pivot_url(view, kind, value)
    )
    return Lane(label, url, workload_colour(value) if is_workload else colour, values, total=sum(values))


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
    found = await _alerts(view, sources)
    headings = (
        Heading("Severity"),
        Heading("What"),
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
    if _is_unseen(view):
        return Grid((), (), empty=UNSEEN)
    sheet = _sheet(view)
    trail = trails.trail(names_of(view), sheets=sheet)
    found, alerts = await asyncio.gather(
        sources.ask(view, trail, **bound_of(view)), sources.list_alerts(view)
    )
    first, end = (sheet - 1) * trails.TRAIL_MAX, sheet * trails.TRAIL_MAX
    rows, has_more = found[first:end], len(found) > end
    worst = _worst_of(alerts or [])
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
    record, at_s, workload, operation, user, address, outcome, target, *_ = (
        "" if one is None else str(one) for one in row
    )
    opens = view.url("/record", record=f"{at_s}:{record}") if record else ""
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
        Cell(target, url=field_url(view, "ObjectId", target)),
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


async def compare(view: View, sources: Sources) -> Shape:
    """What is new in this time against another one, and what there is no more."""
    if not is_about_something(view) or _is_unseen(view):
        return Several([], empty=UNSEEN if _is_unseen(view) else NOBODY)
    against = view.option("by", tuple(name for name, _ in AGAINST))
    other = _other_time(view, against)
    ends = (
        [instant_text(one).removesuffix("Z") for one in (other.start_s, other.end_s)] if other else ["", ""]
    )
    shown = Several([], choices=AGAINST, chosen=against, span=ends)
    if other is None:
        return replace(shown, empty=NO_SPAN)
    now, before = await asyncio.gather(
        list_values(view, sources), list_compared(replace(view, range=other), sources)
    )
    is_all_new = bool(now) and not before
    if is_all_new and not await _has_records(replace(view, range=other), sources):
        return replace(shown, empty=NOTHING_THEN)
    counts = [_counted(rows) for rows in (now, before)]
    parts = [
        _compared(view, title, kind, counts[0].get(column, {}), counts[1].get(column, {}))
        for column, (kind, title) in ((one, _COMPARED_WORDS[one]) for one in trails.COMPARED)
        if not view.narrowing.of(kind)
    ]
    if sources.knows_places:
        now_in, before_in = (_countries(one.get("client_ip", {}), sources) for one in counts)
        parts.append(_compared(view, "Country", "", now_in, before_in))
    empty = None if now else await no_records(view, sources)
    if is_all_new:
        parts[0] = replace(parts[0], cut=ALL_NEW)
    return replace(shown, parts=parts, empty=empty)


async def _has_records(view: View, sources: Sources) -> bool:
    """Whether the lake has any record of that time, whatever it is about."""
    rows = await sources.ask(view.of_everything, activity.TOTAL)
    return bool(rows and rows[0][0])


def _other_time(view: View, against: str) -> TimeRange | None:
    """The time that the view's own is compared with; None where it is still to be chosen."""
    span = view.range
    if against == "before":
        return span.before
    if against == "week":
        return TimeRange(span.start_s - WEEK_S, span.end_s - WEEK_S)
    return span_between(view.given("then_from"), view.given("then_to"))


def _counted(rows: Iterable[Sequence[object]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value, count, *_ in rows:
        found[str(name)][str(value)] = int(str(count))
    return found


def _countries(addresses: Mapping[str, int], sources: Sources) -> dict[str, int]:
    found: Counter[str] = Counter()
    for address, count in addresses.items():
        found[sources.places.locate(address).country or "unknown"] += count
    return dict(found)


def _compared(view: View, title: str, kind: str, now: Mapping[str, int], before: Mapping[str, int]) -> Grid:
    """The new ones first, then those that are gone, then the others by how much they changed."""

    def order(value: str) -> tuple[int, int, str]:
        is_new, is_gone = value not in before, value not in now
        change = abs(now.get(value, 0) - before.get(value, 0))
        return (0 if is_new else 1 if is_gone else 2, -change, value)

    every = sorted(now.keys() | before.keys(), key=order)
    rows = [
        [
            Cell(
                application_words(value) if kind == "app" else value,
                url=pivot_url(view, kind, value) if kind else "",
            ),
            *_standing(now.get(value, 0), before.get(value, 0)),
        ]
        for value in every[:COMPARED_SHOWN_MAX]
    ]
    headings = (Heading(title), Heading("Is"), Heading("Now", numeric=True), Heading("Then", numeric=True))
    return Grid(headings, rows, empty=None if rows else Empty(f"No {title.lower()} in either time."))


def _standing(now: int, before: int) -> list[Cell]:
    words, tone = ("new", "medium") if not before else ("gone", "low") if not now else ("", "")
    return [
        Cell(words, tone=tone),
        Cell(f"{now:,}", sorts=now),
        Cell(f"{before:,}", sorts=before, tone="muted"),
    ]


async def record(view: View, sources: Sources) -> Shape:
    """One record, field by field; what rules looked at that raised an alert for it is lit up."""
    at_s, _, record_id = view.given("record").partition(":")
    if not (record_id and at_s.isascii() and at_s.isdigit() and len(at_s) <= 11):
        return Records([], empty=Empty("No record is named.", "Open one from a timeline."))
    second = replace(view, range=TimeRange(int(at_s), int(at_s) + 1))
    rows = await sources.ask(second, trails.BY_ID, ids=[record_id])
    if not rows:
        return Records([], empty=Empty("The lake does not hold this record (any more)."))
    named = [one.alert for one in await sources.list_alerts(second) or [] if record_id in one.alert.evidence]
    rules = await sources.list_rules() if named else {}
    lights = [light for alert in named for light in lights_of(rules.get(alert.rule_id), rules)]
    return Records([record_shown(view, rows[0], lights)])


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
