"""Long names in every place that others write: pages stay as wide as the window, and tables within it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from browsing import WIDTHS, _browser, shown
from m365watch.board.pages.page_registry import PAGES
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part
from test_hostile_names import KEPT

__all__ = ["_browser"]
LETTERS = 300
HIDDEN = "\x00\x1b\x00\x1b\x00\x1b"
"""Six letters, which are shown as 48."""
CUT = """[...document.querySelectorAll(".parts .scroll")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.getAttribute("aria-label"))"""
HIGH = """[...document.querySelectorAll(".legend li")]
  .filter((one) => one.offsetHeight > 30).map((one) => one.innerText.slice(0, 40))"""

GUEST = "jane.doe-of-purchasing_partner.example%23EXT%23@contoso.onmicrosoft.com"
NOBODY = tuple(
    f"{page}?user={name}" for page in ("overview", "investigate") for name in (GUEST, "u" * LETTERS)
)
"""Views of somebody without records, whose name stands in what they say instead."""


def stretched(value: Any, numbers: Iterator[int], name: str = "") -> Any:
    """The record with a long name in every text that may be one, and in every third operation."""
    match value:
        case dict():
            return {key: stretched(child, numbers, key.lower()) for key, child in value.items()}
        case list():
            return [stretched(child, numbers, name) for child in value]
        case str() if name == "operation" and next(numbers) % 3:
            return value
        case str() if name not in KEPT and next(numbers) % 4 == 0:
            return HIDDEN
        case str() if name not in KEPT - {"operation"}:
            return f"{value}{'abcdefghij' * LETTERS}"[:LETTERS]
    return value


@pytest.fixture(scope="module")
def long_named(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the same records with such names."""
    folder = tmp_path_factory.mktemp("long")
    shutil.copy(collected, folder / "m365watch.json")
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    rows = duckdb.execute("SELECT raw FROM read_parquet($files) ORDER BY id", {"files": files}).fetchall()
    numbers = count()
    whole = [stretched(json.loads(raw), numbers) for (raw,) in rows]
    # Of one day, whose rollups are made sooner than those of a week, and which is over.
    day = sorted({one["CreationTime"][:10] for one in whole})[-2]
    records = [json.dumps(one | {"CreationTime": day + one["CreationTime"][10:]}).encode() for one in whole]
    AuditWriter(folder / "lake", app_id="long").append(make_batch(1, [make_part(records, outputs=["lake"])]))
    return folder / "m365watch.json"


@pytest.mark.slow
def test_no_name_makes_a_page_wider_than_the_window(long_named: Path) -> None:
    """At both widths; and of tables side by side none is cut off by the next one, where there is room.

    What a chart is made of stands in a line each.
    """

    async def act() -> tuple[list[str], list[str]]:
        wide, cut = [], []
        async with shown(long_named) as page:
            for one in (*(each.name for each in PAGES), *NOBODY):
                await page.tab.look(WIDTHS[0])
                await page.tab.open(f"{page.url}/{one}{'&' if '?' in one else '?'}range=30d")
                for width in WIDTHS:
                    await page.tab.look(width)
                    found = await page.tab.run("document.documentElement.scrollWidth")
                    wide += [f"{one}: {found} of {width}"] if found > width else []
                    if width == WIDTHS[0]:
                        cut += [f"{one}: {table}" for table in await page.tab.run(CUT)]
                        cut += [f"{one}: {entry}" for entry in await page.tab.run(HIGH)]
        return wide, cut

    assert asyncio.run(act()) == ([], [])
