"""What a changed start time does: the added range is read, and what is known is not delivered again."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S

from m365watch.common.clock import SystemClock, system_random
from m365watch.common.model import Service
from m365watch.config.loader import parse_settings
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from m365watch_testing.outputs import FakeOutput

OUTPUTS = {"lake": {"type": "lake", "config": {"directory": "lake"}}}


class Restarts:
    """Runs with `--once` of one collector, each with a start time of its own."""

    def __init__(self, folder: Path, running: RunningSimulator) -> None:
        self._folder = folder
        self._running = running
        self._output = FakeOutput("lake")
        self.now = SystemClock().now()

    async def collect(self, start_at: datetime | None) -> int:
        """How many records arrived in this run."""
        before = len(self._output.disk.records)
        option = {} if start_at is None else {"start_time_in_utc": start_at.isoformat()}
        services = {service.value: option for service in Service if service.content_type}
        settings = parse_settings(
            self._running.configuration(OUTPUTS, services),
            path=self._folder / "m365watch.json",
            environment={},
        )
        collector = Collector(
            settings,
            clock=SystemClock(),
            random=system_random(1),
            build_output=lambda _: self._output,
        )
        async with asyncio.timeout(PATIENCE_S):
            outcome = await collector.run(once=True, stop=asyncio.Event())
        assert (outcome.exit_code, outcome.problems) == (0, ())
        return len(self._output.disk.records) - before

    def verdict(self) -> Verdict:
        return self._running.tenants[0].truth().judge(self._output.disk.records)


@pytest.mark.slow
def test_an_earlier_start_time_reads_the_added_range_and_repeats_nothing(tmp_path: Path) -> None:
    """Later, earlier, gone: after each change what is new arrives once, and at the end all is there once."""

    async def main() -> tuple[list[int], list[int], Verdict]:
        settings = SimulationSettings(seed=7, days=3, records_per_day=200, live=False)
        async with simulator_running(settings, clock=SystemClock()) as running:
            restarts = Restarts(tmp_path, running)
            starts = [restarts.now - timedelta(hours=h) for h in (12, 36)]
            arrived = [await restarts.collect(start_at) for start_at in (*starts, None)]
            again = [await restarts.collect(start_at) for start_at in (starts[0], None)]
            return arrived, again, restarts.verdict()

    arrived, again, verdict = asyncio.run(main())

    assert min(arrived) > 0
    assert again == [0, 0]
    assert verdict == Verdict([], [], [])
