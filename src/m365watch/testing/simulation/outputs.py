"""Outputs with a durable and a volatile part: like the lake, like files, and like the wire to Devo.

What a store has made durable outlives every crash; what was only written goes with it. The wire's
store is the receiver's side: what has arrived there cannot be taken back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from m365watch.errors import OutputUnavailable
from m365watch.model import Batch, Receipt, RefusedRecord
from m365watch.testing.simulation.faults import Fault
from m365watch.testing.simulation.world import World

_LOOK_S = 20.0
_RETENTION_S = 10.0
_WORK_S = (0.0, 0.002, 0.05, 0.4)


@dataclass(slots=True)
class Store:
    """Where an output's records are; outlives it."""

    name: str
    durable: dict[int, list[bytes]] = field(default_factory=dict)
    """The lake's and the files' records, by the number of the batch that brought them."""
    received: Counter[bytes] = field(default_factory=Counter)
    """What the wire's receiver got, and how often."""
    allowed: Counter[bytes] = field(default_factory=Counter)
    """How often more than once each record may have been received: breaks and
    crashes that met it unproven."""
    proven: dict[int, list[bytes]] = field(default_factory=dict)
    """What was sent of batches that the wire has proven, and of which the ledger may have no receipt yet."""

    def records(self, last_batch: int | None = None) -> Counter[bytes]:
        """How often each record is here; with `last_batch`, without what is beyond it."""
        found = Counter(self.received)
        for number, records in self.durable.items():
            if last_batch is None or number <= last_batch:
                found.update(records)
        return found

    def crash(self, last_batch: int) -> None:
        """The collector is gone: what the ledger has no receipt of may come again."""
        for number, records in self.proven.items():
            if number > last_batch:
                self.allowed.update(records)
        self.proven.clear()


class _Output:
    """What the simulated outputs have in common."""

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = False

    def __init__(self, store: Store, world: World, random: Random) -> None:
        self.name = store.name
        self._store = store
        self._world = world
        self._random = random

    def _is_on(self, fault: Fault) -> bool:
        plan = self._world.plan
        return fault in plan.faults and self._world.is_within(plan.spans[fault])

    def _is_struck(self, fault: Fault) -> bool:
        """Whether `fault` is on and meets this output: the seed says which."""
        if not self._is_on(fault):
            return False
        names = self._world.plan.outputs
        return names[self._world.plan.seed % len(names)] == self.name

    async def _work(self) -> None:
        """Take some time; an output that hangs takes it until that is over."""
        await asyncio.sleep(self._random.choice(_WORK_S))
        while self._is_struck(Fault.OUTPUT_HANGS):
            await asyncio.sleep(_LOOK_S)
        if self._is_struck(Fault.OUTPUT_DOWN):
            raise self._unavailable("it is down")

    def _fails(self) -> bool:
        return self._is_on(Fault.OUTPUT_FAILS) and self._random.random() < 0.3

    def _unavailable(self, what: str) -> OutputUnavailable:
        return OutputUnavailable(what, where=f"output {self.name}")

    def _records(self, batch: Batch) -> list[bytes]:
        """The batch's records, which have to be meant for this output."""
        if any(self.name not in part.missing_outputs for part in batch.parts):
            self._world.accuse(f"{self.name} was handed a blob that it is not to get")
        return [record for part in batch.parts for record in part.records]

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Nothing is left to do: what was acknowledged is safe."""


class LakeLike(_Output):
    """Cannot take back, and knows a batch by its number: the second time it does nothing."""

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """What is found: the last durable batch."""
        del last_batch, position
        found = max(self._store.durable, default=0)
        if newest_batch is not None and found > newest_batch:
            self._world.accuse("the ledger has forgotten a batch that the lake holds")
        return found

    async def deliver(self, batch: Batch) -> Receipt:
        """Make the batch durable; now and then without living to say so."""
        records = self._records(batch)
        await self._work()
        if self._fails() and self._random.random() < 0.5:
            raise self._unavailable("the write failed")
        if batch.number < max(self._store.durable, default=0):
            self._world.accuse(f"{self.name} was handed batch {batch.number} after a later one")
        self._store.durable.setdefault(batch.number, records)
        self._world.on_durable()
        self._world.history.tell(f"{self.name}: batch {batch.number} of {len(records)} is durable")
        if self._fails():
            raise self._unavailable("the answer to the commit was lost")
        await self._work_after()
        return Receipt()

    async def _work_after(self) -> None:
        await asyncio.sleep(self._random.choice(_WORK_S))


class FilesLike(LakeLike):
    """Cuts itself back to the last receipt that the ledger has."""

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """Cut back; what the receipt names has to be here."""
        del newest_batch
        if last_batch != (json.loads(position)["batch"] if position else 0):
            self._world.accuse(f"{self.name} was not given back its receipt")
        for number in [number for number in self._store.durable if number > last_batch]:
            del self._store.durable[number]
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Make the batch durable."""
        await super().deliver(batch)
        return Receipt(json.dumps({"batch": batch.number}))


