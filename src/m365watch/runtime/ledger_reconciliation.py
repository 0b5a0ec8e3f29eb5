"""A ledger that was lost, or put back from a copy, learns what its outputs hold before anything is fetched.

Nothing is lost by that, because a new ledger lists all that is still served, and one that was put back
goes on where it ended. Nothing doubles in an output that can be asked (lake, files): what it holds, or
has in its queue on disk, is not delivered to it again; nor is what was erased from it. Any other output
gets again what the ledger does not know that it has, but for its queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec
import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import Batch, BatchPart, TenantId
from m365watch.config.models.detections import DETECTIONS
from m365watch.ledger.reconciliation_store import Adopted, HeldStore, QueuedBlob
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.records.identity import IdentityMaker, MarkMaker
from m365watch.records.split import split_blob
from m365watch.registry.outputs import HeldPiece, Output, TellsErased, TellsRecords

KEYS_AT_ONCE = 50_000
"""Keys in memory before they are written: 5 MB."""
_TELL_EVERY_S = 10.0
_CLOCKS_APART = timedelta(days=1)
"""How far the clock of the run that wrote may have been behind this one's."""
_log = structlog.get_logger(__name__)


class _Origin(msgspec.Struct):
    """The only word of a tenant in a record."""

    OrganizationId: str | None = None


_ORIGINS = msgspec.json.Decoder(list[_Origin])


@dataclass(frozen=True, slots=True)
class AdoptionParts:
    """What a ledger's adoption of its outputs works with."""

    held: HeldStore
    identities: IdentityMaker
    calls: LedgerCalls
    clock: Clock
    tenants: Sequence[TenantId]
    """The tenants of the configuration: records whose output does not name theirs are of one of them."""


@dataclass(slots=True)
class _Reading:
    """How far one output has been read."""

    name: str
    told_at_s: float
    records: int = 0
    keys: list[bytes] = field(default_factory=list)


async def adopt(
    parts: AdoptionParts, outputs: Sequence[Output], queues: Mapping[str, BatchQueue]
) -> Adopted | None:
    """Read what `outputs` and their queues hold, if this ledger may not know; None where nothing was to do.

    Before the outputs are opened. Killed anywhere, it begins again with the next start.

    Raises: OutputUnusable: an output cannot be read; nothing has been fetched.
    """
    if not await parts.calls(parts.held.is_adoption_due):
        return None
    telling = [output for output in outputs if isinstance(output, TellsRecords)]
    adopted = Adopted({output.name: await output.take_over() for output in telling})
    for name, queue in queues.items():
        if numbers := await parts.calls(queue.open):
            adopted.queued[name] = numbers
    if not adopted.newest_batch:
        return None
    _log.warning(
        "the ledger is new, or was put back from a copy, and does not know what the outputs hold: "
        f"{', '.join(sorted(output.name for output in telling)) or 'their queues'} will be read first"
    )
    await parts.calls(parts.held.begin)
    reader = _Reader(parts)
    # Nor are alerts made of it anew: they name whom they are about. Of several lakes the first is asked.
    others = [DETECTIONS] if any(output.name == DETECTIONS for output in outputs) else []
    for output in telling:
        if adopted.last_batches[output.name]:
            await reader.read_output(output.name, output)
            # Afterwards: what was erased while the records were read is marked by now.
            if isinstance(output, TellsErased) and await reader.read_erased(
                [output.name, *others], output, adopted
            ):
                others = []
    for name in adopted.queued:
        await reader.read_queue(name, queues[name], adopted)
    await parts.calls(parts.held.finish, adopted, at=parts.clock.now())
    _tell_of_others(outputs, adopted.last_batches.keys())
    return adopted


async def read_again(parts: AdoptionParts, output: Output, *, since: datetime) -> None:
    """Know anew what `output` holds of what it received after `since`, so that it gets none of it again.

    Raises: OutputUnusable: it cannot be read.
    """
    is_all = await parts.calls(parts.held.drop, output.name)
    reader, adopted = _Reader(parts), Adopted()
    if isinstance(output, TellsRecords):
        await reader.read_output(output.name, output, since=None if is_all else since)
    if isinstance(output, TellsErased):
        await reader.read_erased([output.name], output, adopted)
    await parts.calls(parts.held.finish_again, output.name, adopted.mark_keys, at=parts.clock.now())


def _tell_of_others(outputs: Sequence[Output], told: AbstractSet[str]) -> None:
    # Detections count a record once, however often it comes.
    others = sorted({output.name for output in outputs} - told - {DETECTIONS})
    if others:
        _log.warning(
            f"output {', '.join(others)}: cannot be asked what it has; what is fetched now is sent to it "
            "though it may have come before"
        )


def _tell_of_damage(name: str, number: int) -> None:
    _log.error(
        f"output {name}: batch {number} in its queue on disk is damaged and kept aside; "
        "what is still served of it is fetched again",
        code=OutputUnavailable.code,
    )


