"""A fetcher over a fake service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from m365watch.common.errors import AccessRefused, Unavailable
from m365watch.registry.ports import WaitingBlob
from m365watch_testing.loop import run_jumping
from scripted import (
    Fetching,
    House,
    house_in,
)

Result = TypeVar("Result")
DOWN = Unavailable("HTTP 503")
REFUSED = AccessRefused("AF10001", fix="grant it")
DAY_S = 86_400.0


def run(folder: Path, use: Callable[[House], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with house_in(folder) as house:
            return await use(house)

    return run_jumping(main())


def waiting(house: House) -> list[WaitingBlob]:
    return house.ledger.waiting_blobs()


async def wait_idle(fetching: Fetching) -> None:
    async with asyncio.timeout(3_600):
        await fetching.fetcher.wait_idle()