@dataclass(slots=True)
class _Sending:
    """A batch on its way through the wire."""

    number: int
    records: list[bytes]
    before: _Sending | None
    """The batch that was handed over before it; None for the first after a break."""
    breaks: asyncio.Event
    """Set when the connection on which it is sent breaks."""
    arrived: list[bytes] = field(default_factory=list)
    has_failed: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is proven or has failed."""


class WireLike(_Output):
    """Learns late what is durable, cannot take back, and sends again what a break leaves unproven."""

    batches_at_once_max = 8
    waits_on_disk = True

    def __init__(self, store: Store, world: World, random: Random) -> None:
        super().__init__(store, world, random)
        self._proof = asyncio.Event()
        self._break = asyncio.Event()
        self._last: _Sending | None = None
        """What was handed over last."""

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """It knows nothing of its own."""
        del position, newest_batch
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Send, and wait until what was sent is proven or has outlived the retention."""
        refused = self._refused(batch)
        taken = Counter(self._records(batch)) - Counter(one.record for one in refused)
        sending = self._begin(batch.number, list(taken.elements()))
        try:
            await self._send(sending)
            await self._prove(sending)
        except BaseException:
            sending.has_failed = True
            self._break.set()
            self._break = asyncio.Event()
            self._store.allowed.update(sending.arrived)
            raise
        finally:
            sending.is_over.set()
        self._store.proven[batch.number] = sending.records
        self._world.history.tell(f"{self.name}: batch {batch.number} of {len(sending.records)} is proven")
        return Receipt("", tuple(refused))

    def _begin(self, number: int, records: list[bytes]) -> _Sending:
        """Take the batch over; where an earlier number comes again, the order begins anew with it."""
        before = self._last if self._last is not None and self._last.number < number else None
        self._last = _Sending(number, records, before, self._break)
        return self._last

    async def _send(self, sending: _Sending) -> None:
        """Let the records arrive; where the connection breaks, only some of them."""
        await self._work()
        is_cut = self._is_on(Fault.WIRE_BREAKS) and self._random.random() < 0.3
        count = len(sending.records)
        sending.arrived = sending.records[: self._random.randrange(count + 1) if is_cut else count]
        self._store.received.update(sending.arrived)
        if is_cut or self._fails():
            raise self._unavailable("the connection broke")

    async def _prove(self, sending: _Sending) -> None:
        """Return once the receiver has surely read all that was sent up to here."""
        await self._wait(self._proof, sending, within_s=_RETENTION_S)
        while self._is_struck(Fault.OUTPUT_HANGS):
            await asyncio.sleep(_LOOK_S)
        if sending.before is not None:
            await sending.before.is_over.wait()
            if sending.before.has_failed:
                raise self._unavailable("the connection broke")
            # What is proven long ago holds nothing any more.
            sending.before = None

    async def _wait(self, awaited: asyncio.Event, sending: _Sending, *, within_s: float | None) -> None:
        waits = [asyncio.create_task(one.wait()) for one in (awaited, sending.breaks)]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if sending.breaks.is_set():
                raise self._unavailable("the connection broke")
        finally:
            for one in waits:
                one.cancel()

    def _refused(self, batch: Batch) -> list[RefusedRecord]:
        if Fault.OUTPUT_REFUSES not in self._world.plan.faults:
            return []
        return [
            RefusedRecord(part.blob, record, "too long for a line")
            for part in batch.parts
            for record in part.records
            if refuses(record)
        ]

    async def flush(self) -> None:
        """The receiver says what it has read."""
        await asyncio.sleep(0)
        if not self._is_struck(Fault.OUTPUT_HANGS):
            self._proof.set()
            await asyncio.sleep(0)
            self._proof.clear()


def refuses(record: bytes) -> bool:
    """Whether the wire never takes `record`: the record itself decides, so that it always does."""
    return sum(record) % 10 == 0


def make_outputs(stores: dict[str, Store], world: World, random: Random) -> list[LakeLike | WireLike]:
    """One life's outputs over the stores that outlive it."""
    kinds: dict[str, type[LakeLike | WireLike]] = {
        "lake": LakeLike,
        "files": FilesLike,
        "devo": WireLike,
    }
    return [kinds[name](store, world, random) for name, store in stores.items()]
