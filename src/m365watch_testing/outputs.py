"""An output in memory that can die: what it has made durable stays, what it had only written goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt, RefusedRecord


class FakeDisk:
    """Where a fake output writes; outlives it."""

    def __init__(self) -> None:
        self.durable: dict[int, list[bytes]] = {}
        """The records of each batch that is safe, by the batch's number."""
        self.volatile: dict[int, list[bytes]] = {}
        """Written and not yet safe."""
        self.is_full = False

    def sync(self) -> None:
        """Make safe what was written."""
        self.durable.update(self.volatile)
        self.volatile.clear()

    def crash(self) -> None:
        """Lose what was not safe."""
        self.volatile.clear()

    @property
    def records(self) -> list[bytes]:
        """Every safe record, in the order of the batches."""
        return [record for number in sorted(self.durable) for record in self.durable[number]]


class FakeOutput:
    """Implements `Output` over a `FakeDisk`; fails, refuses and waits as it is told."""

    def __init__(
        self,
        name: str,
        disk: FakeDisk | None = None,
        *,
        can_undo: bool = True,
        needs_wide_headers: bool = False,
    ) -> None:
        """Without `can_undo` it answers at `open` what it finds, as the lake does."""
        self.name = name
        self.needs_wide_headers = needs_wide_headers
        self.batches_at_once_max = 1
        self.waits_on_disk = False
        self.disk = disk or FakeDisk()
        self.refuses: Mapping[bytes, str] = {}
        """The records that are never taken, and why."""
        self.batches: list[Batch] = []
        """Every batch as it was handed over, repeats included."""
        self._can_undo = can_undo
        self._errors: list[CollectorError] = []
        self._gate = asyncio.Event()
        self._gate.set()

    def fail(self, error: CollectorError, *, times: int = 1) -> None:
        """Answer the next `times` deliveries with `error`, after half of the batch was written."""
        self._errors += [error] * times

    def hold(self) -> None:
        """Take batches and make none durable until `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Go on."""
        self._gate.set()

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """Cut back to `last_batch`, or answer what is found."""
        self.disk.crash()
        if newest_batch is not None and max(self.disk.durable, default=0) > newest_batch:
            raise OutputUnusable("it holds batches of another ledger", fix="put back the ledger")
        if self._can_undo:
            assert last_batch == (json.loads(position)["batch"] if position else 0)
            for number in [number for number in self.disk.durable if number > last_batch]:
                del self.disk.durable[number]
            return last_batch
        return max(self.disk.durable, default=0)

    async def deliver(self, batch: Batch) -> Receipt:
        """Make the batch durable, but for what is refused."""
        self.batches.append(batch)
        refused = []
        taken = []
        for part in batch.parts:
            assert self.name in part.missing_outputs
            for record in part.records:
                reason = self.refuses.get(record)
                if reason is None:
                    taken.append(record)
                else:
                    refused.append(RefusedRecord(part.blob, record, reason))
        self._write(batch.number, taken)
        await self._gate.wait()
        self.disk.sync()
        return Receipt(json.dumps({"batch": batch.number}), tuple(refused))

    def _write(self, number: int, records: list[bytes]) -> None:
        self.disk.crash()
        self.disk.volatile[number] = records[: len(records) // 2]
        if self.disk.is_full:
            raise OutputUnavailable("the disk is full", where=f"output {self.name}")
        if self._errors:
            raise self._errors.pop(0)
        self.disk.volatile[number] = records

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Nothing is left to do: what was acknowledged is safe."""
