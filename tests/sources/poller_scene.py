"""A poller over a fake service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from structlog.testing import capture_logs

from m365watch.common.errors import AccessRefused, Unavailable
from m365watch.common.model import BlobRef, KnownBlob, Window
from m365watch_testing.loop import run_jumping
from scripted import EXCHANGE, FEED, House, house_in

Result = TypeVar("Result")
DOWN = Unavailable("HTTP 503")
REFUSED = AccessRefused("AF10001", fix="grant it")
WEEK = timedelta(days=7)


def run(folder: Path, use: Callable[[House], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with house_in(folder) as house:
            return await use(house)

    return run_jumping(main())


def run_told(folder: Path, use: Callable[[House], Awaitable[Result]]) -> tuple[Result, list[str]]:
    """What `use` gives, and the codes of the lines that were written."""
    with capture_logs() as lines:
        result = run(folder, use)
    return result, [str(line["code"]) for line in lines if "code" in line]


def publish(house: House, *ages_h: float) -> list[BlobRef]:
    """Blobs created so many hours ago."""
    return [
        house.api.publish(EXCHANGE, f"blob{number}", created_at=house.ago(hours=age_h))
        for number, age_h in enumerate(ages_h)
    ]


def due(house: House) -> list[KnownBlob]:
    return house.ledger.due_blobs(FEED, now=house.clock.now(), count_max=1_000, besides=frozenset())


def known(house: House) -> set[str]:
    return {blob.ref.content_id for blob in due(house)}


def listed(house: House) -> list[Window]:
    return [window for content_type, window in house.api.windows if content_type is EXCHANGE]
