"""A page's own HTML waits for no query: what it names only looks better for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE_S

import m365watch.board.query.query_throttle
from asking import ask, board_of
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader

TENANT = "11111111-1111-4111-8111-111111111111"


def test_a_page_waits_for_no_name_while_the_collector_wants_the_cores(
    sources: Sources, collected: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter on a tenant is shown by its id then; the page waited 10 s for its turn to ask for the name."""

    @asynccontextmanager
    async def never(_: str) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def act() -> str:
        async with asyncio.timeout(PATIENCE_S):
            return (await ask(board_of(resting), f"/overview?tenant={TENANT}")).text

    monkeypatch.setattr(m365watch.board.query.query_throttle, "REST_MAX_S", 2 * PATIENCE_S)
    with closing(FactsReader(collected.parent / "lake", turn=never)) as facts:
        resting = replace(sources, facts=facts)
        assert TENANT in asyncio.run(act())
