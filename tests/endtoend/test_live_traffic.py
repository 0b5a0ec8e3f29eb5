from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hurry import HurriedClock, run_hurried
from m365watch.common.model import Service
from m365watch.runtime.collector_run import Outcome
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Verdict
from place import BOTH, Place

FLAWLESS = Verdict([], [], [])
QUARTER_S = 900.0
QUARTERS = 12


def document_for(running: RunningSimulator) -> dict[str, Any]:
    """Every service of every tenant, asked for new content each second."""
    services = [service for service in Service if service.content_type is not None]
    period = {"request_period_in_seconds": 1}
    return running.configuration(outputs=BOTH, services={str(service): period for service in services})


async def run_for_hours(place: Place, running: RunningSimulator, clock: HurriedClock) -> Outcome:
    """Run while quarter after quarter passes, then stop."""
    stop = asyncio.Event()
    run = asyncio.create_task(place.collector(document_for(running), clock).run(once=False, stop=stop))
    for _ in range(QUARTERS):
        await asyncio.sleep(4)
        clock.skip(QUARTER_S)
    stop.set()
    return await run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "bad-day", "late-appearance"])
def test_what_two_tenants_publish_meanwhile_arrives(name: str, tmp_path: Path) -> None:
    """Three hours of live traffic beside the backfill, then a last look: each record once."""
    place = Place(tmp_path)
    scenario = load_scenario(name) if name else Scenario()
    settings = SimulationSettings(
        seed=5, tenants=derive_identities(5, 2), days=1, records_per_day=300, page_size=5, scenario=scenario
    )

    async def run() -> tuple[list[Outcome], dict[str, list[Verdict]], int]:
        clock = HurriedClock()
        async with simulator_running(settings, clock=clock) as running:
            stopped = await run_for_hours(place, running, clock)
            clock.freeze()
            last = await place.collector(document_for(running), clock).run(once=True, stop=asyncio.Event())
            truths = {tenant.identity.tenant_id: tenant.truth() for tenant in running.tenants}
            verdicts = {
                output: [
                    truth.judge(record for record in held if tenant_id.encode() in record)
                    for tenant_id, truth in truths.items()
                ]
                for output, held in place.holdings().items()
            }
            return [stopped, last], verdicts, sum(truth.record_count for truth in truths.values())

    outcomes, verdicts, count = run_hurried(run())
    live = sum(feed.records_delivered for feed in outcomes[0].progress.feeds)

    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert verdicts == {"files": [FLAWLESS, FLAWLESS], "lake": [FLAWLESS, FLAWLESS]}
    assert [len(held) for held in place.holdings().values()] == [count, count]
    assert live > 0.2 * count, "a good part of it came while the collector ran"
