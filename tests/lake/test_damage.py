"""Files of a lake that a bad disk has cut short or changed: whoever reads them says so in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from starlette.datastructures import QueryParams

from lake_place import LakePlace
from m365watch.board.access import Access, Role
from m365watch.board.hits_reader import asked_of
from m365watch.board.lake_reader import FactsReader
from m365watch.board.planning import Query
from m365watch.board.view import read_view
from m365watch.errors import LakeUnusable
from m365watch.lake.checking import check_lake
from m365watch.lake.files import open_table, silently
from m365watch.lake.filters.finding import Finder
from m365watch.lake.filters.reading import read_filter
from m365watch.lake.holding import by_tenant
from m365watch.lake.rollups.keeping import keep_rollups
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.testing.batches import make_records, make_simple_batch

VIEW = read_view(
    QueryParams("from=2026-11-17T00:00Z&to=2026-11-18T00:00Z"),
    Access("ann", Role.ADMIN, tenants=None),
    now=datetime(2026, 11, 18, tzinfo=UTC),
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of a hundred records, in one file."""

    async def fill() -> None:
        output = LakePlace(tmp_path / "lake").make()
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(100), output="lake"))
        await output.close()

    asyncio.run(fill())
    return tmp_path / "lake"


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
    problems = check_lake(lake, reads_all=True, progress=silently).problems

    for said in (str(of_pages.value), str(of_search.value), *problems):
        assert said.isprintable()
        assert "user7" not in said
    assert len(problems) == 1
    assert keep_rollups(lake) == 0


@pytest.mark.parametrize("kind", ["cut short", "zeros"])
def test_a_damaged_log_is_one_line(lake: Path, kind: str) -> None:
    """It is the same for a reader that opens the table and for one that follows it."""
    with closing(FactsReader(lake)) as facts:
        asyncio.run(facts.snapshot())
        damage(lake, "audit/_delta_log/*1.json", DAMAGES[kind])

        with pytest.raises(
            LakeUnusable, match=r"the table's log cannot be read: .*; see what `m365watch lake"
        ) as told:
            open_table(lake, AUDIT_TABLE)

    assert str(told.value).isprintable()


def test_a_record_that_is_no_text_any_more_is_read_back_as_it_is() -> None:
    """A new ledger asks what the lake holds: a damaged record is another record, and ends nothing."""
    odd = pa.array([b"{\xff}"])
    raw = pa.StringArray.from_buffers(1, odd.buffers()[1], odd.buffers()[2])
    rows = pa.table({"tenant_id": ["t1"], "raw": raw, "raw_bytes": pa.nulls(1, pa.binary())})

    assert [*by_tenant(rows)] == [("t1", [b"{\xff}"])]
