"""A collector that has run over a week of a tenant, attacks included: what the pages are shown with.

Its lake has the rollups that a board keeps: the first board that is served over it would make them, and
whoever compares them with the records.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec

from m365watch.app import Collector
from m365watch.clock import SystemClock, system_random
from m365watch.config.load import load_settings
from m365watch.lake.rollups.keeping import keep_rollups
from m365watch.simulator.server import SimulationSettings, simulator_running

TRUTH = "attacks.json"
"""Beside the configuration: what really happened."""


def collect_into(folder: Path) -> Path:
    """The configuration in `folder` of a collector that has run once."""

    async def collect() -> Path:
        simulated = SimulationSettings(seed=5, days=7, records_per_day=230, live=False)
        async with simulator_running(simulated, clock=SystemClock()) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            path = folder / "m365watch.json"
            path.write_text(json.dumps(document))
            path.chmod(0o600)
            settings = load_settings(path, environment={})
            collector = Collector(settings, clock=SystemClock(), random=system_random(1))
            outcome = await collector.run(once=True, stop=asyncio.Event())
            assert outcome.exit_code == 0
            keep_rollups(folder / "lake")
            (folder / TRUTH).write_bytes(msgspec.json.encode(running.tenants[0].attacks()))
            return path

    return asyncio.run(collect())
