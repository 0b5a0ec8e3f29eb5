"""Files of a lake that a bad disk has cut short or changed: whoever reads them says so in one line."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from promises import guarantee
from starlette.datastructures import QueryParams

from lake_place import LakePlace
from m365watch.board.access.roles import Access, Role
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import read_view
from m365watch.board.query.query_planner import Query
from m365watch.board.query.search_queries import asked_of
from m365watch.common.errors import LakeUnusable, OutputUnavailable, OutputUnusable, QueryStopped
from m365watch.common.model import Window
from m365watch.lake.delta.table_files import open_table, silently
from m365watch.lake.delta.table_schema import NEWER_FIX
from m365watch.lake.integrity_errors import BACK_FIX, back_fix, torn_fix
from m365watch.lake.maintenance.integrity_check import check_lake
from m365watch.lake.record_scan import LakeScan, ScanAsked
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.schema import ALERT_TABLE, AUDIT_TABLE, NOTICE_TABLE, TABLES, TRAIL_TABLE, TableShape
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.record_search import Finder
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.stored_records import by_tenant
from m365watch.lake.writer.table_writer import OpenTable
from m365watch_testing.batches import make_records, make_simple_batch

VIEW = read_view(
    QueryParams("from=2026-11-17T00:00Z&to=2026-11-18T00:00Z"),
    Access("ann", Role.ADMIN, tenants=None),
    now=datetime(2026, 11, 18, tzinfo=UTC),
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of a hundred records, in one file."""
    fill(tmp_path / "lake", 1, "2026-11-17")
    return tmp_path / "lake"


def fill(lake: Path, number: int, day: str) -> None:
    """Deliver the batch of that number, with records of that day."""
    records = [one.replace(b"2026-11-17", day.encode()) for one in make_records(100, start=100 * number)]

    async def deliver() -> None:
        output = LakePlace(lake).make()
        await output.open(last_batch=number - 1, position="")
        await output.deliver(make_simple_batch(number, records, output="lake"))
        await output.close()

    asyncio.run(deliver())


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda body: body[: len(body) // 2],
    "without its end": lambda body: body[:-9],
    "zeros": lambda body: bytes(len(body)),
    "zeros before its end": lambda body: bytes(len(body) - 2_000) + body[-2_000:],
}


def damage(lake: Path, pattern: str, change: Callable[[bytes], bytes]) -> None:
    [path] = lake.glob(pattern)
    path.write_bytes(change(path.read_bytes()))


@guarantee(26)
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_one_line(lake: Path, kind: str) -> None:
    """For the pages, a search and a check; and the board's sums wait until the file is back."""
    damage(lake, "audit/day=*/*.parquet", DAMAGES[kind])
    every = Query("SELECT user_id, count(*) FROM facts GROUP BY ALL", exact=True)
    asked = asked_of(VIEW, read_filter("user7"))

    with closing(FactsReader(lake)) as facts, pytest.raises(LakeUnusable) as of_pages:
        asyncio.run(facts.ask(VIEW, every))
    with closing(Finder(lake)) as finder, pytest.raises(LakeUnusable) as of_search:
        finder.find(finder.plan(asked)[0], asked, rows=3)
    problems = problems_of(lake)

    for said in (str(of_pages.value), str(of_search.value), *problems):
        assert said.isprintable()
        assert "user7" not in said
    assert len(problems) == 1
    assert keep_rollups(lake) == 0


@pytest.mark.slow
def test_a_damaged_rollup_is_a_problem_until_it_is_removed_and_made_anew(lake: Path) -> None:
    """Found by the fuzzer: pages failed by it and said to look at the check, which had nothing to say."""
    fill(lake, 2, "2026-11-24")
    keep_rollups(lake)
    assert problems_of(lake) == []

    for place in ("rollups/2*", "rollups/weeks/2*"):
        folder = min(lake.glob(place))
        path = max(folder.glob("*.parquet"), key=lambda one: one.stat().st_size)
        named, body = folder.relative_to(lake).as_posix(), path.read_bytes()
        for change in DAMAGES.values():
            path.write_bytes(change(body))
            [problem] = problems_of(lake)
            assert problem.startswith(f"{named}/{path.name}: cannot be read (")
            assert problem.endswith(f": remove the folder {named}, and it is counted anew")
            assert problem.isprintable()
        path.unlink()
        assert problems_of(lake) == [
            f"{named}/{path.name}: is missing: remove the folder {named}, and it is counted anew"
        ]
        shutil.rmtree(folder)

    keep_rollups(lake)
    assert path.exists()
    assert problems_of(lake) == []


