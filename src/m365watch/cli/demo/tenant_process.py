"""The demo's simulated tenant, in a process of its own: `python -m m365watch.cli.demo.tenant_process`.

The first line on stdin is a `TenantPlan`; the first line on stdout is a configuration that
fits the tenant. The process ends with its stdin, so it never outlives the demo, however that
ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from m365watch.cli.event_loop import run_in_loop
from m365watch.common.clock import Clock, SystemClock
from m365watch.common.errors import NeedsOperator

if TYPE_CHECKING:
    from m365watch_simulator.service.server import RunningSimulator


DELAY = timedelta(hours=1)
SPEED = 150
"""How many times as fast as life the tenant lives through that hour: a few blobs come out every second."""


class QuickClock:
    """A `Clock` that runs up to the machine's own.

    What a tenant with this clock publishes has a contentCreated that its collector passed
    already: content that comes late, which every poll lists again for.
    """

    def __init__(self, machine: Clock) -> None:
        """`machine` is the clock that it runs up to."""
        self._machine = machine
        self._started_at = machine.now()

    def now(self) -> datetime:
        """The tenant's present, aware, in UTC; never later than the machine's."""
        present = self._machine.now()
        gained = (present - self._started_at) * (SPEED - 1)
        return present - max(timedelta(0), DELAY - gained)

    def monotonic_s(self) -> float:
        """Seconds of the machine."""
        return self._machine.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of the machine."""
        await self._machine.sleep(seconds)


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
    from m365watch_simulator.service.scenario import load_scenario
    from m365watch_simulator.service.server import SimulationSettings, simulator_running

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
    from m365watch_simulator.organization.attacks.attack import Attack

    attacks = [one for one in running.tenants[0].attacks() if isinstance(one, Attack)]
    over = [one for one in attacks if since <= one.started_at and one.ended_at < until]
    return tuple(StagedAttack(one.title, one.started_at, one.record_ids) for one in over)


if __name__ == "__main__":
    run_in_loop(serve(msgspec.json.decode(sys.stdin.readline(), type=TenantPlan)))


START_S_MAX = 60.0
"""A busy machine takes its time to make a week of records."""
_END_S_MAX = 2.0


@contextlib.asynccontextmanager
async def tenant_running(plan: TenantPlan, *, output_path: Path) -> AsyncIterator[Introduction]:
    """A tenant in a process of its own until the block ends; gives what it says of itself.

    What it complains of is left in `output_path`. Its own session keeps Ctrl-C from reaching it before
    the collector has finished.

    Raises: NeedsOperator: it did not start.
    """
    with output_path.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "m365watch.cli.demo.tenant_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    try:
        introduction = await _introduce(process, plan)
        if introduction is None:
            raise NeedsOperator("did not start", where="simulated tenant", fix=_look_at(output_path))
        yield introduction
    finally:
        await _end(process)
        _drop_if_empty(output_path)


async def _introduce(process: asyncio.subprocess.Process, plan: TenantPlan) -> Introduction | None:
    """What the tenant says of itself; None if it ended or said nothing in time."""
    if process.stdin is None or process.stdout is None:
        return None
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(START_S_MAX):
            process.stdin.write(msgspec.json.encode(plan) + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            return msgspec.json.decode(line, type=Introduction) if line else None
    return None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _look_at(path: Path) -> str:
    return f"see {path} for the reason" if path.stat().st_size else "try again once the machine is less busy"


def _drop_if_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        path.unlink()
