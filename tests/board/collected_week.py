"""A collector that has run over some days of a tenant, attacks included: what the pages are shown with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from m365watch.app import Collector
from m365watch.clock import SystemClock, system_random
from m365watch.config.load import load_settings
from m365watch.simulator.server import SimulationSettings, simulator_running


def collect_into(folder: Path) -> Path:
    """The configuration in `folder` of a collector that has run once."""

    async def collect() -> Path:
        simulated = SimulationSettings(seed=5, days=4, records_per_day=400, live=False)
        async with simulator_running(simulated, clock=SystemClock()) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            path = folder / "m365watch.json"
            path.write_text(json.dumps(document))
            path.chmod(0o600)
            settings = load_settings(path, environment={})
            collector = Collector(settings, clock=SystemClock(), random=system_random(1))
            outcome = await collector.run(once=True, stop=asyncio.Event())
            assert outcome.exit_code == 0
            return path

    return asyncio.run(collect())
