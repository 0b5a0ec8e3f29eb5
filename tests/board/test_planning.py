"""Whatever a query's facts are taken from, its answer is the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from promises import guarantee

from asking import view_of
from collected_week import CLOCK
from m365watch.board.query import fact_queries as lake_reader
from m365watch.board.query import internal_domains
from m365watch.board.query.fact_queries import FactsReader, Row, newest_first
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import (
    LOOKED_FOR_MAX,
    Query,
    Sieve,
    Snapshot,
    joined,
    picked_days,
    plan_source,
)
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.query.sql import application_queries as applications
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.sql import exchange_queries
from m365watch.board.query.sql import exchange_queries as exchange
from m365watch.board.query.sql import sharepoint_queries as sharepoint
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.query.sql import threat_queries as threats
from m365watch.board.query.sql.aggregates import Changes, added
from m365watch.board.query.time_range import TimeRange
from m365watch.lake.rollups.facts import ACTIVITY, CHANGES, HOUR_S, IS_NAMING, SIGN_INS, TRACES
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.rollups.rollup_manifest import (
    FOLDER,
    FORMAT,
    NOTE,
    WEEKS,
    Note,
    Part,
    WeekNote,
    days_kept,
    files_by_day,
    read_day,
    tags_of,
)

MODULES = (
    activity,
    applications,
    internal_domains,
    exchange,
    sharepoint,
    sign_ins,
    threats,
    trails,
    exchange_queries,
)
MADE = {
    **{f"top {one}": query for one, query in sharepoint.TOPS.items()},
    **{f"over {one}": activity.over_time(one) for one in ("workload", "record_type", "user_type")},
    **{f"share {one}": activity.share_of(one) for one in ("workload", "user_id", "client_ip")},
    **{f"course {one}": trails.course(one) for one in ("operation", "session", "app_id")},
    **{f"values {one}": query for one, query in trails.VALUES.items()},
    **{f"courses {one}": query for one, query in trails.COURSES.items()},
    **{
        f"{module.__name__.rpartition('.')[2]} {name} {which}": getattr(changes, which)
        for module in (applications, exchange)
        for name, changes in vars(module).items()
        if isinstance(changes, Changes)
        for which in ("newest", "marked")
    },
    "trail": trails.trail(()),
}
QUERIES = {
    f"{module.__name__.rpartition('.')[2]} {name}": query
    for module in MODULES
    for name, query in vars(module).items()
    if isinstance(query, Query) and "$ids" not in query.sql
} | MADE
NOT_THE_SAME = {"sign_ins SESSIONS": (1,)}
"""Columns for which any of several values will do."""
VIEWS = (
    *("range=30d", "range=24h&result=failed", "app=00000003-0000-0ff1-ce00-000000000000"),
    "range=7d&operation=MailItemsAccessed",
)


IN_HALF = ("range=30d", "user")


@pytest.fixture(scope="module")
def lakes(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The collected lake three times: without rollups, with them, and with those of half its days."""
    folder, lake = tmp_path_factory.mktemp("counted"), collected.parent / "lake"
    shutil.copytree(lake, folder / "plain", ignore=shutil.ignore_patterns("rollups*"))
    for name in ("counted", "half"):
        shutil.copytree(lake, folder / name)
    keep_rollups(folder / "counted")
    days = sorted(files_by_day(folder / "counted"))
    assert len(days) > 4
    assert all(read_day(folder / "counted", day) for day in days)
    for day in days[::2]:
        shutil.rmtree(folder / "half" / FOLDER / day.isoformat())
    return folder / "plain", folder / "counted", folder / "half"


@pytest.fixture
def readers(lakes: tuple[Path, Path, Path]) -> Iterator[list[FactsReader]]:
    """A reader that finds no rollups, one that does, and one that finds some."""
    found = [FactsReader(lake) for lake in lakes]
    yield found
    for one in found:
        one.close()


def given_to(query: Query, view: View, tops: list[str]) -> dict[str, object]:
    """What the SQL is bound with beside the view's own."""
    values = {
        "own": ["@contoso.example"],
        "since_s": view.range.end_s - 86_400,
        "tops": tops,
    }
    return {name: value for name, value in values.items() if f"${name}" in query.sql}


def plainly(name: str, rows: list[Row]) -> list[Row]:
    """The rows in an order of their own, without what may be one thing or another."""
    left_out = NOT_THE_SAME.get(name, ())
    kept = [tuple(value for place, value in enumerate(row) if place not in left_out) for row in rows]
    return sorted(kept, key=repr)


