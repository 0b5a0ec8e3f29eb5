"""From fetched blobs to acknowledged batches: dedup, route, batch, deliver, commit.

One assembler puts blobs together in the order in which they arrive, and each output takes
the batches in the order of their numbers, at its own pace. That order is a guarantee: a
record is left out as a duplicate only after the blob that brought it went into the same or
an earlier batch, so nothing is dropped in favour of a record that did not arrive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from m365watch.clock import Clock
from m365watch.errors import OutputUnavailable
from m365watch.feed.tries import FetchedBlob
from m365watch.ledger.port import Ledger
from m365watch.ledger.thread import LedgerCalls
from m365watch.model import Batch, BatchPart, Feed, Receipt
from m365watch.outputs.port import Output
from m365watch.records.identity import IdentityMaker
from m365watch.records.routing import Router
from m365watch.records.split import Fragment

_log = structlog.get_logger(__name__)

BATCH_BYTES = 12 * 1024 * 1024
"""A batch is closed once its records have this many bytes."""
BATCH_RECORDS = 10_000
"""A batch is closed once it has this many records."""
LINGER_S = 0.25
"""How long an unfilled batch waits for more, from its first blob on."""
BATCHES_WAITING_MAX = 2
"""Batches that wait for one output; one more and the assembler waits too."""
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 60.0


class Pipeline:
    """Takes fetched blobs, and calls `on_final` for each once every output has its records."""

    def __init__(
        self,
        outputs: Sequence[Output],
        override_tags: Mapping[Feed, str | None],
        *,
        ledger: Ledger,
        calls: LedgerCalls,
        clock: Clock,
        on_final: Callable[[FetchedBlob], None],
        patience_s: float | None,
    ) -> None:
        """`patience_s` is how long a failing output is tried again; None: for ever."""
        self._outputs = outputs
        self._override_tags = override_tags
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._on_final = on_final
        self._patience_s = patience_s
        self._router = Router()
        self._identities = IdentityMaker(ledger.identity_seed)
        self._arrived: deque[FetchedBlob] = deque()
        self._arrival = asyncio.Event()
        self._flushing = False
        self._queues = {output.name: asyncio.Queue[_OpenBatch](BATCHES_WAITING_MAX) for output in outputs}
        self._unfinished = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self.output_errors: dict[str, str] = {}
        """The present error of each output that cannot write."""

    def take(self, fetched: FetchedBlob) -> None:
        """Accept a blob; never blocks, because bytes in flight are bounded before the fetch."""
        self._unfinished += 1
        self._drained.clear()
        self._arrived.append(fetched)
        self._flushing = False
        self._arrival.set()

    def flush(self) -> None:
        """Close the batch with what it has: nothing more is on its way just now."""
        self._flushing = True
        self._arrival.set()

    async def drain(self) -> None:
        """Return once every blob taken is final."""
        await self._drained.wait()

    async def run(self) -> None:
        """Assemble and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for output in self._outputs:
                tasks.create_task(self._run_output(output), name=f"output {output.name}")
            tasks.create_task(self._run_assembler(), name="assembler")

    async def _run_assembler(self) -> None:
        while True:
            blobs = [
                fetched for fetched in await self._gather() if not await self._is_fragments_only(fetched)
            ]
            if not blobs:
                continue
            opened = await self._open_batch(blobs)
            for output in self._outputs:
                await self._queues[output.name].put(opened)

    async def _gather(self) -> list[FetchedBlob]:
        """The blobs of the next batch: full, or all that came before the linger was over."""
        blobs: list[FetchedBlob] = []
        records = size_bytes = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as linger:
                while records < BATCH_RECORDS and size_bytes < BATCH_BYTES:
                    if not self._arrived:
                        if blobs and self._flushing:
                            break
                        self._arrival.clear()
                        await self._arrival.wait()
                        continue
                    fetched = self._arrived.popleft()
                    if not blobs:
                        linger.reschedule(asyncio.get_running_loop().time() + LINGER_S)
                    blobs.append(fetched)
                    records += len(fetched.split.records)
                    size_bytes += fetched.held_bytes
        return blobs

    async def _is_fragments_only(self, fetched: FetchedBlob) -> bool:
        """Whether nothing but fragments is in the blob, whose final state is then quarantined."""
        fragments = fetched.split.fragments
        whole = bool(fragments) and not fetched.split.records
        for place, fragment in enumerate(fragments, start=1):
            await self._quarantine(fetched, fragment, whole=whole and place == len(fragments))
        if whole:
            self._finish([fetched])
        return whole

    async def _open_batch(self, blobs: list[FetchedBlob]) -> _OpenBatch:
        parts = [self._part(fetched) for fetched in blobs]
        outputs = frozenset(output.name for output in self._outputs)
        opened = await self._calls(self._ledger.open_batch, parts, outputs)
        for place, duplicates in opened.duplicates.items():
            parts[place] = _without(parts[place], duplicates)
        size_bytes = sum(sum(map(len, part.records)) for part in parts)
        return _OpenBatch(Batch(opened.number, parts, size_bytes), blobs, set(outputs))

    def _part(self, fetched: FetchedBlob) -> BatchPart:
        known, split = fetched.known, fetched.split
        feed = known.ref.feed
        return BatchPart(
            blob=known.key,
            feed=feed,
            received_at=fetched.received_at,
            records=split.records,
            headers=split.headers,
            tables=self._router.tables(split.headers, override_tag=self._override_tags.get(feed)),
            missing_outputs=known.missing_outputs,
            identities=self._identities.identities(feed.tenant_id, split.headers),
        )

    async def _quarantine(self, fetched: FetchedBlob, fragment: Fragment, *, whole: bool) -> None:
        known, body, reason = fetched.known, fragment.body, fragment.reason
        await self._calls(self._ledger.quarantine, known.key, body, reason, whole=whole, at=self._clock.now())
        _log.error(
            f"{known.ref.feed}: {len(body)} bytes of blob {known.ref.content_id} are in quarantine: {reason}",
            code="quarantined",
        )

    async def _run_output(self, output: Output) -> None:
        while True:
            opened = await self._queues[output.name].get()
            batch = opened.batch.for_output(output.name)
            receipt = await self._deliver(output, batch) if batch.record_count else None
            await self._calls(
                self._ledger.commit_delivered, batch.number, output.name, receipt, at=self._clock.now()
            )
            for refused in receipt.refused if receipt else ():
                _log.error(
                    f"output {output.name}: refused a record of {len(refused.record)} bytes, "
                    f"it is in quarantine: {refused.reason}",
                    code="quarantined",
                )
            opened.missing.discard(output.name)
            if not opened.missing:
                self._finish(opened.blobs)

    async def _deliver(self, output: Output, batch: Batch) -> Receipt:
        """The receipt of `batch`, however often the output has to be asked.

        Raises: OutputUnavailable: the patience is over.
        """
        started_s = self._clock.monotonic_s()
        pause_s = _RETRY_FIRST_S
        while True:
            try:
                receipt = await output.deliver(batch)
            except OutputUnavailable as error:
                waited_s = self._clock.monotonic_s() - started_s
                if self._patience_s is not None and waited_s >= self._patience_s:
                    raise
                if self.output_errors.get(output.name) != str(error):
                    _log.warning(str(error), code=error.code)
                    self.output_errors[output.name] = str(error)
                pause_s = max(error.after_s or 0.0, pause_s)
            else:
                if self.output_errors.pop(output.name, None) is not None:
                    _log.info(f"output {output.name}: goes on")
                return receipt
            await self._clock.sleep(pause_s)
            pause_s = min(_RETRY_MAX_S, pause_s * 2)

    def _finish(self, blobs: Sequence[FetchedBlob]) -> None:
        for fetched in blobs:
            self._on_final(fetched)
        self._unfinished -= len(blobs)
        if self._unfinished == 0:
            self._drained.set()


class _OpenBatch:
    """A batch on its way, and the outputs that still lack it."""

    __slots__ = ("batch", "blobs", "missing")

    def __init__(self, batch: Batch, blobs: list[FetchedBlob], missing: set[str]) -> None:
        self.batch = batch
        self.blobs = blobs
        self.missing = missing


def _without(part: BatchPart, places: frozenset[int]) -> BatchPart:
    """The part without the records at `places`."""
    kept = [place for place in range(len(part.records)) if place not in places]
    return BatchPart(
        blob=part.blob,
        feed=part.feed,
        received_at=part.received_at,
        records=[part.records[place] for place in kept],
        headers=[part.headers[place] for place in kept],
        tables=[part.tables[place] for place in kept],
        missing_outputs=part.missing_outputs,
        duplicates=len(places),
        identities=[part.identities[place] for place in kept],
    )
