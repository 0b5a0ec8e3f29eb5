"""A collector that has run over a week of a tenant, attacks included: what the pages are shown with.

Its lake has the rollups that a board keeps: the first board that is served over it would make them, and
whoever compares them with the records.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from m365watch.common.clock import system_random
from m365watch.config.loader import load_settings
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.clock import ShiftedClock

COLLECTED_AT = datetime(2026, 11, 30, 13, 20, tzinfo=UTC)
"""When the collector ran: the same instant on every machine, and so the same records and alerts."""
CLOCK = ShiftedClock.set_to(COLLECTED_AT + timedelta(minutes=5))
"""The present of whoever looks at the week; it goes on from there while a process runs its tests."""
CONFIGURATION, TRUTH = "m365watch.json", "attacks.json"
"""The second, beside the first, is written last: what really happened."""


def copy_of_week(shared: Path, own: Path) -> Path:
    """The configuration in `own`, which is not there yet, of a collector that has run once.

    Of the processes of a run of tests the first collects into `shared`, and all copy that: its settings
    have relative paths, and a lake and a ledger may be moved.
    """
    with shared.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / TRUTH).exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            collect_into(shared)
    shutil.copytree(shared, own)
    return own / CONFIGURATION


def collect_into(folder: Path) -> Path:
    """The configuration in `folder` of a collector that has run once."""

    async def collect() -> Path:
        clock = ShiftedClock.set_to(COLLECTED_AT)
        simulated = SimulationSettings(seed=5, days=7, records_per_day=230, live=False)
        async with simulator_running(simulated, clock=clock) as running:
            document = running.configuration(outputs={"lake": {"type": "lake"}})
            path = folder / CONFIGURATION
            path.write_text(json.dumps(document))
            path.chmod(0o600)
            settings = load_settings(path, environment={})
            collector = Collector(settings, clock=clock, random=system_random(1))
            outcome = await collector.run(once=True, stop=asyncio.Event())
            assert outcome.exit_code == 0
            keep_rollups(folder / "lake")
            (folder / TRUTH).write_bytes(msgspec.json.encode(running.tenants[0].attacks()))
            return path

    return asyncio.run(collect())
