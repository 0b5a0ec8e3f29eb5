"""Nobody's questions keep everybody else's waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any

import pytest
from promises import guarantee

from asking import view_of
from m365watch.board.access.roles import Access, Role, Scope
from m365watch.board.query.fact_queries import AT_ONCE_MAX, FactsReader
from m365watch.board.query.fair_thread_pool import FairThreads
from test_limits import BRIEF, endless

ANN = Access("ann", Role.ANALYST, tenants=None)
VERA = Access("vera", Role.VIEWER, tenants=None)
EVE = Access("eve", Role.VIEWER, tenants=None)
BOMB = "SELECT count(*) FROM range(100_000_000) one, range(100_000_000) other WHERE one.range <> {number}"
SOON_S = 30.0
"""What takes a moment takes no longer on a busy machine, and far less than what it must not wait for."""
LONG_S = 600.0


@asynccontextmanager
async def under_way(
    asked: Sequence[Coroutine[Any, Any, object]],
) -> AsyncIterator[list[asyncio.Task[object]]]:
    """All of that is asked, and nobody waits for it any more at the end."""
    tasks = [asyncio.create_task(one) for one in asked]
    await asyncio.sleep(0.01)
    try:
        yield tasks
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@guarantee(47)
def test_nobody_takes_every_place_of_the_pages(collected: Path) -> None:
    """Eight slow panels of one person made everybody else's wait for 20 s."""

    async def act() -> list[tuple[object, ...]]:
        slow = [reader.ask(view_of("", ANN), endless(100 + number)) for number in range(2 * AT_ONCE_MAX)]
        async with under_way(slow) as tasks, asyncio.timeout(SOON_S):
            answer = await reader.ask(view_of("", VERA), BRIEF)
            assert not any(one.done() for one in tasks)
        return answer

    with closing(FactsReader(collected.parent / "lake", limit_s=LONG_S)) as reader:
        assert asyncio.run(act()) == [(42,)]


@guarantee(47)
@pytest.mark.slow
def test_nobody_takes_every_place_of_sql(collected: Path) -> None:
    """Four questions of one analyst made everybody else's `SELECT 1` wait for a minute."""

    async def act() -> list[tuple[object, ...]]:
        def ask(who: str, sql: str) -> Coroutine[Any, Any, Any]:
            return reader.sql.ask(sql, who=who, tenants=None, sees_trail=False, rows_max=1, limit_s=LONG_S)

        bombs = [ask("ann", BOMB.format(number=number)) for number in range(4)]
        async with under_way(bombs) as tasks, asyncio.timeout(SOON_S):
            answer = await ask("vera", "SELECT 1")
            assert not any(one.done() for one in tasks)
        return list(answer.rows)

    with closing(FactsReader(collected.parent / "lake")) as reader:
        assert asyncio.run(act()) == [(1,)]


@pytest.fixture
def three() -> FairThreads:
    return FairThreads(3, "test-fair")


@guarantee(47)
def test_who_asks_the_same_waits_in_their_own_place(collected: Path) -> None:
    """Behind nine slow panels of somebody else stood what both asked for: it took the other one 8.5 s."""

    async def act() -> list[tuple[object, ...]]:
        slow = [reader.ask(view_of("", ANN), endless(500 + number)) for number in range(2 * AT_ONCE_MAX)]
        async with under_way([*slow, reader.ask(view_of("", ANN), BRIEF)]) as tasks, asyncio.timeout(SOON_S):
            answer = await reader.ask(view_of("", VERA), BRIEF)
            assert not any(one.done() for one in tasks)
        return answer

    with closing(FactsReader(collected.parent / "lake", limit_s=LONG_S)) as reader:
        assert asyncio.run(act()) == [(42,)]
        assert not reader._asking


@guarantee(47)
@pytest.mark.slow
def test_two_slow_people_keep_no_third_waiting(collected: Path) -> None:
    """Theirs had every place of the pages for 20 s, and of SQL for 30 s."""

    async def act() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        def sql(who: str, text: str) -> Coroutine[Any, Any, Any]:
            return reader.sql.ask(text, who=who, tenants=None, sees_trail=False, rows_max=1, limit_s=LONG_S)

        slow = [
            *(
                reader.ask(view_of("", one), endless(number))
                for number in (200, 300, 400)
                for one in (ANN, VERA)
            ),
            *(sql(one, BOMB.format(number=number)) for number in range(2) for one in ("ann", "vera")),
        ]
        async with under_way(slow) as tasks, asyncio.timeout(SOON_S):
            page, answer = await reader.ask(view_of("", EVE), BRIEF), await sql("eve", "SELECT 1")
            assert not any(one.done() for one in tasks)
        return page, list(answer.rows)

    with closing(FactsReader(collected.parent / "lake", limit_s=LONG_S)) as reader:
        assert asyncio.run(act()) == ([(42,)], [(1,)])


@guarantee(47)
def test_who_has_the_fewest_is_next(three: FairThreads) -> None:
    """However many others came first; each one's own go in their order, and who has none does not wait."""
    begun: Queue[str] = Queue()
    ends = {name: Event() for name in ("a1", "a2", "a3", "b1", "b2", "c1", "d1", "b3")}

    def work(name: str) -> str:
        begun.put(name)
        assert ends[name].wait(SOON_S)
        return name

    def begin_after(*ended: str, count: int) -> list[str]:
        """What begins once these have ended."""
        for name in ended:
            ends[name].set()
            assert futures[name].result(SOON_S) == name
        return sorted(begun.get(timeout=SOON_S) for _ in range(count))

    futures = {name: three.submit(name[0], partial(work, name)) for name in ends}
    assert begin_after(count=4) == ["a1", "a2", "b1", "c1"], (
        "the third is not a's, the last is nobody's second"
    )
    assert begin_after("a1", count=1) == ["d1"], "d has none, and a and b have one"
    assert begin_after("b1", count=1) == ["b2"], "b has none by now"
    assert begin_after("c1", "d1", count=1) == ["a3"], "of two places that are free, one is kept"
    assert begin_after("a2", count=1) == ["b3"]
    assert begin_after("b2", "a3", "b3", count=0) == []
    three.close(waits=True)


def test_what_is_cancelled_before_its_turn_is_never_done(three: FairThreads) -> None:
    """It holds no place, and neither does what fails; what waits at the end is cancelled."""
    let, done = Event(), Event()
    first = [three.submit("a", lambda: let.wait(SOON_S)) for _ in range(2)]
    never, failing, after = (three.submit("a", work) for work in (done.set, lambda: 1 / 0, lambda: 42))
    assert never.cancel()
    let.set()

    assert all(one.result(SOON_S) for one in first)
    assert isinstance(failing.exception(SOON_S), ZeroDivisionError)
    assert after.result(SOON_S) == 42
    assert not done.is_set()

    held = Event()
    holding = [three.submit("a", lambda: held.wait(SOON_S)) for _ in range(2)]
    waiting = three.submit("a", done.set)
    three.close(waits=False)
    held.set()
    assert all(one.result(SOON_S) for one in holding)
    assert waiting.cancelled()


def test_a_token_is_one_asker_and_its_name_is_nobody_else() -> None:
    """Whoever is called as a token is has a place of their own; all sessions of a person are one."""
    token = Access("token x", Role.VIEWER, tenants=None, scopes=frozenset({Scope.READ}), token="t1")
    person = Access("token x", Role.VIEWER, tenants=None)
    again = Access("token x", Role.VIEWER, tenants=None, session="other")

    assert token.asker != person.asker
    assert person.asker == again.asker
