"""Outputs with a durable and a volatile part: like the lake, like files, and like the wire to Devo.

What a store has made durable outlives every crash. What was only written does not count: parts in the lake
that no commit names, bytes in files that are cut back, bytes on a wire of which the receiver reads some. What
it has read cannot be taken back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.registry.outputs import HeldPiece, MarkedPiece
from m365watch_testing.simulation.faults import Fault
from m365watch_testing.simulation.stores import MAKER, Sent, Store, by_tenant, torn
from m365watch_testing.simulation.world import World

_LOOK_S = 20.0
_RETENTION_S = 10.0
_WORK_S = (0.0, 0.002, 0.05, 0.4)


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

    def _is_struck(self, fault: Fault) -> bool:
        """Whether `fault` is on and meets this output: the seed says which."""
        names = self._world.plan.outputs
        if not self._world.is_on(fault) or names[self._world.plan.seed % len(names)] != self.name:
            return False
        self._world.strike(fault)
        return True

    async def _work(self) -> None:
        """Take some time; an output that hangs takes it until that is over."""
        await asyncio.sleep(self._random.choice(_WORK_S))
        while self._is_struck(Fault.OUTPUT_HANGS):
            await asyncio.sleep(_LOOK_S)
        if self._is_struck(Fault.OUTPUT_DOWN):
            raise self._unavailable("it is down")

    def _fails(self) -> bool:
        fails = self._world.is_on(Fault.OUTPUT_FAILS) and self._random.random() < 0.3
        if fails:
            self._world.strike(Fault.OUTPUT_FAILS)
        return fails

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
    """Cannot take back, and knows a batch by its number: the second time it does nothing.

    Parts are written first and named by the commit; those of a batch without one are named nowhere.
    """

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """What is found: the last durable batch."""
        del last_batch, position
        found = self._found(newest_batch)
        self._store.begun.clear()
        return found

    def _found(self, newest_batch: int | None) -> int:
        """The last batch that is here, which has to be one of the ledger's."""
        found = max(self._store.durable, default=0)
        if newest_batch is not None and found > newest_batch:
            self._world.accuse(f"the ledger has forgotten a batch that the {self.name} output holds")
            raise OutputUnusable("holds batches of another ledger", where=self.name, fix="name the other one")
        return found

    async def take_over(self) -> int:
        """The last batch that is here, whoever's ledger gave it its number."""
        return max(self._store.durable, default=0)

    async def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        """What became durable after `since`, batch by batch, each tenant's apart."""
        for number, records in sorted(self._store.durable.items()):
            if self._store.written_at[number] < since:
                continue
            await asyncio.sleep(self._random.choice(_WORK_S))
            for tenant_id, some in by_tenant(records).items():
                yield HeldPiece(tenant_id, some)

    async def list_erased(self) -> AsyncIterator[MarkedPiece]:
        """What was erased between two lives."""
        await asyncio.sleep(self._random.choice(_WORK_S))
        if self._store.marks:
            yield MarkedPiece(MAKER.key, self._store.marks)

    async def deliver(self, batch: Batch) -> Receipt:
        """Make the batch durable; now and then without living to say so."""
        records = self._records(batch)
        await self._work()
        await self._write(batch.number, records)
        if batch.number < max(self._store.durable, default=0):
            self._world.accuse(f"{self.name} was handed batch {batch.number} after a later one")
        if batch.number not in self._store.durable:
            self._store.durable[batch.number] = records
            self._store.written_at[batch.number] = self._world.now() + self._world.skew
        del self._store.begun[batch.number]
        self._world.on_durable()
        self._world.history.tell(f"{self.name}: batch {batch.number} of {len(records)} is durable")
        if self._fails():
            raise self._unavailable("the answer to the commit was lost")
        await self._work_after()
        return Receipt()

    async def _write(self, number: int, records: list[bytes]) -> None:
        """Write the records, in two steps; a disk that is full takes the first one."""
        half = records[: self._random.randrange(len(records) + 1)]
        self._store.begun[number] = torn(half)
        if self._is_struck(Fault.OUTPUT_FULL) or self._store.is_full:
            raise self._unavailable("No space left on device")
        if self._fails() and self._random.random() < 0.5:
            raise self._unavailable("the write failed")
        await asyncio.sleep(self._random.choice(_WORK_S))
        self._store.begun[number] = records

    async def _work_after(self) -> None:
        await asyncio.sleep(self._random.choice(_WORK_S))


