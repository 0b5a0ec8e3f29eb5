"""The world of one seed: its time, its tenants, what is wrong in it, and what it has seen broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from m365watch.common.model import Feed, TenantId
from m365watch_testing.clock import START
from m365watch_testing.simulation.content import TENANTS, Content
from m365watch_testing.simulation.faults import Fault, Plan
from m365watch_testing.simulation.held import HeldBytes
from m365watch_testing.simulation.history import History
from m365watch_testing.simulation.ways import Way

BlobName = tuple[str, str, str, int]
"""A blob as the ledger names it: tenant, content type, content id, microseconds of its contentCreated."""
BROKEN_MAX = 20
"""Broken promises that are told of one seed; more say nothing new."""


class World:
    """What outlives every life of the collector."""

    def __init__(self, plan: Plan, contents: list[Content]) -> None:
        """Begins at `testing.clock.START` with all `contents` of its whole time."""
        self.plan = plan
        self.contents = contents
        self.skew = timedelta(0)
        """How far the collector's clock is ahead."""
        self.is_calm = False
        """Whether every fault is over."""
        self.listings: list[tuple[Feed, datetime, datetime, datetime]] = []
        """The listings that were answered: feed, when they were asked for, from when and up to when."""
        self.on_durable: Callable[[], None] = lambda: None
        """Called whenever the lake or the files have made a batch durable, before they say so."""
        self.life = 0
        self.begun_at: list[datetime] = []
        """When the lives began, but for those that crashed: nobody knows how far they have come."""
        self.history = History(lambda: self.elapsed_s)
        self.broken: list[str] = []
        self.held = HeldBytes(plan.bytes_in_flight_max, self.accuse)
        """What the collector of this life holds in memory alone."""
        self.struck: set[Fault] = set()
        """What has taken effect, noted where it does."""
        self.ways: set[Way] = set()
        """What the ledgers have come by."""
        self.merges = 0
        """Merges that came to their end, in all lives."""
        self.on_merging: Callable[[], None] = lambda: None
        """Called whenever a merge has become durable in part."""
        self.forgotten: dict[BlobName, int] = {}
        """The final states of the blobs that the present ledger has forgotten."""
        self.ledger_begun_at: datetime | None = None
        """When a ledger that knows less took the place of another, for the last time; None: never."""
        self.halves: set[str] = set()
        """The outputs at which a crash left half a batch."""
        self._base_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def elapsed_s(self) -> float:
        """How long the world has existed."""
        return self._base_s + (self._loop.time() if self._loop is not None else 0.0)

    def now(self) -> datetime:
        """The true present instant."""
        return START + timedelta(seconds=self.elapsed_s)

    @property
    def is_between_lives(self) -> bool:
        """Whether no collector lives: what is heard of one comes from its burial."""
        return self._loop is None

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """A life begins on `loop`, which moves the world's time from here on."""
        self.life += 1
        self.begun_at.append(self.now())
        self.held = HeldBytes(self.plan.bytes_in_flight_max, self.accuse)
        self._loop = loop

    def leave(self) -> None:
        """The life is over; its time has passed."""
        self._base_s = self.elapsed_s
        self._loop = None

    def pass_time(self, seconds: float) -> None:
        """Let time pass without anybody noticing: the collector is off, or its machine is asleep."""
        self._base_s += seconds

    def is_within(self, spans: tuple[tuple[float, float], ...]) -> bool:
        """Whether a fault that lasts for `spans` of the world's time is on now."""
        if self.is_calm:
            return False
        return any(start_s <= self.elapsed_s < end_s for start_s, end_s in spans)

    def is_on(self, fault: Fault) -> bool:
        """Whether `fault` is planned, and on just now."""
        return fault in self.plan.faults and self.is_within(self.plan.spans[fault])

    def outputs_of(self, tenant_id: str) -> frozenset[str]:
        """The outputs that the tenant's records go to."""
        routes = self.plan.routes
        place = TENANTS.index(TenantId(tenant_id))
        return frozenset(routes[place]) if place < len(routes) else frozenset(self.plan.outputs)

    def strike(self, fault: Fault) -> None:
        """`fault` takes effect here and now."""
        self.struck.add(fault)

    def accuse(self, promise: str) -> None:
        """Note a broken promise, once."""
        if promise not in self.broken and len(self.broken) < BROKEN_MAX:
            self.broken.append(promise)
            self.history.tell(f"BROKEN: {promise}")


class SimulatedClock:
    """Implements `Clock`: the collector's clock, which may be wrong; its monotonic one never jumps."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        """What the collector believes."""
        return self._world.now() + self._world.skew

    def monotonic_s(self) -> float:
        """Seconds since the life began, without those that the machine slept."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Return when the loop has moved on by `seconds`."""
        await asyncio.sleep(seconds)
