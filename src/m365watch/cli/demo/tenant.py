"""The demo's simulated tenant, in a process of its own: `python -m m365watch.cli.demo.tenant`.

The first line on stdin is a `TenantPlan`; the first line on stdout is a configuration that
fits the tenant. The process ends with its stdin, so it never outlives the demo, however that
ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import msgspec

from m365watch.cli.demo.clock import QuickClock
from m365watch.cli.loop import run_in_loop
from m365watch.clock import SystemClock


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """What the demo wants simulated."""

    seed: int
    days: int
    records_per_day: int


async def serve(plan: TenantPlan) -> None:
    """Simulate the tenant until stdin ends."""
    from m365watch.simulator.server import SimulationSettings, simulator_running

    settings = SimulationSettings(seed=plan.seed, days=plan.days, records_per_day=plan.records_per_day)
    async with simulator_running(settings, clock=QuickClock(SystemClock())) as running:
        sys.stdout.write(json.dumps(running.configuration()) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    run_in_loop(serve(msgspec.json.decode(sys.stdin.readline(), type=TenantPlan)))