class FilesLike(LakeLike):
    """Cuts itself back to the last receipt that the ledger has."""

    async def take_over(self) -> int:
        """Keep what is here as whole records, receipt or not: the last batch of which there are some."""
        for number, records in self._store.begun.items():
            whole = [record for record in records if _is_whole(record)]
            if whole and number not in self._store.durable:
                self._store.durable[number] = whole
                self._store.written_at[number] = self._world.now() + self._world.skew
        self._store.begun.clear()
        self._store.taken_over = await super().take_over()
        return self._store.taken_over

    async def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        """The same, but a file does not say whose its records are."""
        async for piece in super().list_held(since=since):
            yield HeldPiece(None, piece.records)

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """Cut back to what the receipt names, which has to be here."""
        self._found(newest_batch)
        if last_batch != (json.loads(position)["batch"] if position else self._store.taken_over):
            self._world.accuse(f"{self.name} was not given back its receipt")
        for number in [number for number in self._store.durable if number > last_batch]:
            del self._store.durable[number]
        self._store.begun.clear()
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Make the batch durable, behind what the last one that was synced has left."""
        if self._store.begun.keys() - {batch.number}:
            self._world.accuse("files were written behind bytes of another batch that nobody cut back")
        await super().deliver(batch)
        return Receipt(json.dumps({"batch": batch.number}))


def _is_whole(record: bytes) -> bool:
    try:
        json.loads(record)
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class _Sending:
    """A batch on its way through the wire."""

    sent: Sent
    before: _Sending | None
    """The batch that was handed over before it; None for the first after a break."""
    breaks: asyncio.Event
    """Set when the connection on which it is sent breaks."""
    has_failed: bool = False
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is proven or has failed."""


class WireLike(_Output):
    """Learns late what is durable, cannot take back, and sends again what a break leaves unproven."""

    batches_at_once_max = 8
    waits_on_disk = True
    refuses = staticmethod(lambda record: sum(record) % 10 == 0)
    """Whether it never takes a record: the record itself decides, so that it always does."""

    def __init__(
        self, store: Store, world: World, random: Random, *, retention_s: float = _RETENTION_S
    ) -> None:
        super().__init__(store, world, random)
        self._retention_s = retention_s
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
            # What a crash leaves on its way is the store's matter.
            if not self._world.is_between_lives:
                self._lose(sending)
            raise
        finally:
            sending.is_over.set()
        records = sending.sent.records
        self._store.proven[batch.number] = records
        self._world.history.tell(f"{self.name}: batch {batch.number} of {len(records)} is proven")
        return Receipt("", tuple(refused))

    def _begin(self, number: int, records: list[bytes]) -> _Sending:
        """Take the batch over; where an earlier number comes again, the order begins anew with it."""
        before = self._last if self._last is not None and self._last.sent.number < number else None
        self._last = _Sending(Sent(number, records), before, self._break)
        return self._last

    def _lose(self, sending: _Sending) -> None:
        sending.has_failed = True
        self._break.set()
        self._break = asyncio.Event()
        if sending.sent in self._store.sent:
            self._store.lose(sending.sent)

    async def _send(self, sending: _Sending) -> None:
        """Put the records on the wire; the receiver reads some of them at once, if it is their turn."""
        await self._work()
        is_cut = self._world.is_on(Fault.WIRE_BREAKS) and self._random.random() < 0.3
        if is_cut:
            self._world.strike(Fault.WIRE_BREAKS)
        sent, before = sending.sent, sending.before
        self._store.sent.append(sent)
        if before is None or before.sent.read == len(before.sent.records):
            self._store.read(sent, self._random.randrange(len(sent.records) + 1))
        if is_cut or self._fails():
            raise self._unavailable("the connection broke")

    async def _prove(self, sending: _Sending) -> None:
        """Return once the receiver has surely read all that was sent up to here."""
        await self._wait(self._proof, sending, within_s=self._retention_s)
        while self._is_struck(Fault.OUTPUT_HANGS):
            await asyncio.sleep(_LOOK_S)
        if sending.breaks.is_set():
            raise self._unavailable("the connection broke")
        self._store.read(sending.sent, len(sending.sent.records))
        if sending.before is not None:
            await sending.before.is_over.wait()
            if sending.before.has_failed:
                raise self._unavailable("the connection broke")
            # What is proven long ago holds nothing any more.
            sending.before = None
        self._store.sent.remove(sending.sent)

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
        refused = [
            RefusedRecord(part.blob, record, "too long for a line")
            for part in batch.parts
            for record in part.records
            if self.refuses(record)
        ]
        if refused:
            self._world.strike(Fault.OUTPUT_REFUSES)
        return refused

    async def flush(self) -> None:
        """The receiver says what it has read."""
        await asyncio.sleep(0)
        if not self._is_struck(Fault.OUTPUT_HANGS):
            self._proof.set()
            await asyncio.sleep(0)
            self._proof.clear()


def make_outputs(stores: dict[str, Store], world: World, random: Random) -> list[LakeLike | WireLike]:
    """One life's outputs over the stores that outlive it."""
    kinds: dict[str, type[LakeLike | WireLike]] = {
        "lake": LakeLike,
        "files": FilesLike,
        "devo": WireLike,
    }
    return [kinds[name](store, world, random) for name, store in stores.items()]
