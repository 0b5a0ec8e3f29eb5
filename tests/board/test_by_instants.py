"""The newest records of something rare: what was counted tells them, and where it does not, they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asking import view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.query import fact_queries as lake_reader
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Source, plan_source
from m365watch.board.query.sql import activity_queries as activity
from m365watch.lake.rollups.facts import ACTIVITY, RECORDS
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import TENANT, make_batch, make_part, make_record

SPAN = "from=2026-11-10T00:00Z&to=2026-11-13T00:00Z"
FIRST = datetime(2026, 11, 10, tzinfo=UTC)
BUSY, LATE = "198.51.100.1", "198.51.100.2"
COUNTED = {
    "one": ("203.0.113.1", (12,)),
    "two": ("203.0.113.2", (12, 3_000)),
    "two of one second": ("203.0.113.3", (12, 12)),
    "four of one second": ("203.0.113.4", (12, 12, 12, 12)),
}
"""Addresses, and in which seconds of an hour there is a record from there."""
THREE, MANY = "203.0.113.5", "203.0.113.6"
FIVE = tuple(FIRST + timedelta(hours=9 * one) for one in range(5))
"""Hours of two days."""


def instants_of(hours: Iterable[datetime], seconds: Iterable[int]) -> list[datetime]:
    return [hour + timedelta(seconds=one) for hour in hours for one in seconds]


INSTANTS = {
    **{ip: instants_of(FIVE, seconds) for ip, seconds in COUNTED.values()},
    THREE: [*instants_of(FIVE[1:], [12]), *instants_of(FIVE[:1], [5, 700, 1_800])],
    MANY: instants_of(FIVE, range(0, 3_600, 40)),
    LATE: instants_of(FIVE, [12]),
    BUSY: [FIRST + timedelta(minutes=7 * one) for one in range(300)],
}
CAME_LATER = [FIVE[1] + timedelta(seconds=3_000), FIVE[4] + timedelta(hours=8)]


def record(number: int, at: datetime, ip: str) -> bytes:
    """One of the service's own, at that time and from there."""
    made = make_record(number)
    created = made[made.index(b'"CreationTime"') : made.index(b',"Id"')]
    address = made[made.index(b'"ClientIP"') : made.index(b',"ObjectId"')]
    made = made.replace(created, f'"CreationTime":"{at:%FT%T}"'.encode())
    user = made[made.index(b'"UserId"') : made.index(b',"ClientIP"')]
    return made.replace(address, f'"ClientIP":"{ip}"'.encode()).replace(
        user, b'"UserId":"ann@contoso.example"'
    )


def deliver(lake: Path, number: int, records: Sequence[bytes]) -> None:
    writer = AuditWriter(lake, app_id="m365watch/lake/test")
    writer.append(make_batch(number, [make_part(records, outputs=["lake"], blob=number)]))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of all of them, with rollups of what did not come later."""
    folder = tmp_path_factory.mktemp("lake")
    every = [(at, ip) for ip, instants in INSTANTS.items() for at in instants]
    deliver(folder, 1, [record(number, at, ip) for number, (at, ip) in enumerate(every)])
    keep_rollups(folder)
    deliver(folder, 2, [record(30_000 + number, at, LATE) for number, at in enumerate(CAME_LATER)])
    return folder


def newest(lake: Path, view: View, monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[int, str]], set[str]]:
    """Instants and addresses of the newest records, and from what they were told."""
    read: set[str] = set()

    def plan(*given: Any, **named: Any) -> Source | None:
        read.add(given[3].rollup.name)
        return plan_source(*given, **named)

    with monkeypatch.context() as watched:
        watched.setattr(lake_reader, "plan_source", plan)
        facts = FactsReader(lake)
        try:
            rows = asyncio.run(facts.ask(view, activity.RECENT_OF_ALL))
        finally:
            facts.close()
    return [(row[0], row[4]) for row in rows], read


def expected(ip: str, instants: Iterable[datetime]) -> list[tuple[int, str]]:
    return [(int(at.timestamp()), ip) for at in sorted(instants, reverse=True)][:100]


@pytest.mark.slow
@pytest.mark.parametrize("case", COUNTED)
def test_what_was_counted_tells_the_records_of_something_rare(
    case: str, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an hour's one or two the instants are known, and of all that are of one second."""
    ip, _ = COUNTED[case]

    rows, read = newest(lake, view_of(f"{SPAN}&ip={ip}"), monkeypatch)

    assert rows == expected(ip, INSTANTS[ip])
    assert read == {ACTIVITY.name}


@pytest.mark.parametrize("ip", [THREE, MANY])
def test_records_are_read_where_what_was_counted_does_not_tell_them(
    ip: str, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three in an hour nobody knows the second; and what one hour or two have is not asked for twice."""
    rows, read = newest(lake, view_of(f"{SPAN}&ip={ip}"), monkeypatch)

    assert rows == expected(ip, INSTANTS[ip])
    assert read == {ACTIVITY.name, RECORDS.name}


def test_a_record_that_came_later_is_among_the_newest(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no rollup yet, and counts beside them."""
    rows, read = newest(lake, view_of(f"{SPAN}&ip={LATE}"), monkeypatch)

    assert rows == expected(LATE, [*INSTANTS[LATE], *CAME_LATER])
    assert read == {ACTIVITY.name}


@pytest.mark.parametrize(("tenants", "is_seen"), [({TENANT}, True), ({"another"}, False)])
def test_the_time_and_the_tenants_of_the_view_hold(
    tenants: set[str], is_seen: bool, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is before or after, nor what is another tenant's."""
    ip, _ = COUNTED["two"]
    access = Access("tester", Role.ADMIN, tenants=frozenset(tenants))
    view = view_of(f"from={FIVE[1]:%FT%H:%MZ}&to={FIVE[4]:%FT%H:%MZ}&ip={ip}", access)
    inside = [at for at in INSTANTS[ip] if FIVE[1] <= at < FIVE[4]]

    rows, read = newest(lake, view, monkeypatch)

    assert rows == (expected(ip, inside) if is_seen else [])
    assert read == {ACTIVITY.name}
