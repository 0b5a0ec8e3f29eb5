"""What is new in one time against another: of a person, an address, or whatever is investigated."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.entity_counts import list_compared, list_values
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.time_range import DAY_S, HOUR_S, TimeRange, instant_text, span_between
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.entity_links import pivot_url
from m365watch.board.widgets.labels import country_words, span_words
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Several, Shape

ABOUT = ("user", "ip", "app", "operation")
"""What narrows a view to something that can be investigated, beside what is mentioned."""
NOBODY = Empty(
    "Nobody and nothing is named yet.",
    "Choose somebody of the alerts or of the most active people below, narrow the view above, or click a"
    " value on any page of an alert or a record.",
)
NOTHING_COMPARED = Empty("Once somebody or something is named, what is new about it stands here.")
UNSEEN = Empty(
    "You see no contents of records, and a text is looked for in these alone.",
    "Name a person, an address or an application, or ask somebody who may see them.",
)


def is_about_something(view: View) -> bool:
    """Whether the view names whom or what it is about."""
    return bool(view.mentions) or any(view.narrowing.of(name) for name in ABOUT)


def is_unseen(view: View) -> bool:
    """Whether a text is looked for by somebody who must not see any: no count may say whether it is there."""
    return bool(view.given("text")) and not view.access.sees_contents


def why_nothing(view: View, unnamed: Empty = NOBODY) -> Empty | None:
    """Why nothing is told, `unnamed` where it is about nobody; None where something can be."""
    if is_unseen(view):
        return UNSEEN
    return None if is_about_something(view) else unnamed


WEEK_S = 7 * 86_400
COMPARED_SHOWN_MAX = 40
NOTHING_THEN = Empty(
    "The lake has no record at all of that other time, so that nothing can be told new.",
    "Choose another time to compare with: what is older than the lake is not known.",
)
ALL_NEW = "There is none of this in that other time, of which the lake has records: all of it is new."
NOT_ALL = (
    f"Compared are the {trails.VALUES_MAX:,} most frequent of each time and the rarest: narrow the view,"
    " or choose a shorter time, to have all of them compared."
)
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


async def compare(view: View, sources: Sources) -> Shape:
    """What is new in this time against another one, and what there is no more."""
    if (why := why_nothing(view, NOTHING_COMPARED)) is not None:
        return Several([], empty=why)
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
    apps = {*counts[0].get("app_id", ()), *counts[1].get("app_id", ())}
    called = await name_applications(view, sources, apps)
    pace = Pace(view.range.span_s, other.span_s)
    parts = [
        _compared(
            view, title, kind, counts[0].get(column, {}), counts[1].get(column, {}), pace, called=called
        )
        for column, (kind, title) in ((one, _COMPARED_WORDS[one]) for one in trails.COMPARED)
        if not view.narrowing.of(kind)
    ]
    if sources.knows_places:
        now_in, before_in = (_countries(one.get("client_ip", {}), sources) for one in counts)
        parts.append(_compared(view, "Country", "", now_in, before_in, pace))
    empty = None if now else await no_records(view, sources)
    said = [*([ALL_NEW] if is_all_new else []), *([pace.words] if not pace.is_plain else [])]
    if said and parts:
        parts[0] = replace(parts[0], cut=" ".join([*said, parts[0].cut]).strip())
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


@dataclass(frozen=True, slots=True)
class Pace:
    """By what the counts of two times are held against each other: as they are, or each by its length."""

    now_s: int
    then_s: int

    @property
    def is_plain(self) -> bool:
        """Whether both are as long, so that counts can be compared."""
        return self.now_s == self.then_s

    @property
    def _unit_s(self) -> int:
        return DAY_S if min(self.now_s, self.then_s) >= DAY_S else HOUR_S

    @property
    def unit_words(self) -> str:
        """By what time it is counted, in words; empty where both are as long."""
        return "" if self.is_plain else " a day" if self._unit_s == DAY_S else " an hour"

    @property
    def sign(self) -> str:
        """What a heading, which has little room, adds to Now and Then."""
        return "" if self.is_plain else "/d" if self._unit_s == DAY_S else "/h"

    @property
    def words(self) -> str:
        """That they are of other lengths, and how they are compared."""
        now, then = (span_words(one) for one in (self.now_s, self.then_s))
        return f"This time is {now} long, the other {then}: compared is how much there is{self.unit_words}."

    def now(self, count: int) -> float:
        """What is compared of a count of this time."""
        return count if self.is_plain else count * self._unit_s / self.now_s

    def then(self, count: int) -> float:
        """What is compared of a count of the other time."""
        return count if self.is_plain else count * self._unit_s / self.then_s


def _number(value: float) -> Cell:
    """A count, or how many there are in a unit of time."""
    return Cell(f"{value:,.2g}" if 0 < value < 10 and value % 1 else f"{value:,.0f}", sorts=value)


def _counted(rows: Iterable[Sequence[object]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value, count, *_ in rows:
        found[str(name).removeprefix(trails.RARE)][str(value)] = int(str(count))
    return found


def _countries(addresses: Mapping[str, int], sources: Sources) -> dict[str, int]:
    found: Counter[str] = Counter()
    for address, count in addresses.items():
        found[country_words(sources.places.locate(address).country) or "unknown"] += count
    return dict(found)


def _compared(
    view: View,
    title: str,
    kind: str,
    now: Mapping[str, int],
    before: Mapping[str, int],
    pace: Pace,
    *,
    called: Mapping[str, str] = {},
) -> Grid:
    """The new ones first, then those that are gone, then the others by how much they changed."""

    def order(value: str) -> tuple[int, float, str]:
        is_new, is_gone = value not in before, value not in now
        change = abs(pace.now(now.get(value, 0)) - pace.then(before.get(value, 0)))
        return (0 if is_new else 1 if is_gone else 2, -change, value)

    every = sorted(now.keys() | before.keys(), key=order)
    all_now, all_then = (len(one) < trails.VALUES_MAX for one in (now, before))
    shown = f"{COMPARED_SHOWN_MAX} of {len(every):,} are shown." if len(every) > COMPARED_SHOWN_MAX else ""
    cut = " ".join(filter(None, (shown, "" if all_now and all_then else NOT_ALL)))
    rows = [
        [
            Cell(
                called.get(value, value),
                url=pivot_url(view, kind, value) if kind else "",
            ),
            *_standing(now.get(value, 0), before.get(value, 0), pace, all_now=all_now, all_then=all_then),
        ]
        for value in every[:COMPARED_SHOWN_MAX]
    ]
    columns = (Heading(f"{one}{pace.sign}", numeric=True) for one in ("Now", "Then"))
    headings = (Heading(title), Heading("Is"), *columns)
    none = None if rows else Empty(f"No {title.lower()} in either time.")
    return Grid(headings, rows, cut=cut, empty=none)


def _standing(now: int, before: int, pace: Pace, *, all_now: bool, all_then: bool) -> list[Cell]:
    words, tone = ("new", "medium") if not before else ("gone", "low") if not now else ("", "")
    if words and not (all_now if before else all_then):
        words += " or rare"
    return [
        Cell(words, tone=tone),
        _number(pace.now(now)),
        replace(_number(pace.then(before)), tone="muted"),
    ]