def problems_of(lake: Path) -> list[str]:
    """What a check of every row says."""
    return check_lake(lake, reads_all=True, progress=silently).problems


@pytest.mark.slow
def test_every_file_of_a_week_of_rollups_is_looked_at(lake: Path) -> None:
    """A page that needs one that is damaged is dead until it is made anew: the check must name it."""
    fill(lake, 2, "2026-11-24")
    keep_rollups(lake)
    files = sorted(min(lake.glob("rollups/weeks/2*")).glob("*.parquet"))
    assert len(files) > 5

    for path in files:
        body = path.read_bytes()
        path.write_bytes(b"")
        assert [path.name in one for one in problems_of(lake)] == [True]
        path.write_bytes(body)


@guarantee(26)
@pytest.mark.parametrize("kind", ["cut short", "zeros"])
def test_a_damaged_log_is_one_line(lake: Path, kind: str) -> None:
    """It is the same for a reader that opens the table and for one that follows it."""
    with closing(FactsReader(lake)) as facts:
        asyncio.run(facts.snapshot())
        damage(lake, "audit/_delta_log/*0.json", DAMAGES[kind])

        with pytest.raises(
            LakeUnusable, match=r"the table's log cannot be read: audit/_delta_log/0+.json .*; put it back"
        ) as told:
            open_table(lake, AUDIT_TABLE)

    assert str(told.value).isprintable()


def commit_of(lake: Path, number: int) -> Path:
    return lake / "audit" / "_delta_log" / f"{number:020}.json"


def say_protocol(commit: Path, protocol: dict[str, object]) -> None:
    """Have the table ask of its readers and writers for what some engine has switched on."""
    lines = [json.loads(line) for line in commit.read_text().splitlines()]
    commit.write_text(
        "\n".join(json.dumps({"protocol": protocol} if "protocol" in one else one) for one in lines)
    )


COMMIT = "audit/_delta_log/{:020}.json {}"
HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "first commit gone": (lambda lake: commit_of(lake, 0).unlink(), COMMIT.format(0, "is missing")),
    "a commit gone": (lambda lake: commit_of(lake, 1).unlink(), COMMIT.format(1, "is missing")),
    "a commit is something else": (
        lambda lake: commit_of(lake, 2).write_bytes(b"no commit at all"),
        COMMIT.format(2, "is damaged"),
    ),
}


@guarantee(29)
@pytest.mark.parametrize("kind", HARMS)
def test_run_check_and_query_name_what_is_damaged(lake: Path, kind: str) -> None:
    """The file, and what to do; none sends to a command that says no more."""
    harm, said = HARMS[kind]
    fill(lake, 2, "2026-11-18")
    harm(lake)

    with pytest.raises(OutputUnusable) as of_run:
        fill(lake, 3, "2026-11-19")
    with pytest.raises(QueryStopped) as of_query:
        LakeReader(lake).query("SELECT count(*) FROM audit")
    file, _, reason = said.partition(" ")

    assert of_run.value.what == f"the lake cannot be opened: {said}"
    assert of_query.value.what == f"the lake cannot be read: {said}"
    assert of_run.value.fix == of_query.value.fix == BACK_FIX
    assert problems_of(lake) == [f"{file}: {reason}: put the file back from a backup"]


def test_what_a_power_cut_tore_is_told_with_the_run_that_mends_it(lake: Path) -> None:
    """No copy has to be looked for, and no lake given up: nothing hangs on it."""
    for commit in (lake / "audit" / "_delta_log").iterdir():
        commit.write_bytes(b"")

    with pytest.raises(QueryStopped) as told:
        LakeReader(lake).query("SELECT count(*) FROM audit")
    problems = problems_of(lake)
    torn = f"a power cut has torn {COMMIT.format(0, '').strip()}"
    fill(lake, 1, "2026-11-19")

    assert (told.value.what, told.value.fix) == (f"the lake cannot be read: {torn}", torn_fix("audit"))
    assert problems == [f"{torn}: {torn_fix('audit')}"]
    assert problems_of(lake) == []


