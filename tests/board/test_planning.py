"""Whatever a query's facts are taken from, its answer is the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asking import view_of
from m365watch.board.lake_reader import FactsReader, Query, Row
from m365watch.board.planning import joined, plan_source
from m365watch.board.queries import (
    activity,
    applications,
    exchange,
    sharepoint,
    sign_ins,
    threats,
    trails,
)
from m365watch.board.view import View
from m365watch.lake.rollups.facts import ACTIVITY, SIGN_INS, TRACES
from m365watch.lake.rollups.keeping import keep_rollups
from m365watch.lake.rollups.notes import FOLDER, files_by_day

MODULES = (activity, applications, exchange, sharepoint, sign_ins, threats, trails)
MADE = {
    **{f"over {one}": activity.over_time(one) for one in ("workload", "record_type", "user_type")},
    **{f"share {one}": activity.share_of(one) for one in ("workload", "user_id", "client_ip")},
    **{
        f"top {one}": sharepoint.top_of(one)
        for one in ("site", "client_ip", "extension", "program", "user_id")
    },
    **{f"read {one}": exchange.reading_by(one) for one in ("app_id", "program", "client_ip", "folder")},
    **{f"course {one}": trails.course(one) for one in ("operation", "session", "app_id")},
    "trail": trails.trail(()),
}
QUERIES = {
    f"{module.__name__.rpartition('.')[2]} {name}": query
    for module in MODULES
    for name, query in vars(module).items()
    if isinstance(query, Query) and "$ids" not in query.sql
} | MADE
NOT_THE_SAME = {"sign_ins FIRST_SEEN": (2, 3), "sign_ins SESSIONS": (1,)}
"""Columns for which any of several values will do."""
VIEWS = ("range=30d", "range=24h&result=failed", "app=00000003-0000-0ff1-ce00-000000000000")


IN_HALF = ("range=30d", "user")


@pytest.fixture(scope="module")
def lakes(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The collected lake three times: without rollups, with them, and with those of half its days."""
    folder = tmp_path_factory.mktemp("counted")
    for name in ("plain", "counted", "half"):
        shutil.copytree(collected.parent / "lake", folder / name, ignore=shutil.ignore_patterns("rollups*"))
    days = keep_rollups(folder / "counted")
    assert days > 4
    shutil.copytree(folder / "counted" / FOLDER, folder / "half" / FOLDER)
    for day in sorted(files_by_day(folder / "half"))[::2]:
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
        "spark_s": view.range.step_s * 4,
        "since_s": view.range.end_s - 86_400,
        "everything": True,
        "tops": tops,
    }
    return {name: value for name, value in values.items() if f"${name}" in query.sql}


def plainly(name: str, rows: list[Row]) -> list[Row]:
    """The rows in an order of their own, without what may be one thing or another."""
    left_out = NOT_THE_SAME.get(name, ())
    kept = [tuple(value for place, value in enumerate(row) if place not in left_out) for row in rows]
    return sorted(kept, key=repr)


@pytest.mark.parametrize("asked", [*VIEWS, "user", "ip"])
def test_rollups_answer_as_the_records_do(asked: str, readers: list[FactsReader]) -> None:
    """For every query of every page, whatever the view is narrowed to; a rollup is only quicker."""
    records, rolled, half = readers

    async def compare() -> None:
        view = view_of(asked if "=" in asked else "", now=datetime.now(UTC))
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


def test_a_question_about_days_is_not_read_by_hours(
    lakes: tuple[Path, Path, Path], readers: list[FactsReader]
) -> None:
    """And what names a person is read where all of that person stands together."""
    counted, snapshot = lakes[1], asyncio.run(readers[1].snapshot())
    # In a day's last hour seven days are seven whole ones, and no hours are left to be asked for.
    week = view_of("", now=datetime.now(UTC).replace(hour=12, minute=30))

    def files(view: View, query: Query) -> set[str]:
        source = plan_source(counted, snapshot, view, query)
        assert source is not None
        return set(source.files)

    assert files(week, activity.PERSONS) == {"whole_persons", "part_activity"}
    assert files(week, activity.over_time("workload")) == {"whole_hours", "part_hours"}
    assert files(week.narrowed("user", ["somebody"]), trails.VALUES) == {"whole_activity", "part_activity"}
    assert files(week, activity.RECENT) == {"plain"}


def test_hours_next_to_each_other_are_one_span() -> None:
    """So that the condition which spares reading stays short."""
    assert joined([7, 5, 6, 9]) == [(18_000, 28_800), (32_400, 36_000)]


@pytest.mark.parametrize(
    ("sql", "hours"),
    [
        ("SELECT sum(n) FROM facts", 24),
        ("SELECT min(at_s), max(last_s) FROM facts", 24),
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
