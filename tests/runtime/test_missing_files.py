"""What an output has acknowledged and does not have any more is noted while a run lasts."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

from promises import guarantee

from m365watch.common.missing_files import MissingFiles, memory_name, missing_of
from m365watch_testing.clock import START
from m365watch_testing.outputs import FakeOutput
from running import ONE, Site, run

HOUR_S = 3600.0
DAY = date(2026, 11, 24)
LOST = MissingFiles(1, 312, DAY, DAY, ("audit/day=2026-11-24/1.parquet",), START, None, None)


class LosingOutput(FakeOutput):
    """One that knows which of its files are missing, as the lake does."""

    missing: MissingFiles | None = None

    async def find_missing_files(self) -> MissingFiles | None:
        return self.missing


@guarantee(15)
def test_a_run_looks_for_missing_files_once_an_hour(tmp_path: Path) -> None:
    """A file that goes after the look of the start is noted within an hour, and so is its return."""

    async def use(site: Site) -> list[MissingFiles | None]:
        site.make_output, noted = LosingOutput, []
        async with site.collecting(site.reached(ONE)):
            output = site.outputs["lake"]
            assert isinstance(output, LosingOutput)
            await asyncio.sleep(HOUR_S / 2)
            for missing in (LOST, None):
                output.missing = missing
                await asyncio.sleep(HOUR_S)
                noted.append(missing_of(site.ledger.remembered(memory_name("lake"))))
        return noted

    assert run(tmp_path, use) == [LOST, None]
