"""One life of the collector: the real parts over the simulated world, until it is stopped or crashes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import structlog

from m365watch.common.errors import CollectorError
from m365watch.common.model import Feed, Service
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.settings import ServiceSettings, TenantSettings
from m365watch.http.client import BODY_BYTES_MAX, Session
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.ledger.writer_thread import PATIENCE_ONCE_S, LedgerThread
from m365watch.pipeline.disk_queue import QUEUES_FOLDER, BatchQueue
from m365watch.pipeline.output_startup import Opening
from m365watch.records.identity import IdentityMaker
from m365watch.registry.outputs import Output
from m365watch.runtime.collector_run import CollectorRun, Outcome, RunParts
from m365watch.runtime.ledger_reconciliation import AdoptionParts, adopt
from m365watch.sources.factory import KeptAnnouncements, reach_feeds
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.page_spool import KeptPages
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.credentials import client_secret
from m365watch_testing.simulation.archive import Archive
from m365watch_testing.simulation.faults import Fault, Life
from m365watch_testing.simulation.loop import Crash, Endless, SimulatedLoop
from m365watch_testing.simulation.outputs import LakeLike, WireLike, make_outputs
from m365watch_testing.simulation.service import (
    LOGIN,
    MANAGEMENT,
    PUBLISHER,
    SimulatedService,
    SimulatedTransport,
)
from m365watch_testing.simulation.stores import Store
from m365watch_testing.simulation.watched import UnhurriedLedger, WatchedFlight, WatchedQueue
from m365watch_testing.simulation.ways import Way
from m365watch_testing.simulation.world import SimulatedClock, World

_UPKEEPS_MAX, _EVICTIONS_MAX = 150, 20
"""How often the ledger of one life is tidied up: that costs time, and a few times are enough."""
_OFTEN_S, _SLOWLY_S = 0.5, 2.0
"""How often in a run that ends by itself; with few requests a minute it takes many minutes to do so."""
_FEW_REQUESTS = 100
ONCE_MAX_S = 50_000.0
"""A run that should end by itself is stopped after this long, and has broken a promise."""


@dataclass(frozen=True, slots=True)
class Place:
    """What outlives the lives of one seed."""

    world: World
    service: SimulatedService
    feeds: list[Feed]
    stores: dict[str, Store]
    directory: Path
    archive: Archive
    random: Random
    """Decides how long work takes, and the collector's own jitter."""

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        return self.directory / LEDGER_FILE


