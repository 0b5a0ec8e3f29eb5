"""A query takes so much time and memory and no more, and nothing at all once nobody waits for it."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

import pytest
from promises import guarantee
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from asking import view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.responses import while_there
from m365watch.board.query.fact_queries import AT_ONCE_MAX, FactsReader
from m365watch.board.query.query_planner import Query
from m365watch.common.errors import QueryStopped

ENDLESS = "SELECT sum(one.range * other.range) FROM range(100_000_000) one, range({number}) other"
GREEDY = Query("SELECT list(range ORDER BY range DESC) FROM range(50_000_000)")
BRIEF = Query("SELECT 42")


def endless(number: int) -> Query:
    """One that takes hours, and is no other's."""
    return Query(ENDLESS.format(number=1_000_000 + number))


def test_a_board_that_ends_waits_for_no_query_that_just_began(collected: Path) -> None:
    """Those who had asked are gone, and what was waiting behind their queries begins in that moment."""

    async def leave() -> None:
        many = [asyncio.create_task(reader.ask(view_of(), endless(one))) for one in range(3 * AT_ONCE_MAX)]
        await asyncio.sleep(0.01)
        for one in many:
            one.cancel()
        await asyncio.gather(*many, return_exceptions=True)

    for _ in range(3):
        reader = FactsReader(collected.parent / "lake")
        asyncio.run(leave())
        began_s = time.monotonic()
        reader.close()

        assert time.monotonic() - began_s < 30.0


@guarantee(47)
def test_whoever_goes_away_stops_the_query(collected: Path) -> None:
    """All places are taken by queries of browsers that leave; the next one finds a place at once."""

    async def leave() -> list[tuple[object, ...]]:
        begun_s = time.process_time()
        asked = [asyncio.create_task(reader.ask(view_of(), endless(number))) for number in range(AT_ONCE_MAX)]
        while time.process_time() - begun_s < 0.2:  # They are at work.
            await asyncio.sleep(0.005)
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        return await reader.ask(view_of(), BRIEF)

    reader = FactsReader(collected.parent / "lake")
    assert asyncio.run(leave()) == [(42,)]
    reader.close()


def test_work_ends_with_the_browser_that_it_is_for() -> None:
    """Whatever it is: it is cancelled as the browser goes, and nobody answers."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    async def act() -> None:
        with pytest.raises(ClientDisconnect):
            await while_there(Request({"type": "http"}, leave), work())
        await asyncio.sleep(0)  # The loop hears of it in a step of its own.

    asyncio.run(act())
    assert ended == ["cancelled"]


@pytest.mark.slow
def test_whoever_goes_away_leaves_no_error_behind(collected: Path) -> None:
    """What becomes of a query that nobody waits for is nobody's news, and its traceback is in no log."""

    async def leave() -> list[dict[str, object]]:
        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        leaving = asyncio.create_task(reader.ask(view_of(), endless(50)))
        while not any(one.working.running() for one in reader._asking.values()):
            await asyncio.sleep(0.005)
        [working] = [one.working for one in reader._asking.values()]
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        while not working.done():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.01)  # The loop hears of it in a step of its own.
        del working, leaving
        gc.collect()
        return told

    reader = FactsReader(collected.parent / "lake")
    assert asyncio.run(leave()) == []
    reader.close()


@guarantee(47)
def test_a_query_that_takes_too_long_is_stopped(collected: Path) -> None:
    """It says what to do, and its place is free."""
    reader = FactsReader(collected.parent / "lake", limit_s=0.2)
    with pytest.raises(QueryStopped, match=r"longer than 0\.2 s"):
        asyncio.run(reader.ask(view_of(), endless(0)))
    reader.close()  # Waits for what is still at work.


@guarantee(47)
def test_a_query_that_needs_too_much_memory_is_stopped(collected: Path) -> None:
    """And the process goes on."""
    reader = FactsReader(collected.parent / "lake", memory_bytes=64 << 20)
    with pytest.raises(QueryStopped, match="more memory than 64 MiB"):
        asyncio.run(reader.ask(view_of(), GREEDY))
    assert asyncio.run(reader.ask(view_of(), BRIEF)) == [(42,)]
    reader.close()


def test_what_is_at_work_for_somebody_is_answered_to_all(collected: Path) -> None:
    """Pages of several people load anew at the same moment; whoever it was for may leave."""

    async def both() -> list[tuple[object, ...]]:
        leaving, staying = (view_of("", Access(name, Role.VIEWER, tenants=None)) for name in ("ann", "vera"))
        first = asyncio.create_task(reader.ask(leaving, some))
        while not any(one.working.running() for one in reader._asking.values()):
            await asyncio.sleep(0.001)
        second = asyncio.create_task(reader.ask(staying, some))
        await asyncio.sleep(0)
        assert len(reader._asking) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return await second

    some = Query("SELECT sum(range) FROM range(300_000_000)")
    reader = FactsReader(collected.parent / "lake")
    assert asyncio.run(both()) == [(44_999_999_850_000_000,)]
    assert not reader._asking
    reader.close()


def test_two_that_ask_the_same_are_answered_once(collected: Path) -> None:
    """And the one that leaves takes nothing from the one that stays."""

    async def both() -> list[tuple[object, ...]]:
        staying = asyncio.create_task(reader.ask(view_of(), some))
        leaving = asyncio.create_task(reader.ask(view_of(), some))
        await asyncio.sleep(0)
        assert len(reader._asking) == 1
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        return await staying

    some = Query("SELECT sum(range) FROM range(30_000_000)")
    reader = FactsReader(collected.parent / "lake")
    assert asyncio.run(both()) == [(449_999_985_000_000,)]
    assert not reader._asking
    reader.close()