@guarantee(29)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut short", "zeros", "gone"])
def test_a_query_names_the_file_of_records_that_is_damaged(lake: Path, kind: str) -> None:
    """And not the query, as if fewer rows would help."""
    [path] = lake.glob("audit/day=*/*.parquet")
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGES[kind](path.read_bytes()))

    with pytest.raises(QueryStopped) as told:
        LakeReader(lake).query("SELECT count(*) FROM audit")

    day = Window(datetime(2026, 11, 17, tzinfo=UTC), datetime(2026, 11, 18, tzinfo=UTC))
    with pytest.raises(OutputUnavailable) as of_scan:
        LakeScan(lake, ScanAsked(day)).feeds()

    assert told.value.what.startswith(f"the lake cannot be read: {path.relative_to(lake)} ")
    assert ("lake repair" in told.value.fix) is (kind == "gone")
    assert of_scan.value.what.startswith(f"the lake cannot be read ({path.relative_to(lake)} ")


@guarantee(29)
def test_what_this_version_does_not_know_is_no_damage(lake: Path) -> None:
    """A newer engine's feature: whoever moved the table away would lose a whole one."""
    features = {"readerFeatures": ["ofTomorrow"], "writerFeatures": ["ofTomorrow"]}
    say_protocol(commit_of(lake, 0), {"minReaderVersion": 3, "minWriterVersion": 7, **features})
    said = "table audit needs what this version does not know (Feature 'ofTomorrow' is not supported)"

    with pytest.raises(OutputUnusable) as of_run:
        fill(lake, 2, "2026-11-18")
    with pytest.raises(QueryStopped) as of_query:
        LakeReader(lake).query("SELECT count(*) FROM audit")

    assert of_run.value.what == f"the lake cannot be opened: {said}"
    assert of_query.value.what == f"the lake cannot be read: {said}"
    assert problems_of(lake) == [f"{said}: {NEWER_FIX}"]
    assert of_run.value.fix == of_query.value.fix == NEWER_FIX


def test_a_record_that_is_no_text_any_more_is_read_back_as_it_is() -> None:
    """A new ledger asks what the lake holds: a damaged record is another record, and ends nothing."""
    odd = pa.array([b"{\xff}"])
    raw = pa.StringArray.from_buffers(1, odd.buffers()[1], odd.buffers()[2])
    rows = pa.table({"tenant_id": ["t1"], "raw": raw, "raw_bytes": pa.nulls(1, pa.binary())})

    assert [*by_tenant(rows)] == [("t1", [b"{\xff}"])]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [ALERT_TABLE, NOTICE_TABLE, TRAIL_TABLE], ids=lambda shape: shape.name)
def test_a_damaged_table_matters_to_those_alone_who_ask_for_it(lake: Path, shape: TableShape) -> None:
    """And its cure is its own: the lake is not given up for it."""
    for one in TABLES:
        OpenTable(lake, one)
    commit = lake / shape.name / "_delta_log" / f"{0:020}.json"
    commit.write_bytes(commit.read_bytes()[:-30])
    reader = LakeReader(lake)

    whole = reader.query("SELECT count(*) FROM audit")
    listed = reader.query("SHOW TABLES")
    with pytest.raises(QueryStopped) as told:
        reader.query(f"WITH few AS (SELECT * FROM {shape.name}) SELECT count(*) FROM few, audit")

    assert whole.rows == [(100,)]
    assert {"audit"} == {name for (name,) in listed.rows if name in {"audit", shape.name}}
    named = f"{shape.name}/_delta_log/{commit.name}"
    assert told.value.what == f"the lake cannot be read: {named} is damaged"
    assert told.value.fix == back_fix(shape.name)
    assert f"move the folder `{shape.name}` out of the lake" in back_fix(shape.name)
    assert problems_of(lake) == [f"{named}: is damaged: {back_fix(shape.name)}"]


@pytest.mark.slow
def test_what_is_no_part_of_a_damaged_audit_can_be_asked(lake: Path) -> None:
    """Every name that is not that of another table is a part of it."""
    OpenTable(lake, ALERT_TABLE)
    for commit in (lake / "audit" / "_delta_log").glob("*.json"):
        commit.write_bytes(b"no commit at all")
    reader = LakeReader(lake)

    assert reader.query("SELECT count(*) FROM alerts").rows == [(0,)]
    for sql in ("SELECT count(*) FROM exchange", "SHOW TABLES"):
        with pytest.raises(QueryStopped, match="audit/_delta_log"):
            reader.query(sql)