def live(place: Place, life: Life, *, once: bool) -> Outcome | None:
    """Let the collector live; how its run ended, None where it crashed or could not start."""
    loop = SimulatedLoop(place.random)
    place.world.enter(loop)
    place.world.skew = timedelta(seconds=life.skew_s)
    place.world.on_durable = place.world.on_merging = lambda: None
    place.service.begin_life()
    place.world.history.tell(f"life {place.world.life} begins")
    alive = _Alive(place, life, loop, once=once)
    outcome: Outcome | None = None
    with _listening(place.world):
        try:
            outcome = loop.run_until_complete(alive.run())
            place.world.history.tell(f"the run ended with exit code {outcome.exit_code}: {outcome.problems}")
        except Crash:
            place.world.begun_at.pop()
            place.world.strike(Fault.CRASHES)
            place.world.history.tell("crash")
        except Endless as error:
            place.world.accuse(f"the collector hangs: {error}")
        except CollectorError as error:
            place.world.accuse(f"the collector ended with {error.code}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it broke the run, and the seed repeats it.
            place.world.accuse(f"the collector ended with {type(error).__name__}: {error}")
        alive.drop()
        place.world.leave()
        loop.bury()
    return outcome


class _Alive:
    """A collector that runs."""

    def __init__(self, place: Place, life: Life, loop: SimulatedLoop, *, once: bool) -> None:
        self._place = place
        self._life = life
        self._loop = loop
        self._once = once
        self._world = place.world
        self._clock = SimulatedClock(place.world)
        self._flight = WatchedFlight(place.world.plan.bytes_in_flight_max, place.world)
        self._ledger: UnhurriedLedger | None = None
        self._blocker: sqlite3.Connection | None = None

    def _every(self, seconds: float, *, times_max: int) -> float:
        """`seconds`, or more in a long life, and no more than makes sense in a run that ends by itself."""
        if self._once:
            is_slow = (self._world.plan.requests_per_minute or _FEW_REQUESTS) < _FEW_REQUESTS
            return _SLOWLY_S if is_slow else min(seconds, _OFTEN_S)
        is_for_s = min(self._life.lasts_s, self._life.crash_s or self._life.lasts_s)
        return max(seconds, is_for_s / times_max)

    async def run(self) -> Outcome:
        """The outcome of the run, after everything was closed in order."""
        stop = asyncio.Event()
        weather = self._arrange(stop)
        try:
            return await self._collect(stop)
        finally:
            weather.cancel()

    def _arrange(self, stop: asyncio.Event) -> asyncio.Task[None]:
        """Set the timers of what happens in this life."""
        life, loop, world = self._life, self._loop, self._world
        loop.call_later(ONCE_MAX_S if self._once else life.lasts_s, stop.set)
        if life.crash_s is not None:
            loop.call_later(life.crash_s, loop.crash_within, life.crash_turns)
            if life.crash_turns % 2:
                world.on_durable = self._crash_after(life.crash_turns // 2 % 8)
            else:
                world.on_merging = self._crash_after(life.crash_turns // 2 % 4)
        if life.skew_s:
            world.strike(Fault.SKEW)
        if life.sleep_s:
            loop.call_later(life.sleep_at_s, self._fall_asleep)
        if life.jump_s:
            loop.call_later(life.jump_at_s, self._jump, life.jump_s, Fault.SKEW)
        if life.leap_s and life.leap_at_s:
            loop.call_later(life.leap_at_s, self._jump, life.leap_s, Fault.LEAPS)
        elif life.leap_s:
            self._jump(life.leap_s, Fault.LEAPS)
        if life.copy_at_s is not None:
            loop.call_later(life.copy_at_s, self._place.archive.copy)
        return asyncio.create_task(self._rain())

    def _crash_after(self, times: int) -> Callable[[], None]:
        """Crash between an output's write and the ledger's commit, or between two steps of a merge.

        Once that has happened so many `times`.
        """
        left = iter(range(times, -1, -1))

        def count() -> None:
            if next(left, -1) == 0:
                self._loop.crash_within(1 + times % 3)

        return count

    def _fall_asleep(self) -> None:
        self._world.strike(Fault.ASLEEP)
        self._world.pass_time(self._life.sleep_s)

    def _jump(self, seconds: float, fault: Fault) -> None:
        self._world.strike(fault)
        self._world.skew += timedelta(seconds=seconds)
        self._world.history.tell(f"the clock jumps by {seconds} s")

    async def _rain(self) -> None:
        """Let the ledger's disk be full, and its file locked, when the plan says so."""
        spans = self._world.plan.spans
        edges = [at for fault in _OF_LEDGER for span in spans.get(fault, ()) for at in span]
        while not self._world.is_calm and edges:
            if self._ledger is not None:
                full = self._world.is_within(spans.get(Fault.LEDGER_FULL, ()))
                self._ledger.fill_disk(full=full)
                self._lock(locked=self._world.is_within(spans.get(Fault.LEDGER_LOCKED, ())))
            ahead = [at - self._world.elapsed_s for at in edges if at > self._world.elapsed_s]
            await asyncio.sleep(min([*ahead, 30.0]) + 0.001)

    def _lock(self, *, locked: bool) -> None:
        if locked and self._blocker is None:
            self._blocker = sqlite3.connect(self._place.ledger_path, timeout=0, isolation_level=None)
            with suppress(sqlite3.OperationalError):
                self._blocker.execute("BEGIN IMMEDIATE")
        if not locked and self._blocker is not None:
            self._blocker.close()
            self._blocker = None

    async def _collect(self, stop: asyncio.Event) -> Outcome:
        place, clock, world = self._place, self._clock, self._world
        patience_s = PATIENCE_ONCE_S if self._once else None
        calls = LedgerThread(clock, patience_s=patience_s)
        names = frozenset(place.stores)
        ledger = await calls(self._open_ledger, names)
        outputs = make_outputs(place.stores, world, place.random)
        await self._adopt(outputs, ledger, calls)
        # Not by a block, which would close what a crash leaves as it is.
        closing = AsyncExitStack()
        opening = Opening(ledger, calls, closing)
        for output in outputs:
            await opening.open_output(output)
        queued, kept = await opening.open_queues(self._queues(outputs), outputs, at=clock.now())
        session = Session(SimulatedTransport(place.service), body_bytes_max=BODY_BYTES_MAX)
        cycles = PullCycles(clock)
        parts = RunParts(
            ledger,
            calls,
            Troubles(ledger, calls, clock),
            cycles,
            clock=clock,
            random=place.random,
            flight=self._flight,
            upkeep_s=self._every(world.plan.upkeep_s, times_max=_UPKEEPS_MAX),
            evict_every_s=self._every(world.plan.evict_every_s, times_max=_EVICTIONS_MAX),
        )
        excluded = {one: names - world.outputs_of(one) for one in {feed.tenant_id for feed in place.feeds}}
        # Not by the thread, whose work takes its time: a history without routes is as it was.
        ledger.routes.exclude(excluded)
        feeds = reach_feeds(
            _tenants(place),
            session,
            clock=clock,
            random=place.random,
            on_request=cycles.count_request,
            pages=KeptPages(place.directory / "pages"),
            announced=KeptAnnouncements(KeptPages(place.directory / "announced"), lambda _: None),
        )
        run = CollectorRun(parts, feeds, queued, started_at=world.now(), patience_s=patience_s)
        run.resume(kept)
        outcome = await run.until_end(once=self._once, stop=stop)
        await closing.aclose()
        await calls(ledger.close)
        if self._once and stop.is_set():
            world.accuse("a run that should end by itself did not")
        return outcome

    def _open_ledger(self, names: frozenset[str]) -> UnhurriedLedger:
        # Kept at once: a crash may come before anybody hears that it is open.
        self._ledger = UnhurriedLedger(
            self._place.directory, outputs=names, now=self._clock.now(), world=self._world
        )
        return self._ledger

    async def _adopt(
        self, outputs: list[LakeLike | WireLike], ledger: UnhurriedLedger, calls: LedgerThread
    ) -> None:
        """As `app.Collector` does it; a life that is to crash may do so meanwhile."""
        tenants = list(dict.fromkeys(feed.tenant_id for feed in self._place.feeds))
        parts = AdoptionParts(ledger.held, IdentityMaker(ledger.identity_seed), calls, self._clock, tenants)
        turns = self._life.learning_turns
        if turns is not None and self._world.life > 1 and ledger.held.is_adoption_due():
            self._loop.crash_within(turns)
        adopted = await adopt(parts, outputs, self._queues(outputs))
        if adopted is not None:
            self._world.ways.add(Way.ADOPTED)
            if adopted.queued:
                self._world.ways.add(Way.ADOPTED_QUEUE)

    def _queues(self, outputs: Sequence[Output]) -> dict[str, BatchQueue]:
        return {
            one.name: WatchedQueue(
                self._world,
                self._place.directory / QUEUES_FOLDER / one.name,
                output=one.name,
                bytes_max=self._world.plan.queue_bytes_max,
                wide_headers=False,
            )
            for one in outputs
        }

    def drop(self) -> None:
        """The process is gone: what it held is closed, and what was not committed is lost."""
        if self._blocker is not None:
            self._blocker.close()
        if self._ledger is not None:
            self._ledger.close()
        if self._once:
            self._flight.check_empty()


_OF_LEDGER = (Fault.LEDGER_FULL, Fault.LEDGER_LOCKED)
_SERVICES = {service.content_type: service for service in Service}


def _tenants(place: Place) -> list[TenantSettings]:
    plan = place.world.plan
    return [
        TenantSettings(
            input_name="office365",
            input_id="1",
            tenant_id=tenant_id,
            client_id="app",
            credentials=(client_secret("secret"),),
            cloud=Cloud("simulated", LOGIN, MANAGEMENT, MANAGEMENT),
            publisher_id=PUBLISHER,
            services=tuple(
                ServiceSettings(_SERVICES[feed.audit_type], None, None, plan.period_s, None, None)
                for feed in place.feeds
                if feed.tenant_id == tenant_id
            ),
            requests_per_minute=plan.requests_per_minute,
            lookback_s=plan.lookback_s,
        )
        for tenant_id in dict.fromkeys(feed.tenant_id for feed in place.feeds)
    ]


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """Put what the collector says into the history; a defect that it tells breaks a promise."""

    def tell(_logger: object, level: str, line: MutableMapping[str, Any]) -> NoReturn:
        if level != "debug":
            world.history.tell(f"  {level}: {line['event']}")
        if line.get("code") == "defect":
            world.accuse(f"a defect: {line['event']}")
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [tell]
    structlog.configure(processors=processors)
    try:
        yield
    finally:
        processors[:] = before
        structlog.configure(processors=processors)
