"""What open pages are told."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from asking import view_of
from m365watch.board.access import Access, Role
from m365watch.board.lake_reader import FactsReader
from m365watch.board.live import LOOK_EVERY_S, TOLD_AT_LEAST_EVERY, tell_news
from m365watch.board.sources import Sources
from m365watch.clock import SystemClock


class Hurried(SystemClock):
    """Waits for nothing, and counts how long it would have been."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    async def sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        await asyncio.sleep(0)


async def first(sources: Sources, count: int, access: Access | None = None) -> list[str]:
    view = view_of("range=30d", *([access] if access else []))
    told = []
    async with aclosing(tell_news(view, sources)) as news:
        async for one in news:
            told.append(one.decode())
            if len(told) == count:
                break
    return told


def parsed(told: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told.removeprefix("data: "))
    return found


def test_a_page_is_told_at_once_how_it_stands(sources: Sources) -> None:
    """The first news come without waiting; what does not change is not told again, and the line is kept."""
    clock = Hurried()

    news, kept = asyncio.run(first(replace(sources, clock=clock), 2))

    assert parsed(news)["records"] > 0
    assert parsed(news)["feeds"] > 0
    assert kept == ": still here\n\n"
    assert clock.waited_s == LOOK_EVERY_S * TOLD_AT_LEAST_EVERY


def test_a_page_is_told_that_the_lake_is_gone(sources: Sources, tmp_path: Path) -> None:
    """Its folder is not there, and the ledger says that records were delivered."""
    gone = replace(sources, facts=FactsReader(tmp_path / "lake"))

    [there], [away] = asyncio.run(first(sources, 1)), asyncio.run(first(gone, 1))

    assert not parsed(there)["gone"]
    assert parsed(away)["gone"]


def test_news_stay_within_a_scope(sources: Sources) -> None:
    """Who may see another tenant hears of no record and of no alert of this one."""
    stranger = Access("bob", Role.VIEWER, frozenset({"00000000-0000-4000-8000-000000000000"}))

    [news] = asyncio.run(first(sources, 1, stranger))

    assert parsed(news) == {
        "records": 0,
        "alerts": 0,
        "newest": "",
        "feeds": 0,
        "troubled": 0,
        "stopped": "",
        "unread": "",
        "gone": False,
    }