@guarantee(45)
@pytest.mark.slow
@pytest.mark.parametrize("asked", [*VIEWS, "user", "ip"])
def test_rollups_answer_as_the_records_do(asked: str, readers: list[FactsReader]) -> None:
    """For every query of every page, whatever the view is narrowed to; a rollup is only quicker."""
    records, rolled, half = readers

    async def compare() -> None:
        view = view_of(asked if "=" in asked else "")
        busy = {
            one: [row[0] for row in await records.ask(view, activity.share_of(column)) if row[0]][:3]
            for one, column in (("user", "user_id"), ("ip", "client_ip"))
        }
        if asked in busy:
            view = view.narrowed(asked, busy[asked][:1])
        for name, query in QUERIES.items():
            given = given_to(query, view, busy["user"])
            plain = plainly(name, await records.ask(view, query, **given))
            assert plain == plainly(name, await rolled.ask(view, query, **given)), name
            if asked in IN_HALF:
                assert plain == plainly(name, await half.ask(view, query, **given)), name

    asyncio.run(compare())


@pytest.mark.slow
def test_minutes_of_an_hour_are_counted_as_the_records_are(readers: list[FactsReader]) -> None:
    """What counts by hours cannot say what was in the second half of one."""
    records, rolled, _ = readers

    async def compare() -> None:
        everything = view_of("range=30d")
        hours = Query(
            f"SELECT at_s // {HOUR_S} AS hour, sum(n) AS number FROM facts GROUP BY ALL"
            " ORDER BY number DESC, 1 LIMIT 1",
            of_sign_ins=True,
        )
        [(hour, _)] = await records.ask(everything, hours)
        view = view_of(f"from={hour * HOUR_S + 1_500}&to={hour * HOUR_S + 3_000}")
        assert not view.range.has_full_hours
        for name, query in QUERIES.items():
            given = given_to(query, view, [])
            plain = plainly(name, await records.ask(view, query, **given))
            assert plain == plainly(name, await rolled.ask(view, query, **given)), name

    asyncio.run(compare())


def test_applications_are_named_as_the_records_name_them(readers: list[FactsReader]) -> None:
    """What names them is kept apart, and nothing of it is missing there."""
    view = view_of("range=30d")
    every = Query(
        f"SELECT DISTINCT lower(object) FROM facts WHERE {IS_NAMING}", of=CHANGES, exact=True, only=IS_NAMING
    )

    async def named() -> list[list[Row]]:
        ids = sorted(row[0] for row in await readers[0].ask(view, every))
        return [await one.ask(view, applications.NAMED, ids=ids) for one in readers]

    plain, rolled, half = asyncio.run(named())
    assert plain
    assert rolled == plain
    assert half == plain


@pytest.mark.parametrize("many", [2, 8, LOOKED_FOR_MAX + 4])
def test_of_several_values_each_counts(many: int, readers: list[FactsReader]) -> None:
    """However many a view is narrowed to, and however many are left out of it."""
    view = view_of("range=30d")
    total = activity.TOTAL

    async def compare() -> None:
        for reader in readers:
            counts = {
                user: count for user, count in await reader.ask(view, activity.share_of("user_id")) if user
            }
            users = list(counts)[:many]
            assert len(users) == many
            [(every,)] = await reader.ask(view, total)
            wanted = sum(counts[one] for one in users)
            assert await reader.ask(view.narrowed("user", users), total) == [(wanted,)]
            assert await reader.ask(view.narrowed("not-user", users), total) == [(every - wanted,)]

    asyncio.run(compare())


@pytest.mark.parametrize("module", [applications, exchange, sharepoint, threats])
def test_a_sieve_counts_what_the_records_do(module: ModuleType, readers: list[FactsReader]) -> None:
    """Of whatever week or day: else a table would stay without what it asks for."""
    sieve: Sieve = module.COUNTS

    async def sums() -> list[list[int]]:
        view = view_of("range=30d")
        return [added(await one.ask(view, sieve.query), len(sieve.conditions)) for one in readers]

    plain, rolled, half = asyncio.run(sums())
    assert any(plain)
    assert plain == rolled == half


def test_no_more_days_are_read_than_have_what_is_wanted() -> None:
    """Of a week all whole days are, whichever of them the counts name; what is cut stands by itself."""
    days = [date(2026, 11, day) for day in range(1, 20)]
    snapshot = Snapshot(1, {day: frozenset({"file"}) for day in days})
    numbers = {
        day: int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 86_400 for day in days
    }
    span = TimeRange(numbers[days[0]] * 86_400, numbers[days[-1]] * 86_400 + 43_200)
    counts = [(numbers[days[one]], count) for one, count in ((18, 0), (17, 3), (10, 4), (9, 2), (1, 9))]

    assert picked_days(snapshot, span, counts, wanted=3) == (frozenset(days[15:18]), 3)
    assert picked_days(snapshot, span, counts, wanted=4) == (frozenset(days[8:18]), 9)


