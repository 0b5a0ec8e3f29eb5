"""The simulated tenant in a process of its own, serving blobs that it compressed beforehand.

Its records are the simulated organisation's, each stamped with an Id and a time of its own.
A session's records are alike, so each model serves a few records of the same blob: a blob of
100 then compresses as well as a real one (some 15 times), and inflating it costs what it costs
in the field.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from m365watch.common.clock import SystemClock
from m365watch.common.model import ContentType
from m365watch_simulator.feed.blobs import Blob
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.service.identities import TenantIdentity, derive_identities
from m365watch_simulator.service.scenario import Behaviour, Scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running

BLOB_RECORDS = 100
DIGEST_BYTES = 16
_SPAN = timedelta(hours=160)
"""The records lie in so much time before the start; the service lists 7 days."""
_ALIKE = 8
"""Records made from one model before the next takes its turn."""
_MODELS = 20_000
"""Models, before they come round again: more than an output's batch is made from."""
_SEED = 1
_BETWEEN_SLICES = timedelta(hours=7)
"""From one hour whose records are taken to the next: 24 of them are a week, each with an hour of its own."""


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service answers and what it holds."""

    full: dict[str, Any]
    """A collector's inputs, one for each tenant, that have all the records between them."""
    empty: dict[str, Any]
    """The same for as many tenants without any: what a start and an end cost."""
    records: int
    blobs: int
    record_bytes: int
    """The mean length of a record."""
    compression: float
    """How many times shorter the blobs are on the wire."""


@contextlib.contextmanager
def service_running(
    records: int, *, tenants: int = 1, blob_records: int = BLOB_RECORDS, digests: Path | None = None
) -> Iterator[Service]:
    """The service with `records` records of so many tenants, ready; it ends with the block.

    With `digests`, that file gets the digest of every record that it serves, in no order.
    """
    command = [sys.executable, "-m", "benchmarks.service", str(records), "--tenants", str(tenants)]
    command += ["--blob-records", str(blob_records)]
    if digests is not None:
        command += ["--digests", str(digests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:  # pragma: no cover - both are pipes
            raise RuntimeError
        yield Service(**json.loads(process.stdout.readline()))
        process.stdin.close()


def digest(record: bytes) -> bytes:
    """`DIGEST_BYTES` that stand for the record's very bytes."""
    return hashlib.blake2b(record, digest_size=DIGEST_BYTES).digest()


class StampedRecords:
    """A `RecordSource` of exactly so many records, evenly spread in time, quickly made."""

    def __init__(
        self, records: int, *, started_at: datetime, tenant_id: str, span: timedelta = _SPAN
    ) -> None:
        """Make the models; the records lie in `span` before `started_at`."""
        self._records = records
        self._span = span
        self._start = started_at - span
        self._random = random.Random(f"{tenant_id} {records}")
        models = min(_MODELS, 1 + records // _ALIKE)
        self._models = list(_models(tenant_id, models, at=self._start)) if records else []

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """The records of [start, end); to be asked once for each hour, because Ids are drawn here."""
        step = self._span / max(1, self._records)
        numbers = range(self._count_before(start), self._count_before(end))
        return [self._record(number, self._start + number * step) for number in numbers]

    def _count_before(self, instant: datetime) -> int:
        share = (instant - self._start) / self._span
        return round(min(max(share, 0.0), 1.0) * self._records)

    def _record(self, number: int, at: datetime) -> SimulatedRecord:
        model = self._models[number // _ALIKE % len(self._models)]
        digits = self._random.randbytes(16).hex()
        guid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()
        created = at.isoformat()[:19].encode()
        first, second = (guid, created) if model.id_first else (created, guid)
        before, between, after = model.pieces
        return SimulatedRecord(model.content_type, at, b"".join((before, first, between, second, after)))


@dataclass(frozen=True, slots=True)
class _Model:
    """A record cut open at its Id and its CreationTime."""

    content_type: ContentType
    id_first: bool
    pieces: tuple[bytes, bytes, bytes]


def _models(tenant_id: str, count: int, *, at: datetime) -> Iterator[_Model]:
    """`count` records of the organisation, of all hours of a week alike: what happens depends on the hour."""
    users = min(500, max(12, count // 4))
    organisation = Organisation(1, tenant_id, users=users, records_per_day=_MODELS)
    found = 0
    while found < count:
        for record in organisation.records_between(at, at + timedelta(hours=1)):
            model = _model(record)
            if model is not None and found < count:
                found += 1
                yield model
        at += _BETWEEN_SLICES


def _model(record: SimulatedRecord) -> _Model | None:
    """None for the few records whose Id or time stands in them twice."""
    fields = msgspec.json.decode(record.body, type=dict[str, Any])
    found = [fields["Id"].encode(), fields["CreationTime"].encode()]
    if any(record.body.count(value) != 1 for value in found):
        return None
    places = sorted((record.body.index(value), len(value)) for value in found)
    (first, first_length), (second, second_length) = places
    pieces = (
        record.body[:first],
        record.body[first + first_length : second],
        record.body[second + second_length :],
    )
    return _Model(record.content_type, record.body.startswith(found[0], first), pieces)


async def _serve(records: int, tenants: int, blob_records: int, digests: Path | None) -> None:
    """Answer until the standard input ends; every subscription is enabled beforehand.

    The records of many tenants lie in as much less time: a blob is cut from what came out in an hour, and
    blobs are as long whoever has them.
    """
    identities = derive_identities(_SEED, count=2 * tenants)
    full = {identity.tenant_id for identity in identities[:tenants]}

    def source(identity: TenantIdentity, started_at: datetime) -> StampedRecords:
        wanted = records // tenants if identity.tenant_id in full else 0
        return StampedRecords(
            wanted, started_at=started_at, tenant_id=identity.tenant_id, span=_SPAN / tenants
        )

    settings = SimulationSettings(
        tenants=identities,
        blob_records=blob_records,
        scenario=Scenario(behaviour=Behaviour(cut_blobs=False, duplicates=False)),
        live=False,
        precompress=True,
        source=source,
    )
    async with simulator_running(settings, clock=SystemClock()) as running:
        for tenant in running.tenants:
            for content_type in ContentType:
                tenant.subscriptions.start(str(content_type), running.started_at)
        if digests is not None:
            _write_digests(running, digests)
        print(json.dumps(asdict(_describe(running, tenants))), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _write_digests(running: RunningSimulator, file: Path) -> None:
    file.write_bytes(b"".join(digest(record) for blob in _blobs(running) for record in blob.records()))


def _describe(running: RunningSimulator, tenants: int) -> Service:
    blobs = list(_blobs(running))
    length = sum(sum(blob.lengths) for blob in blobs)
    inputs = list(running.configuration()["inputs"].items())
    return Service(
        full=dict(inputs[:tenants]),
        empty=dict(inputs[tenants:]),
        records=sum(len(blob.lengths) for blob in blobs),
        blobs=len(blobs),
        record_bytes=round(length / max(1, sum(len(blob.lengths) for blob in blobs))),
        compression=round(length / max(1, sum(len(blob.payload) for blob in blobs)), 1),
    )


def _blobs(running: RunningSimulator) -> Iterator[Blob]:
    for tenant in running.tenants:
        for content_type in ContentType:
            yield from tenant.publication.blobs(content_type)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=int)
    parser.add_argument("--tenants", type=int, default=1)
    parser.add_argument("--blob-records", type=int, default=BLOB_RECORDS)
    parser.add_argument("--digests", type=Path)
    options = parser.parse_args()
    asyncio.run(_serve(options.records, options.tenants, options.blob_records, options.digests))


if __name__ == "__main__":
    _main()
