"""From fetched blobs to acknowledged batches: dedup, route, batch, deliver, commit.

One assembler puts blobs together in the order in which they arrive, and each output takes
the batches in the order of their numbers, at its own pace. That order is a guarantee: a
record is left out as a duplicate only after the blob that brought it went into the same or
an earlier batch, so nothing is dropped in favour of a record that did not arrive.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from m365watch.common.clock import Clock
from m365watch.common.model import Batch, BatchPart, Feed
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.pipeline.output_lane import LaneMeans, OutputLane, QueuedOutput
from m365watch.pipeline.run_observer import RunObserver
from m365watch.records.identity import IdentityMaker
from m365watch.records.routing import Router, Treatment
from m365watch.records.split import Fragment
from m365watch.registry.outputs import MANY_RECORDS, Expects, Output
from m365watch.registry.ports import Ledger
from m365watch.sources.management_api.fetch_attempts import FetchedBlob
from m365watch.sources.pull_cycles import PullCycles

_log = structlog.get_logger(__name__)

BATCH_BYTES = 12 * 1024 * 1024
"""A batch is closed once its records have this many bytes, where its outputs want it no larger."""
BATCH_RECORDS = 10_000
"""The same for so many records."""
LINGER_S = 0.25
"""How long an unfilled batch waits for more, from its first blob on."""
_UNTREATED = Treatment()
_NONE = frozenset[int]()


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """A batch is closed once it has reached one of them."""

    records: int = BATCH_RECORDS
    size_bytes: int = BATCH_BYTES


def pacing(outputs: Sequence[QueuedOutput]) -> list[Output]:
    """The outputs that a run takes its pace from."""
    return [one.output for one in outputs if not one.stands_aside]


class Pipeline:
    """Takes fetched blobs, and calls `on_held` for each once nothing of it is in memory alone.

    That is: every output has its records, or has them in its queue on disk, or was left out.
    """

    def __init__(  # noqa: PLR0913 - one argument for each part of the run that it works with
        self,
        outputs: Sequence[QueuedOutput],
        treatments: Mapping[Feed, Treatment],
        *,
        cycles: PullCycles,
        ledger: Ledger,
        calls: LedgerCalls,
        clock: Clock,
        on_held: Callable[[FetchedBlob], None],
        on_recalled: Callable[[], None],
        patience_s: float | None,
        bounds: BatchBounds | None = None,
        observer: RunObserver | None = None,
    ) -> None:
        """`on_recalled` hears that the ledger may know due blobs again.

        `patience_s` is how long a failing output is tried again; None: for ever.
        """
        self._names = frozenset(one.output.name for one in outputs)
        self._expecting = [one.output for one in outputs if isinstance(one.output, Expects)]
        self._wide_headers = any(one.output.needs_wide_headers for one in outputs)
        self._treatments = dict(treatments)
        self._cycles = cycles
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._on_held = on_held
        self._on_recalled = on_recalled
        self._bounds = bounds or BatchBounds()
        self._observer = observer
        self._router = Router()
        self._identities = IdentityMaker(ledger.identity_seed)
        self._arrived: deque[FetchedBlob] = deque()
        self._arrived_records = self._arrived_bytes = 0
        self._arrival = asyncio.Event()
        self._flushing = False
        self._unassembled = 0
        self._changed = asyncio.Event()
        self._open: dict[int, _OpenBatch] = {}
        means = LaneMeans(
            ledger=ledger,
            calls=calls,
            clock=clock,
            on_held=self._hold,
            on_settled=self._changed.set,
            on_recalled=on_recalled,
            on_delivered=observer.note_delivered if observer else _see_nothing,
            patience_s=patience_s,
        )
        paced = pacing(outputs)
        self._lanes = [OutputLane(one, means, is_alone=paced == [one.output]) for one in outputs]

    @property
    def output_errors(self) -> dict[str, str]:
        """The present error of each output that cannot write."""
        return {lane.output.name: lane.error for lane in self._lanes if lane.error is not None}

    def resume(self, kept: Mapping[str, list[int]]) -> None:
        """Begin with the batches that the outputs' queues have from the last run."""
        for lane in self._lanes:
            lane.resume(kept.get(lane.output.name, []))

    def treat(self, treatments: Mapping[Feed, Treatment]) -> None:
        """Treat these feeds so from now on; of others some blobs may still be on their way."""
        self._treatments.update(treatments)

    def take(self, fetched: FetchedBlob) -> None:
        """Accept a blob; never blocks, because bytes in flight are bounded before the fetch."""
        self._unassembled += 1
        self._arrived.append(fetched)
        before = self._arrived_records
        self._arrived_records += len(fetched.split.records)
        self._arrived_bytes += fetched.held_bytes
        if before < MANY_RECORDS <= self._arrived_records:
            for output in self._expecting:
                output.expect(self._arrived_records)
        self._flushing = False
        # The assembler need not look at each: it waits for the first of a batch, and for enough of them.
        if len(self._arrived) == 1 or self._is_full:
            self._arrival.set()

    def flush(self) -> None:
        """Close the batch with what it has: nothing more is on its way just now."""
        self._flushing = True
        self._arrival.set()

    async def drain(self, *, leaving: bool = False) -> None:
        """Return once every blob taken is delivered; no more must be taken.

        With `leaving`, what is safe in a queue on disk may stay there for the next run. An output whose
        patience is over keeps nobody waiting either.
        """
        while self._unassembled or not all(lane.is_settled for lane in self._lanes):
            if not self._unassembled:
                for lane in self._lanes:
                    lane.finish(leaving=leaving)
                if all(lane.is_settled for lane in self._lanes):
                    return
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Assemble and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run(), name=f"output {lane.output.name}")
            tasks.create_task(self._run_assembler(), name="assembler")

    async def _run_assembler(self) -> None:
        while True:
            gathered = await self._gather()
            blobs = [fetched for fetched in gathered if not await self._is_fragments_only(fetched)]
            if not blobs:
                continue
            batch = await self._open_batch(blobs)
            # An output that waits for a place keeps the next batch waiting, and no other output.
            await asyncio.gather(*(lane.take(batch.for_output(lane.output.name)) for lane in self._lanes))
            self._assemble(len(blobs))

    async def _gather(self) -> list[FetchedBlob]:
        """The blobs of the next batch: full, or all that came before the linger was over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as linger:
                while not (self._is_full or (self._arrived and self._flushing)):
                    if self._arrived and linger.when() is None:
                        linger.reschedule(asyncio.get_running_loop().time() + LINGER_S)
                    self._arrival.clear()
                    await self._arrival.wait()
        return self._take_arrived()

    @property
    def _is_full(self) -> bool:
        """Whether what has arrived fills a batch."""
        return self._arrived_records >= self._bounds.records or self._arrived_bytes >= self._bounds.size_bytes

    def _take_arrived(self) -> list[FetchedBlob]:
        """As many of the blobs that have arrived as fill a batch, or all of them."""
        blobs: list[FetchedBlob] = []
        records = size_bytes = 0
        while self._arrived and records < self._bounds.records and size_bytes < self._bounds.size_bytes:
            fetched = self._arrived.popleft()
            blobs.append(fetched)
            records += len(fetched.split.records)
            size_bytes += fetched.held_bytes
        self._arrived_records -= records
        self._arrived_bytes -= size_bytes
        return blobs

    async def _is_fragments_only(self, fetched: FetchedBlob) -> bool:
        """Whether nothing but fragments is in the blob, whose final state is then quarantined."""
        self._mask(fetched)
        fragments = fetched.split.fragments
        whole = bool(fragments) and not fetched.split.records
        for place, fragment in enumerate(fragments, start=1):
            await self._quarantine(fetched, fragment, whole=whole and place == len(fragments))
        if whole:
            self._on_held(fetched)
            self._assemble(1)
        return whole

    def _mask(self, fetched: FetchedBlob) -> None:
        """Mask what the settings of the blob's feed name; what cannot be masked becomes a fragment."""
        masker = self._treatment(fetched.known.ref.feed).masker
        if masker is None:
            return
        # It looks into records, which views do not let it.
        fetched.split.records = list(map(bytes, fetched.split.records))
        fetched.split = masker.mask(fetched.split, wide=self._wide_headers)
        if fetched.split.overruns:
            ref = fetched.known.ref
            _log.warning(
                f"{ref.feed}: {fetched.split.overruns} values of blob {ref.content_id} are masked whole: "
                "a pattern of obfuscation_data took too long over them"
            )

    def _treatment(self, feed: Feed) -> Treatment:
        return self._treatments.get(feed, _UNTREATED)

    async def _open_batch(self, blobs: list[FetchedBlob]) -> Batch:
        for fetched in blobs:
            self._observe(fetched)
        found = [self._part(fetched) for fetched in blobs]
        opened = await self._calls(self._ledger.open_batch, found, self._names)
        for number, outputs in opened.outputs.items():
            found[number] = replace(found[number], missing_outputs=outputs)
        parts = _left_of(found, opened.duplicates)
        sent, duplicates = Counter[Feed](), Counter[Feed]()
        for part in parts:
            sent[part.feed] += len(part.records)
            if part.duplicates:
                duplicates[part.feed] += part.duplicates
        for feed, records in sent.items():
            self._cycles.count_received(feed, records + duplicates[feed])
            self._cycles.count_duplicates(feed, duplicates[feed])
        self._open[opened.number] = _OpenBatch(
            blobs, set(self._names), sent, is_due_again=opened.has_rests or bool(opened.outputs)
        )
        batch = Batch(opened.number, parts)
        for output, held in opened.held.items():
            batch.variants[output] = Batch(opened.number, _left_of(found, opened.duplicates, held))
        return batch

    def _observe(self, fetched: FetchedBlob) -> None:
        known, split, fetched_at = fetched.known, fetched.split, fetched.received_at
        if self._observer is not None:
            self._observer.note_fetched(known, split.headers, split.records, fetched_at=fetched_at)

    def _part(self, fetched: FetchedBlob) -> BatchPart:
        known, split = fetched.known, fetched.split
        feed = known.ref.feed
        treatment = self._treatment(feed)
        return BatchPart(
            blob=known.key,
            feed=feed,
            received_at=fetched.received_at,
            records=split.records,
            headers=split.headers,
            tables=self._router.tables(split.headers, override_tag=treatment.override_tag),
            missing_outputs=known.missing_outputs,
            identities=self._identities.identities(feed.tenant_id, split.served_headers or split.headers),
            pulling_id=self._cycles.pulling_id(feed),
            environment=treatment.environment,
        )

    async def _quarantine(self, fetched: FetchedBlob, fragment: Fragment, *, whole: bool) -> None:
        known, body, reason = fetched.known, fragment.body, fragment.reason
        await self._calls(self._ledger.quarantine, known.key, body, reason, whole=whole, at=self._clock.now())
        _log.error(
            f"{known.ref.feed}: {len(body)} bytes of blob {known.ref.content_id} are in quarantine: {reason}",
            code="quarantined",
        )

    def _assemble(self, count: int) -> None:
        """`count` blobs fewer are on their way to the outputs."""
        self._unassembled -= count
        self._changed.set()

    def _hold(self, number: int, output: str) -> None:
        """What `output` was to have of the batch is not in memory alone any more."""
        opened = self._open[number]
        opened.unheld.discard(output)
        if not opened.unheld:
            del self._open[number]
            for feed, records in opened.sent.items():
                self._cycles.count_sent(feed, records)
            for fetched in opened.blobs:
                self._on_held(fetched)
            if opened.is_due_again:
                self._on_recalled()


@dataclass(slots=True)
class _OpenBatch:
    """A batch that some output has neither in its queue nor durable."""

    blobs: list[FetchedBlob]
    unheld: set[str]
    """The outputs for which the blobs are in memory alone."""
    sent: Counter[Feed]
    """Its records by feed."""
    is_due_again: bool
    """Whether some blob of it is still to be fetched for other outputs."""


def _left_of(
    parts: Sequence[BatchPart],
    duplicates: Mapping[int, frozenset[int]],
    held: Mapping[int, frozenset[int]] | None = None,
) -> list[BatchPart]:
    """The parts without the records at the places in `duplicates` and `held`, which name them by part."""
    left, held = list(parts), held or {}
    for part in duplicates.keys() | held.keys():
        left[part] = parts[part].without(duplicates.get(part, _NONE) | held.get(part, _NONE))
    return left


def _see_nothing(_batch: Batch, _output: str) -> None:
    """Nobody looks on."""
