"""One entity's whole story: over workloads and addresses, against another time, record by record."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from promises import guarantee

from asking import EVERYTHING, sources_of, view_of
from collected_week import CLOCK, TRUTH
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import investigation as investigate
from m365watch.board.pages import period_comparison as comparison
from m365watch.board.pages import sign_ins
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.entity_counts import (
    AT_ONCE_MAX,
    bound_of,
    count_all,
    ends_of,
    list_compared,
    list_courses,
    list_values,
    list_whole,
)
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.time_range import TimeRange
from m365watch.board.widgets.entity_links import field_url, pivot_url
from m365watch.board.widgets.widget_types import Grid, Lanes, Records, Several, Tiles
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))
PANELS = [one.name for one in investigate.PAGE.panels]


@pytest.fixture(scope="session")
def attacks(collected: Path) -> list[dict[str, Any]]:
    """What really happened, in the order of time."""
    found: list[dict[str, Any]] = json.loads((collected.parent / TRUTH).read_bytes())
    return found


@pytest.fixture
def victim(attacks: list[dict[str, Any]]) -> str:
    """Whose account the intruder took over last."""
    takeovers = [one for one in attacks if one["story"] == "inbox_rule_forwarding"]
    return str(takeovers[-1]["entities"]["user"][0])


def test_all_that_somebody_did_is_on_one_axis(sources: Sources, victim: str) -> None:
    """The lanes of the workloads add up to all of the person's records, and the alerts are among them."""
    view = view_of(f"range=30d&user={victim}")

    shape = asyncio.run(investigate.timeline(view, sources))
    [(total, *_)] = asyncio.run(sources.ask(view, trails.figures([])))

    assert isinstance(shape, Lanes)
    groups = dict(shape.groups)
    assert sum(lane.total for lane in groups["Workloads"]) == total > 0
    assert all(len(lane.values) == shape.steps for lane in groups["Workloads"])
    marks = [mark for lane in groups["Alerts"] for mark in lane.marks]
    assert marks
    assert all(0 <= mark.at <= 1 and mark.url.startswith("/alert?") for mark in marks)


@pytest.mark.parametrize("at_once", [AT_ONCE_MAX, 0])
@pytest.mark.parametrize("about", ["user", "ip", "operation"])
def test_one_look_tells_what_the_records_do(sources: Sources, victim: str, about: str, at_once: int) -> None:
    """Totals, values and courses are those of the records, whether one look tells them or many do."""
    person = view_of(f"range=30d&user={victim}")
    row = next(one for one in asyncio.run(sources.ask(person, trails.trail([]))) if one[5])
    value = {"user": victim, "ip": row[5], "operation": row[3]}[about]
    view = view_of(f"range=30d&{about}={value}")

    async def told() -> tuple[Any, ...]:
        totals, values, courses = await asyncio.gather(
            count_all(view, sources, at_once=at_once),
            list_values(view, sources, at_once=at_once),
            list_courses(view, sources, at_once=at_once),
        )
        return tuple(totals), {one[:3] for one in values}, set(courses)

    async def recorded() -> tuple[Any, ...]:
        totals, values, courses = await asyncio.gather(
            *(sources.ask(view, one([])) for one in (trails.figures, trails.values, trails.lanes))
        )
        return totals[0], {one[:3] for one in values}, set(courses)

    found, true = asyncio.run(told()), asyncio.run(recorded())

    assert found[:2] == true[:2]
    assert true[0][0] > 0
    only = {"user": "user_id", "ip": "client_ip", "operation": ""}[about]
    assert {one for one in found[2] if one[0] != only} == {one for one in true[2] if one[0] != only}


