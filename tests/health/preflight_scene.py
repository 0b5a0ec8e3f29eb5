"""A preflight in this process, against a simulated service, and what its steps came to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from patience import PATIENCE_S

from m365watch.common.clock import Clock, SystemClock, system_random
from m365watch.common.model import Service
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import ServiceSettings, Settings
from m365watch.health.checks.check_engine import Means, Progress, check_all
from m365watch.health.checks.check_specs import FreeBytes
from m365watch.health.checks.specs.disk import GIBIBYTE
from m365watch.http.client import open_session
from m365watch.registry.checks import Check, Checked, Group, Place, Verdict
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

Change = Callable[[dict[str, Any]], None]
FILES = {"files": {"type": "files", "config": {"directory": "out"}}}
LIMIT_S = 30.0
OK, NOTE, BROKEN, SKIPPED = Verdict.OK, Verdict.NOTE, Verdict.BROKEN, Verdict.SKIPPED


def unchanged(_document: dict[str, Any]) -> None:
    """The right configuration."""


def plenty(_folder: Path) -> int:
    """Room enough on every disk."""
    return 100 * GIBIBYTE


async def groups_of(
    settings: Settings,
    *,
    clock: Clock | None = None,
    free: FreeBytes = plenty,
    limit_s: float = LIMIT_S,
) -> list[Group]:
    """Every group of a preflight of all tenants."""
    async with asyncio.timeout(PATIENCE_S), open_session(stall_s=limit_s, total_s=limit_s) as session:
        means = Means(settings, session, clock or SystemClock(), system_random(1), limit_s, free)
        progress = Progress(total=3 + len(settings.tenants))
        found = [group async for group in check_all(means, settings.tenants, progress)]
    assert (progress.done, progress.under_way) == (progress.total, {})
    return found


@asynccontextmanager
async def simulating(scenario: Scenario | str | None = None) -> AsyncIterator[RunningSimulator]:
    """A simulated service with one tenant and a day of a few records."""
    known = load_scenario(scenario) if isinstance(scenario, str) else scenario
    settings = SimulationSettings(seed=5, days=1, records_per_day=40, scenario=known, live=False)
    async with simulator_running(settings, clock=SystemClock()) as running:
        yield running


def settings_of(
    folder: Path,
    running: RunningSimulator,
    change: Change = unchanged,
    outputs: dict[str, Any] | None = None,
) -> Settings:
    """The settings for that service, changed."""
    document = running.configuration(outputs=FILES if outputs is None else outputs)
    change(document)
    return parse_settings(document, path=folder / "c.json", environment={})


def preflight(
    folder: Path,
    scenario: Scenario | str | None = None,
    *,
    change: Change = unchanged,
    outputs: dict[str, Any] | None = None,
    limit_s: float = LIMIT_S,
) -> list[Group]:
    """The groups of a preflight against a service with that scenario."""

    async def main() -> list[Group]:
        async with simulating(scenario) as running:
            settings = settings_of(folder, running, change, outputs)
            found = await groups_of(settings, limit_s=limit_s)
            assert running.tenants[0].identity.client_secret not in repr(found)
            return found

    return asyncio.run(main())


def steps_of(groups: list[Group], *checks: Check) -> list[Checked]:
    """The steps of these checks (of all, where none is named), in their order."""
    return [step for group in groups for step in group.steps if not checks or step.check in checks]


def verdicts(groups: list[Group]) -> dict[str, set[str]]:
    """What each check came to."""
    found: dict[str, set[str]] = {}
    for step in steps_of(groups):
        found.setdefault(str(step.check), set()).add(str(step.verdict))
    return found


def broken(groups: list[Group]) -> Checked:
    """The one step that is broken, which has a cure."""
    [step] = [step for step in steps_of(groups) if step.verdict is BROKEN]
    assert step.fix
    return step


def skipped(groups: list[Group]) -> dict[str, str]:
    """What was not looked at, and which step it waits for."""
    return {str(step.check): str(step.waits_for) for step in steps_of(groups) if step.verdict is SKIPPED}


def tenant_group(groups: list[Group]) -> Group:
    """The one tenant's."""
    [group] = [group for group in groups if group.place is Place.TENANT]
    return group


def tenant_input(document: dict[str, Any]) -> dict[str, Any]:
    """The one input of a configuration."""
    (given,) = document["inputs"].values()
    assert isinstance(given, dict)
    return given


def make_service(service: Service) -> ServiceSettings:
    """A service with the defaults."""
    return ServiceSettings(service, None, None, 300.0, None, None)