@pytest.mark.parametrize(("first", "counts"), [(1, [1, 2, 4, 3]), (3, [3, 6, 1]), (12, [10])])
def test_days_are_read_until_there_is_enough(first: int, counts: list[int]) -> None:
    """The newest ones first, as many as are likely to do, and then ever more."""
    days = {date(2026, 11, day): frozenset({"file"}) for day in range(1, 11)}
    parts = [sorted(part.days, reverse=True) for part in newest_first(Snapshot(1, days), first=first)]

    assert [len(part) for part in parts] == counts
    assert [day for part in parts for day in part] == sorted(days, reverse=True)


def test_a_duckdb_without_an_optimizer_that_is_turned_off_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come and go with its versions, and are turned off for speed alone."""
    monkeypatch.setattr(lake_reader, "NOT_WORTH_IT", lake_reader.NOT_WORTH_IT | {"of another version"})

    FactsReader(tmp_path).close()


@guarantee(45)
def test_a_week_that_goes_on_is_read_as_far_as_it_is_added_up(tmp_path: Path) -> None:
    """Its other days are read by themselves; all are, where one of those added up has changed or is cut."""
    days = {date(2026, 9, 7) + timedelta(days=one): frozenset({"file"}) for one in range(5)}
    for day in days:
        (tmp_path / FOLDER / day.isoformat()).mkdir(parents=True)
        note = Note(FORMAT, [Part(["file"], f"tag{day:%d}", 1)])
        (tmp_path / FOLDER / day.isoformat() / NOTE).write_bytes(msgspec.json.encode(note))
    monday = min(days)
    (tmp_path / FOLDER / WEEKS / monday.isoformat()).mkdir(parents=True)
    told = WeekNote({f"2026-09-{day:02}": f"tag{day:02}" for day in (7, 8, 9)}, "tag")

    def files(query: str) -> list[str]:
        (tmp_path / FOLDER / WEEKS / monday.isoformat() / NOTE).write_bytes(msgspec.json.encode(told))
        source = plan_source(tmp_path, Snapshot(1, days), view_of(query), activity.TOP_PERSONS)
        assert source is not None
        return sorted(Path(file).parent.name for of in source.files.values() for file in of)

    every = [f"2026-09-{day:02}" for day in (7, 8, 9, 10, 11)]
    assert files("from=2026-09-07T00:00Z&to=2026-09-12T00:00Z") == sorted([every[0], *every[3:]])
    assert files("from=2026-09-07T01:00Z&to=2026-09-12T00:00Z") == every
    told = WeekNote(told.tags | {"2026-09-08": "another"}, "tag")
    assert files("from=2026-09-07T00:00Z&to=2026-09-12T00:00Z") == every


@pytest.mark.parametrize(
    ("until", "end", "is_whole"),
    [("13:20", "14:00", True), ("14:00", "14:00", True), ("14:01", "14:00", False)],
)
def test_a_day_whose_last_record_is_of_the_view_is_whole(
    tmp_path: Path, until: str, end: str, is_whole: bool
) -> None:
    """So today is, for whoever looks at the time up to now."""
    day = date(2026, 9, 7)
    until_s = int(datetime.fromisoformat(f"{day}T{until}Z").timestamp())
    (tmp_path / FOLDER / day.isoformat()).mkdir(parents=True)
    note = Note(FORMAT, [Part(["file"], "tag", 1, until_s)])
    (tmp_path / FOLDER / day.isoformat() / NOTE).write_bytes(msgspec.json.encode(note))

    def arms(start: str) -> list[bool]:
        view = view_of(f"from={start}&to={day}T{end}Z")
        source = plan_source(tmp_path, Snapshot(1, {day: frozenset({"file"})}), view, activity.TOP_PERSONS)
        assert source is not None
        return [arm.is_inside for arm in source.arms]

    assert arms("2026-09-01T00:00Z") == arms(f"{day}T00:00Z") == [is_whole]
    assert arms(f"{day}T01:00Z") == [False]


def test_a_chart_of_days_is_not_read_by_weeks(tmp_path: Path) -> None:
    """A week's counts know of one instant alone: all of the week would stand at that day."""
    lake = tmp_path
    days = {date(2026, 9, 7) + timedelta(days=one): frozenset({"file"}) for one in range(70)}
    for day in days:
        note = Note(FORMAT, [Part(["file"], "tag", 1)])
        (lake / FOLDER / day.isoformat()).mkdir(parents=True)
        (lake / FOLDER / day.isoformat() / NOTE).write_bytes(msgspec.json.encode(note))
    for week in range(10):
        monday = date(2026, 9, 7) + timedelta(weeks=week)
        (lake / FOLDER / WEEKS / monday.isoformat()).mkdir(parents=True)
        told = WeekNote(tags_of(days_kept(lake, monday)), "tag")
        (lake / FOLDER / WEEKS / monday.isoformat() / NOTE).write_bytes(msgspec.json.encode(told))
    view = view_of("from=2026-09-07T00:00Z&to=2026-11-16T00:00Z&ip=192.0.2.1")

    def files(query: Query) -> int:
        source = plan_source(lake, Snapshot(1, days), view, query)
        assert source is not None
        return sum(map(len, source.files.values()))

    assert files(Query("SELECT sum(n) FROM facts")) == 10
    assert files(Query("SELECT at_s // $lane_s * $lane_s AS t, sum(n) FROM facts GROUP BY t")) == 70