@pytest.mark.parametrize("at_once", [AT_ONCE_MAX, 0])
def test_times_are_compared_by_the_values_that_each_has(sources: Sources, at_once: int) -> None:
    """The other time is asked for fewer columns, and says of these what it says when asked for all."""
    view = view_of("range=30d&workload=Exchange")
    few, all_of_them = (
        asyncio.run(one(view, sources, at_once=at_once)) for one in (list_compared, list_values)
    )

    kept = [row for row in few if row[0] in trails.COMPARED]

    assert {row[0] for row in kept} == set(trails.COMPARED)
    assert sorted(kept) == sorted(row for row in all_of_them if row[0] in trails.COMPARED)


def test_what_alerts_rest_on_has_a_lane(sources: Sources, victim: str) -> None:
    """However rare it is; then come the rarest operations, and it is said of how many they are."""
    view = view_of(f"range=30d&user={victim}")
    every = [row for row in asyncio.run(list_values(view, sources)) if row[0] == "operation"]

    title, lanes = lanes_of(view, sources)
    _, in_mailbox = lanes_of(view_of(f"range=30d&mailbox={victim}"), sources)

    assert {"New-InboxRule", "UserLoggedIn"} <= lanes
    assert len(lanes) == trails.LANES_MAX + investigate.STANDING_OUT_MAX
    assert len(every) > len(lanes)
    assert title.startswith("Operations: the most frequent, then of alerts, and the rarest, 16 of ")
    assert {"New-InboxRule", "Set-Mailbox", "MailItemsAccessed"} <= in_mailbox


def lanes_of(view: View, sources: Sources) -> tuple[str, set[str]]:
    """The heading of the operations, and which have a lane."""
    shape = asyncio.run(investigate.timeline(view, sources))
    assert isinstance(shape, Lanes)
    title, lanes = next(one for one in shape.groups if one[0].startswith("Operations"))
    return title, {lane.label for lane in lanes}


