"""The demo's simulated tenant, in a process of its own: `python -m m365watch.cli.demo.tenant_process`.

The first line on stdin is a `TenantPlan`; the first line on stdout is a configuration that
fits the tenant. The process ends with its stdin, so it never outlives the demo, however that
ends.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from m365watch.cli.demo.clock import QuickClock
from m365watch.cli.event_loop import run_in_loop
from m365watch.common.clock import SystemClock

if TYPE_CHECKING:
    from m365watch_simulator.server import RunningSimulator

RESPONDING = "may-respond"
"""The scenario: a day like any other, and an application that may carry plans of `respond` out."""
PUBLISHED = timedelta(hours=6)
"""Nearly every record is published that long after it happened."""


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """What the demo wants simulated."""

    seed: int
    days: int
    records_per_day: int


@dataclass(frozen=True, slots=True)
class StagedAttack:
    """An attack on the tenant, as those who play it know it."""

    title: str
    started_at: datetime
    record_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Introduction:
    """What the tenant says of itself."""

    configuration: dict[str, Any]
    """One that fits it."""
    attacks: tuple[StagedAttack, ...]
    """Those that are over, whose records have been published since, and that began after the first day.

    What happened at the far edge of the history may be cut, and has nothing before it to compare with. Six
    days hold one campaign whole.
    """


async def serve(plan: TenantPlan) -> None:
    """Simulate the tenant until stdin ends."""
    from m365watch_simulator.scenario import load_scenario
    from m365watch_simulator.server import SimulationSettings, simulator_running

    settings = SimulationSettings(
        seed=plan.seed,
        days=plan.days,
        records_per_day=plan.records_per_day,
        scenario=load_scenario(RESPONDING),
    )
    machine = SystemClock()
    clock = QuickClock(machine)
    async with simulator_running(settings, clock=clock, date_clock=machine) as running:
        now = clock.now()
        since = now - timedelta(days=max(plan.days - 1, 1))
        attacks = _attacks_of(running, since=since, until=now - PUBLISHED)
        introduction = Introduction(running.responding_configuration(), attacks)
        sys.stdout.buffer.write(msgspec.json.encode(introduction) + b"\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _attacks_of(running: RunningSimulator, *, since: datetime, until: datetime) -> tuple[StagedAttack, ...]:
    from m365watch_simulator.attacks.attack import Attack

    attacks = [one for one in running.tenants[0].attacks() if isinstance(one, Attack)]
    over = [one for one in attacks if since <= one.started_at and one.ended_at < until]
    return tuple(StagedAttack(one.title, one.started_at, one.record_ids) for one in over)


if __name__ == "__main__":
    run_in_loop(serve(msgspec.json.decode(sys.stdin.readline(), type=TenantPlan)))