def test_a_question_about_days_is_not_read_by_hours(
    lakes: tuple[Path, Path, Path], readers: list[FactsReader]
) -> None:
    """And what names a person is read where all of that person stands together."""
    counted, snapshot = lakes[1], asyncio.run(readers[1].snapshot())
    # In a day's last hour seven days are seven whole ones, and no hours are left to be asked for.
    week = view_of("", now=CLOCK.now().replace(hour=12, minute=30))

    def files(view: View, query: Query) -> set[str]:
        source = plan_source(counted, snapshot, view, query)
        assert source is not None
        return set(source.files)

    assert files(week, activity.TOP_PERSONS) == {"whole_persons", "part_person_hours"}
    assert files(week, activity.over_time("workload")) == {"whole_hours", "part_hours"}
    assert files(week.narrowed("user", ["somebody"]), trails.VALUES_TOGETHER) == {
        "whole_activity",
        "part_activity",
    }
    assert not files(week, activity.DAYS) & {"whole_activity", "part_activity"}
    assert files(week, activity.RECENT) == {"plain"}
    of = week.narrowed("operation", ["FileAccessed"])
    assert files(of, activity.TOTAL) == {"whole_hours", "part_hours"}
    assert files(of, trails.VALUES["client_ip"]) == {"whole_operation_places", "part_address_hours"}
    assert files(of, trails.VALUES["user_id"]) == {"whole_operation_persons", "part_activity"}
    assert files(of, trails.VALUES["session"]) == {
        "whole_operation_sessions",
        "part_operation_session_hours",
    }
    of = week.narrowed("app", ["any"])
    assert files(of, trails.VALUES["user_id"]) == {"whole_app_persons", "part_app_person_hours"}


def test_a_day_of_which_much_is_wanted_is_read_whole(tmp_path: Path) -> None:
    """Of another one its hours alone are, and of the oldest: there may be more in it than is wanted.

    All of those that are read whole are read together, by both threads.
    """
    days = {date(2026, 9, day): frozenset({"file"}) for day in (7, 8, 9, 10)}
    first = int(datetime(2026, 9, 7, tzinfo=UTC).timestamp()) // 3_600
    much = [4, 8, 9, 11, 12, 13, 14, 15]
    spans = joined([first + 24 * day + one for day in (0, 1, 2) for one in much] + [first + 72, first + 73])
    view = view_of("from=2026-09-07T00:00Z&to=2026-09-11T00:00Z&ip=192.0.2.1")

    source = plan_source(tmp_path, Snapshot(1, days), view, trails.trail([]), spans=spans)

    assert source is not None
    assert ["created_at >=" in arm.sql for arm in source.arms] == [True, False, True]
    assert [len(files) for files in source.files.values()] == [1, 2, 1]


def test_hours_next_to_each_other_are_one_span() -> None:
    """So that the condition which spares reading stays short."""
    assert joined([7, 5, 6, 9]) == [(18_000, 28_800), (32_400, 36_000)]


@pytest.mark.parametrize(
    ("sql", "hours"),
    [
        ("SELECT sum(n) FROM facts", 7 * 24),
        ("SELECT min(at_s), max(last_s) FROM facts", 7 * 24),
        ("SELECT at_s // $step_s * $step_s, sum(n) FROM facts", 1),
        ("SELECT at_s // 3600, sum(n) FROM facts", 1),
        ("SELECT at_s, n FROM facts", 0),
    ],
)
def test_the_sql_says_which_spans_it_tells_apart(sql: str, hours: int) -> None:
    """A query that names times as such has to see every one."""
    assert Query(sql).grain_s(view_of("range=7d").range) == (hours * 3_600 or 1)


def test_what_has_no_column_for_a_filter_counts_nothing() -> None:
    """Every kind of facts has every column that a view can be narrowed by."""
    for rollup in (ACTIVITY, SIGN_INS, TRACES):
        assert {"user_id", "client_ip", "app_id", "operation", "outcome"} <= set(rollup.columns)