@pytest.fixture(scope="module")
def crowded(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """A lake of one busy person: thirty addresses, each more often than the next, and one more seen twice."""
    folder = tmp_path_factory.mktemp("crowded")
    shutil.copy(collected, folder / "m365watch.json")
    at = CLOCK.now() - timedelta(hours=3)
    addresses = [f"192.0.2.{place}" for place in range(1, 31) for _ in range(33 - place)]
    records = [
        {"Id": str(number), "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "ClientIP": address, **BUSY}
        for number, address in enumerate([*addresses, *[INTRUDER] * 2])
    ]
    part = make_part([json.dumps(one).encode() for one in records], outputs=["lake"])
    AuditWriter(folder / "lake", app_id="crowd").append(make_batch(1, [part]))
    found = sources_of(folder / "m365watch.json")
    yield found
    assert found.facts is not None
    found.facts.close()


BUSY = {"RecordType": 2, "Operation": "Send", "Workload": "Exchange", "UserId": "ann@x", "UserType": 0}
INTRUDER = "203.0.113.66"


@pytest.mark.parametrize("about", ["user=ann@x", "operation=Send", "text=ann@x"])
def test_what_came_once_has_a_lane_beside_the_most_frequent(crowded: Sources, about: str) -> None:
    """However many there are, and it is said of how many; one click shows all of them."""
    few, all_of_them = (
        asyncio.run(investigate.timeline(view_of(f"range=24h&{about}{lanes}"), crowded))
        for lanes in ("", "&lanes=ip")
    )

    assert isinstance(few, Lanes)
    assert isinstance(all_of_them, Lanes)
    title, lanes = next(one for one in few.groups if one[0].startswith("Addresses"))
    whole, every = next(one for one in all_of_them.groups if one[0].startswith("Addresses"))
    assert title == "Addresses: the most frequent and the rarest, 12 of 31"
    assert {one.label for one in lanes[: trails.FEW]} == {f"192.0.2.{place}" for place in range(1, 7)}
    assert INTRUDER in {one.label for one in lanes}
    assert few.more[title][0] == "show all"
    assert "lanes=ip" in few.more[title][1]
    assert (whole, len(every), sum(one.total for one in every)) == ("Addresses", 31, 527)
    assert all_of_them.more[whole][0] == "show few"
    assert "lanes" not in all_of_them.more[whole][1]


@pytest.mark.parametrize("at_once", [AT_ONCE_MAX, 0])
def test_all_values_of_a_column_have_their_courses(crowded: Sources, at_once: int) -> None:
    """Also where each question has a rollup of its own."""
    view = view_of("range=24h&operation=Send")

    rows = asyncio.run(list_whole(view, crowded, "client_ip", at_once=at_once))

    assert len({value for _, value, *_ in rows}) == 31
    assert sum(row[3] for row in rows) == 527


def test_the_rarest_of_very_many_are_the_rarest_of_all() -> None:
    """Not those that are the rarest of as many as are told."""
    rows = [("client_ip", str(place), 1_000 - place, 0) for place in range(20)]
    rare = [(f"{trails.RARE}client_ip", f"rare {place}", 1, 0) for place in range(trails.FEW)]

    assert ends_of([*rare, *rows], 2) == {"client_ip": ["0", "1", "rare 4", "rare 5"]}
    assert ends_of(rows[:3], 2) == {"client_ip": ["0", "1", "2"]}


IN_A_MAILBOX = """
SELECT operation, user_id, lower(json_extract_string(raw, '$.MailboxOwnerUPN')) AS owner FROM audit
WHERE workload = 'Exchange' AND owner IS NOT NULL
"""


@guarantee(45)
def test_a_mailbox_is_what_was_done_in_it_by_whomever(sources: Sources) -> None:
    """A delegate's deeds are there, and what was set on it; not the owner's others, nor other mailboxes."""
    lake = sources.settings.lake_directory
    assert lake is not None
    rows = LakeReader(lake).query(IN_A_MAILBOX, rows_max=100_000).rows
    done = [tuple(str(one).lower() if place else str(one) for place, one in enumerate(row)) for row in rows]
    owner = next(owner for _, user, owner in done if user != owner and "@" in user)
    view = view_of(f"range=90d&mailbox={owner}")
    found = asyncio.run(sources.ask(view, trails.trail(["mailbox"], sheets=50), mailbox=owner))
    kept = [(one[3], one[4]) for one in found]

    assert sorted(one for one in kept if one[0] not in CMDLETS) == sorted(
        (operation, user) for operation, user, whose in done if whose == owner
    )
    assert len({user for _, user in kept}) > 1
    assert {one[2] for one in found} == {"Exchange"}


CMDLETS = {"New-InboxRule", "Set-Mailbox", "Add-MailboxPermission", "Add-RecipientPermission"}


def test_what_everybody_does_takes_no_lane_from_what_was_done_once() -> None:
    """Some rule of the alerts asks for operations of every day as well: what asks for little counts more."""
    everyday = [f"FileTouched{number}" for number in range(2 * investigate.STANDING_OUT_MAX)]
    operations = ["New-InboxRule", *everyday, "HardDelete", "AnonymousLinkUsed"]
    wide = {*(one.lower() for one in everyday), "harddelete"}

    chosen = investigate.telling_of(operations, [wide, {"new-inboxrule", "set-inboxrule"}])

    assert chosen[:3] == ["New-InboxRule", "HardDelete", everyday[-1]]
    assert len(chosen) == investigate.STANDING_OUT_MAX
    assert investigate.telling_of(operations, [])[:2] == ["AnonymousLinkUsed", "HardDelete"]


def test_records_are_turned_over_sheet_by_sheet(sources: Sources, victim: str) -> None:
    """Every record of the time is on one sheet, and on no other."""
    view = view_of("range=30d&workload=Exchange")
    total = asyncio.run(count_all(view, sources))[0]
    assert total > 2 * trails.TRAIL_MAX
    found: list[str] = []
    for sheet in range(1, trails.SHEETS_MAX + 1):
        about = view_of(f"range=30d&workload=Exchange&text=Exchange&sheet={sheet}")
        shape = asyncio.run(investigate.records(about, sources))
        assert isinstance(shape, Grid)
        found += [row[0].url for row in shape.rows]
        assert bool(shape.later) == (sheet > 1)
        if not shape.earlier:
            break
    records = [unquote(re.findall(r"record=([^&]+)", one)[0]) for one in found if one]
    at_once = asyncio.run(sources.ask(view, trails.trail([], sheets=trails.SHEETS_MAX)))
    assert records == [f"{row[1]}:{row[0]}" for row in at_once]
    assert len(records) == total <= trails.SHEETS_MAX * trails.TRAIL_MAX


def test_records_that_an_alert_rests_on_stand_out(sources: Sources, victim: str) -> None:
    """In the colour of the gravest alert."""
    view = view_of(f"range=30d&user={victim}")
    shape = asyncio.run(investigate.records(view, sources))
    assert isinstance(shape, Grid)
    alerts = asyncio.run(sources.list_alerts(view)) or []
    for row in shape.rows:
        name = re.findall(r"record=\d+%3A([^&]+)", row[0].url)[0]
        on_it = [one.alert.severity for one in alerts if unquote(name) in one.alert.evidence]
        assert row[2].tone == (str(max(on_it, key=lambda one: one.rank)) if on_it else "")
    assert any(row[2].tone for row in shape.rows)


MENTIONED = ["session", "mailbox", "site", "text"]


@pytest.mark.parametrize("kind", MENTIONED)
def test_what_has_no_column_is_found_in_records(sources: Sources, victim: str, kind: str) -> None:
    """A session, a mailbox, a site, any text: its records are found, and others are not."""
    view = view_of(f"range=30d&user={victim}")
    rows = asyncio.run(sources.ask(view, trails.trail([])))
    session = next(row[1] for row in asyncio.run(list_values(view, sources)) if row[0] == "session")
    site = next(
        row[7] for row in rows if row[2] in {"SharePoint", "OneDrive"} and row[7].startswith("https://")
    )
    text = {"session": session, "mailbox": victim, "site": "/".join(site.split("/")[:5]), "text": rows[0][0]}[
        kind
    ]
    about = view_of(f"range=30d&{kind}={text.upper()}")

    found = asyncio.run(investigate.records(about, sources))
    nothing = asyncio.run(investigate.records(view_of(f"range=30d&{kind}=nowhere-to-be-found"), sources))

    assert isinstance(found, Grid)
    assert len(found.rows) > 0
    assert nothing.empty
    assert kind != "text" or len(found.rows) == 1


@pytest.mark.parametrize("given", ["abc", "1:", ":x", "99999999999999:x"])
def test_what_names_no_record_in_full_is_told_so(sources: Sources, given: str) -> None:
    """Something is named, and it is not as ours are: cut short on its way, as a rule."""
    shape = asyncio.run(investigate.record(view_of(f"record={given}"), sources))
    unnamed = asyncio.run(investigate.record(view_of(""), sources))

    assert isinstance(shape, Records)
    assert isinstance(unnamed, Records)
    assert shape.empty
    assert unnamed.empty
    assert (shape.empty.why, unnamed.empty.why) == (
        "This is no record's address, or not all of it.",
        "No record is named.",
    )


def test_a_text_is_found_as_json_writes_it(sources: Sources) -> None:
    """A value with a backslash or a quotation mark is looked for as records have it."""
    view = view_of('range=30d&text=a"b\\c')

    assert bound_of(view) == {"text": 'a"b\\c', "escaped": 'a\\"b\\\\c'}
    assert asyncio.run(sources.ask(view, trails.trail(["text"]), **bound_of(view))) == []


def test_what_is_new_stands_first(sources: Sources, victim: str) -> None:
    """Against the time before: what was not there then comes before what was."""
    view = view_of(f"range=30d&user={victim}")
    [(*_, first, last)] = asyncio.run(sources.ask(view, trails.figures([])))
    late = replace(view, range=TimeRange((first + last) // 2, last + 1))

    shape = asyncio.run(comparison.compare(late, sources))
    nothing_before = asyncio.run(comparison.compare(view, sources))
    chosen = f"range=30d&user={victim}&by=chosen&then_from={first}&then_to={(first + last) // 2}"
    other = asyncio.run(
        comparison.compare(replace(view_of(chosen), range=TimeRange((first + last) // 2, last + 1)), sources)
    )
    unread = asyncio.run(comparison.compare(view_of(f"user={victim}&by=chosen&then_from=x"), sources))

    assert isinstance(shape, Several)
    words = [row[1].text for grid in shape.parts if isinstance(grid, Grid) for row in grid.rows]
    assert {"new"} <= set(words)
    for grid in shape.parts:
        assert isinstance(grid, Grid)
        order = [["new", "gone", ""].index(row[1].text) for row in grid.rows]
        assert order == sorted(order)
        assert all(row[3].text == "0" for row in grid.rows if row[1].text == "new")
    assert nothing_before.empty
    assert isinstance(other, Several)
    assert (other.chosen, other.empty) == ("chosen", None)
    assert any(row[1].text == "new" for grid in other.parts if isinstance(grid, Grid) for row in grid.rows)
    assert unread.empty == comparison.NO_SPAN


def test_times_of_unlike_length_are_compared_by_the_hour_or_day(sources: Sources, victim: str) -> None:
    """Twice as much in twice the time is no change; it is said, and what is new is new all the same."""
    view = view_of(f"range=30d&user={victim}")
    [(*_, first, last)] = asyncio.run(sources.ask(view, trails.figures([])))
    middle = (first + last) // 2 // 3600 * 3600
    span_s = middle - first // 3600 * 3600 + 7_200
    pace = comparison.Pace(span_s, 2 * span_s)

    def compared(then_s: int) -> list[Grid]:
        by = f"by=chosen&then_from={middle - then_s}&then_to={middle}"
        late = replace(view_of(f"user={victim}&{by}"), range=TimeRange(middle, middle + span_s))
        shape = asyncio.run(comparison.compare(late, sources))
        assert isinstance(shape, Several)
        return [one for one in shape.parts if isinstance(one, Grid)]

    alike, unlike = compared(span_s), compared(2 * span_s)

    assert [one.text for one in alike[0].headings[2:]] == ["Now", "Then"]
    assert [one.text for one in unlike[0].headings[2:]] == [f"{one}{pace.sign}" for one in ("Now", "Then")]
    assert (alike[0].cut, unlike[0].cut) == ("", pace.words)
    plain = {row[0].text: int(row[2].sorts or 0) for row in alike[0].rows}
    paced = {row[0].text: row[2].sorts for row in unlike[0].rows}
    assert plain.keys() & paced.keys()
    assert all(paced[name] == pace.now(plain[name]) for name in plain.keys() & paced.keys())


def test_the_shorter_of_two_times_says_by_what_they_are_compared() -> None:
    """By the day, or by the hour where one of them is no day long; of one length, as they are."""
    hour, days = comparison.Pace(3_600, 7_200), comparison.Pace(4 * 86_400, 2 * 86_400)

    assert (hour.now(10), hour.then(10), hour.unit_words) == (10, 5, " an hour")
    assert (days.now(10), days.then(10), days.sign) == (2.5, 5, "/d")
    assert days.words == "This time is 4 d long, the other 2 d: compared is how much there is a day."
    assert comparison.Pace(7_200, 7_200).now(10) == 10


def test_a_record_is_shown_whole(sources: Sources, victim: str) -> None:
    """By second and id, wherever the view's time is; every field has its line."""
    view = view_of(f"range=30d&user={victim}")
    row = asyncio.run(sources.ask(view, trails.trail([])))[0]

    shape = asyncio.run(investigate.record(view_of(f"range=1h&record={row[1]}:{row[0]}"), sources))
    odd = [
        asyncio.run(investigate.record(view_of(f"record={one}"), sources)) for one in ("", ":", "x:1", "1:x")
    ]

    assert isinstance(shape, Records)
    [shown] = shape.rows
    record = json.loads(shown.raw)
    assert shown.id == record["Id"] == row[0]
    assert set(record) <= {line.name for line in shown.lines}
    assert all(one.empty for one in odd)


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("about", ["user", "text", "record"])
def test_a_stranger_investigates_nothing(sources: Sources, victim: str, panel: str, about: str) -> None:
    """Whoever may see another tenant finds nothing of this one by any name, text or id."""
    row = asyncio.run(sources.ask(view_of(f"range=30d&user={victim}"), trails.trail([])))[0]
    given = {"user": f"user={victim}", "text": f"text={victim}", "record": f"record={row[1]}:{row[0]}"}[about]
    loads = {one.name: one.load for page in (investigate.PAGE, investigate.RECORD) for one in page.panels}

    shape = asyncio.run(
        loads["record" if about == "record" else panel](view_of(f"range=30d&{given}", STRANGER), sources)
    )

    if isinstance(shape, Tiles) and not shape.empty:
        assert shape.tiles[0].value == "0"
    else:
        assert shape.empty


def test_a_pivot_keeps_time_and_tenant_alone() -> None:
    """One click on a value leads to all that has it, not to what is left under all other filters."""
    view = view_of("range=24h&user=ann%40x&workload=Exchange&tenant=t1&rule=r", EVERYTHING)

    assert pivot_url(view, "ip", "192.0.2.1") == "/investigate?range=24h&tenant=t1&ip=192.0.2.1"
    assert pivot_url(view, "file", "a b") == "/investigate?range=24h&tenant=t1&text=a+b"
    assert field_url(view, "ClientIP", "[::ffff:192.0.2.1]:443").endswith("&ip=192.0.2.1")
    assert field_url(view, "Version", "1") == ""


def test_what_half_of_all_records_have_is_not_looked_for_as_a_text() -> None:
    """A workload, a tenant and a type narrow; a word such as False leads nowhere."""
    view = view_of()

    assert field_url(view, "Workload", "Exchange") == "/overview?workload=Exchange"
    assert field_url(view, "OrganizationId", "5DF5").startswith("/overview?tenant=")
    assert field_url(view, "RecordType", "15") == "/overview?type=15"
    assert field_url(view, "RecordType", "odd") == ""
    assert [field_url(view, "ResultStatus", one) for one in ("Success", "False", "true")] == [""] * 3


def test_what_is_all_new_is_shown_where_the_lake_has_that_other_time(sources: Sources) -> None:
    """Where it begins later nothing can be told new, networks included; of what comes later all is."""
    [(first_s,)] = asyncio.run(sources.ask(view_of("range=90d"), Query("SELECT min(at_s) FROM facts")))
    [(operation, begun_s)] = asyncio.run(
        sources.ask(
            view_of("range=90d"),
            Query("SELECT operation, min(at_s) FROM facts GROUP BY ALL ORDER BY 2 DESC LIMIT 1"),
        )
    )
    begun_s -= begun_s % 3600
    later = f"operation={operation}&from={begun_s}&to={2 * begun_s - first_s}"
    alone = asyncio.run(comparison.compare(view_of(later), sources))
    unknown = asyncio.run(comparison.compare(view_of(f"operation={operation}&range=90d"), sources))
    networks = asyncio.run(sign_ins.networks(view_of("range=90d"), sources))

    assert isinstance(alone, Several)
    grids = [one for one in alone.parts if isinstance(one, Grid)]
    assert grids[0].cut == comparison.ALL_NEW
    assert {row[1].text for grid in grids for row in grid.rows} == {"new"}
    assert unknown.empty == comparison.NOTHING_THEN
    assert networks.empty is not None
    assert "cannot be told" in networks.empty.why