class _Reader:
    """Reads outputs and queues into the ledger's account of what they hold."""

    def __init__(self, parts: AdoptionParts) -> None:
        self._parts = parts

    async def read_output(self, name: str, output: TellsRecords, *, since: datetime | None = None) -> None:
        """With `since`, only what came later; else all that may be served again."""
        reading = self._begin(name)
        since = since or self._parts.clock.now() - self._parts.held.horizon
        async for piece in output.list_held(since=since - _CLOCKS_APART):
            await self._take(reading, piece)
        await self._write(reading)
        _log.info(f"output {name}: holds {reading.records:,} records that may be served again")

    async def read_erased(self, names: Sequence[str], output: TellsErased, adopted: Adopted) -> int:
        """Know what was erased there: to the outputs `names`, itself the first, none of it goes again."""
        count = 0
        async for piece in output.list_erased():
            count += len(piece.marks)
            for name in names:
                adopted.mark_keys[name] = piece.key
                await self._parts.calls(self._parts.held.add, name, piece.marks)
        if count:
            _log.info(f"output {names[0]}: {count:,} records were erased there and are not to come back")
        return count

    async def read_queue(self, name: str, queue: BatchQueue, adopted: Adopted) -> None:
        """Know what waits in the queue; take out of it what its output was found to hold."""
        reading = self._begin(name)
        key = adopted.mark_keys.get(name)
        maker = None if key is None else MarkMaker(key)
        for number in list(adopted.queued[name]):
            batch = await self._parts.calls(queue.get, number)
            if batch is None:
                adopted.queued[name].remove(number)
                _tell_of_damage(name, number)
                continue
            left = Batch(number, [await self._left_of(name, part, maker) for part in batch.parts])
            if left.record_count < batch.record_count:
                await self._parts.calls(queue.replace, left)
            is_in_part = left.record_count and number <= adopted.last_batches.get(name, 0)
            kept = await self._number_anew(name, queue, number, adopted) if is_in_part else number
            adopted.parts.setdefault(kept, set()).update(part.blob for part in left.parts)
            for part in left.parts:
                adopted.queued_blobs[part.blob] = QueuedBlob(part.blob, part.feed, part.received_at)
                await self._take(reading, HeldPiece(part.feed.tenant_id, part.records))
        await self._write(reading)

    async def _number_anew(self, name: str, queue: BatchQueue, number: int, adopted: Adopted) -> int:
        """Let the rest of a batch that `name` has in part go on behind all others; its new number."""
        behind = adopted.newest_batch + 1
        await self._parts.calls(queue.renumber, number, behind)
        adopted.queued[name].remove(number)
        adopted.queued[name].append(behind)
        return behind

    async def _left_of(self, name: str, part: BatchPart, maker: MarkMaker | None) -> BatchPart:
        """The part without what `name` holds, or held until it was erased there.

        A crash may have come before its file could go; `maker` makes the marks of what was erased there.
        """
        split = split_blob(b"[" + b",".join(part.records) + b"]", wide=False)
        if len(split.headers) != len(part.records):
            return part
        tenant_id, held = part.feed.tenant_id, self._parts.held
        identities = self._parts.identities.identities(tenant_id, split.headers)
        keys = [key or held.body_key(record) for key, record in zip(identities, part.records, strict=True)]
        marks = maker.marks(tenant_id, split.headers, part.records) if maker else keys
        known = await self._parts.calls(held.known, name, {*keys, *marks})
        if not known:
            return part
        places = [
            place for place, names in enumerate(zip(keys, marks, strict=True)) if known.isdisjoint(names)
        ]
        return replace(
            part,
            records=[part.records[place] for place in places],
            tables=[part.tables[place] for place in places],
            headers=[],
        )

    def _begin(self, name: str) -> _Reading:
        return _Reading(name, self._parts.clock.monotonic_s())

    async def _take(self, reading: _Reading, piece: HeldPiece) -> None:
        reading.records += len(piece.records)
        reading.keys += self._keys_of(piece)
        if len(reading.keys) >= KEYS_AT_ONCE:
            await self._write(reading)
        now_s = self._parts.clock.monotonic_s()
        if now_s - reading.told_at_s >= _TELL_EVERY_S:
            reading.told_at_s = now_s
            _log.info(f"output {reading.name}: {reading.records:,} records read so far")

    async def _write(self, reading: _Reading) -> None:
        await self._parts.calls(self._parts.held.add, reading.name, reading.keys)
        reading.keys = []

    def _keys_of(self, piece: HeldPiece) -> list[bytes]:
        body = b"[" + b",".join(piece.records) + b"]"
        split = split_blob(body, wide=False)
        keys = [
            self._parts.held.body_key(record)
            for record, header in zip(split.records, split.headers, strict=True)
            if not header.Id
        ]
        for tenant_id, places in self._tenants_of(piece, body, len(split.headers)).items():
            headers = [split.headers[place] for place in places]
            keys += filter(None, self._parts.identities.identities(tenant_id, headers))
        return keys

    def _tenants_of(self, piece: HeldPiece, body: bytes, count: int) -> Mapping[TenantId, Sequence[int]]:
        """The places of the records that may be of each tenant: where a record does not say, of every one."""
        if piece.tenant_id is not None:
            return {piece.tenant_id: range(count)}
        tenants = list(dict.fromkeys(self._parts.tenants))
        if len(tenants) < 2:
            return dict.fromkeys(tenants, range(count))
        try:
            origins = [(origin.OrganizationId or "").lower() for origin in _ORIGINS.decode(body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            origins = []
        if len(origins) != count:
            return dict.fromkeys(tenants, range(count))
        return {
            tenant: [place for place, said in enumerate(origins) if said == tenant or said not in tenants]
            for tenant in tenants
        }
