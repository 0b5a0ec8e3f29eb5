"""One output's way from opened batches to commits: in order, from memory or from its queue on disk.

An output that fails or is slow keeps nobody waiting: its batches go to its queue on disk, where they
also outlive the process. Where that queue is full as well, a failing output is left out: the ledger
owes it the blobs, and they are fetched again for it once it works.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from m365watch.common.backoff import Tries
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError, NeedsOperator, OutputUnavailable, RetryLater
from m365watch.common.model import Batch, Receipt
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.registry.outputs import OPEN_BYTES_MAX, MayBeAway, Output, Prepares
from m365watch.registry.ports import Ledger


class News:
    """Lets tasks wait for the next change without missing one."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self.count = 0
        """How many changes there were."""
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self.count += 1
        self._told.set()

    async def wait_after(self, count: int) -> None:
        """Return once something has changed after `count`."""
        while self.count <= count:
            self._told.clear()
            await self._told.wait()


_log = structlog.get_logger(__name__)


class OutputTrouble:
    """One output's present error."""

    def __init__(self, output: Output, *, ledger: Ledger, calls: LedgerCalls, clock: Clock) -> None:
        """None yet, as far as anybody knows; the ledger may still hold one of an earlier run."""
        self.text: str | None = None
        """The error, in a full sentence; None if there is none."""
        self._output = output
        # Asked once: a look at a protocol takes 15 us, and a lane asks several times a batch.
        self._away = output if isinstance(output, MayBeAway) else None
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._is_cleared = False

    @property
    def away(self) -> CollectorError | None:
        """Why the receiver cannot be reached just now, where the output knows."""
        return None if self._away is None else self._away.trouble

    async def look(self) -> None:
        """Note what the output knows by itself, long before a delivery fails for it."""
        if self.away is not None:
            await self.note(self.away)

    async def note(self, error: CollectorError) -> None:
        """The output cannot write because of `error`; one whose receiver may be away tells so itself."""
        if self.text == str(error):
            return
        self.text = str(error)
        if self._away is None:
            tell = _log.error if isinstance(error, NeedsOperator) else _log.warning
            tell(self.text, code=error.code)
        await self._keep(error)

    async def passed(self) -> None:
        """The output has written."""
        if self.text is not None and self._away is None:
            _log.info(f"output {self._output.name}: goes on")
        if self.text is not None or not self._is_cleared:
            self.text = None
            await self._keep(None)
            self._is_cleared = True

    async def _keep(self, error: CollectorError | None) -> None:
        await self._calls(self._ledger.note_output_error, self._output.name, error, at=self._clock.now())


@dataclass(slots=True)
class Waiting:
    """A batch that the output has not acknowledged."""

    number: int
    batch: Batch | None
    """None while it is on disk alone."""
    is_kept: bool = False
    """Whether it is on disk."""
    is_settled: bool = False
    """Whether it was acknowledged or left out: nothing more is to be done with it."""
    was_handed_over: bool = False
    """Whether the output may have some of it, and so has to get this very batch again, never another."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch that the output is taking."""

    one: Waiting
    batch: Batch
    size_bytes: int
    """Of its records; 0 where the output takes one batch at a time, so that nobody needs to know."""
    task: asyncio.Task[Receipt | None]
    """Ends with None where the batch has nothing for the output: its place is all that it keeps."""


BATCHES_WAITING_MAX = 2
"""Batches that wait in memory for one output; one more and whoever brings it waits too."""
HANG_S = 60.0
"""An output that acknowledges nothing for so long counts as failing."""
SLOW_S = 1.0
"""How long an output among several may keep a batch waiting for its place, before the disk is used."""
_LOOK_AGAIN_S = 15.0
"""How often somebody who waits for room looks again."""
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class QueuedOutput:
    """An output, and what lets its batches wait on disk."""

    output: Output
    queue: BatchQueue
    disk: LedgerCalls
    """Does the queue's work off the loop."""
    stands_aside: bool = False
    """Whether the run takes its pace from others alone: an output beside it is alone all the same."""


@dataclass(frozen=True, slots=True)
class LaneMeans:
    """What every output's lane works with."""

    ledger: Ledger
    calls: LedgerCalls
    clock: Clock
    on_held: Callable[[int, str], None]
    """A batch's number and the output that has it, has it on disk, or was left out of it."""
    on_settled: Callable[[], None]
    """The lane has one batch fewer to deliver, or has given up for this run."""
    on_recalled: Callable[[], None]
    """The ledger may know due blobs again."""
    on_delivered: Callable[[Batch, str], None]
    """A batch, and the output that has acknowledged it."""
    patience_s: float | None
    """How long a failing output is tried again; None: for ever."""


class OutputLane:
    """Takes batches in the order of their numbers, and commits each once its output has it."""

    def __init__(self, queued: QueuedOutput, means: LaneMeans, *, is_alone: bool) -> None:
        """An output that `is_alone` and writes at once does without the disk: its pace is the run's."""
        self.output = queued.output
        self._preparing = self.output if isinstance(self.output, Prepares) else None
        self._may_be_away = isinstance(self.output, MayBeAway)
        self._means = means
        self._trouble = OutputTrouble(self.output, ledger=means.ledger, calls=means.calls, clock=means.clock)
        self._queue = queued.queue
        self._disk = queued.disk
        self._is_alone = is_alone and not self.output.waits_on_disk
        self._waiting: deque[Waiting] = deque()
        self._open: deque[Handed] = deque()
        self._moving = asyncio.Lock()
        """Held while a batch goes to disk or is committed, which must not meet."""
        self._news = News()
        self._tries = Tries(means.patience_s)
        self._owes = False
        self._has_given_up = False
        self._given_up_for = ""
        self._is_finishing = False
        self._is_leaving = False
        self._lacks_room = False
        """Whether a batch waits for a place in the queue on disk."""
        self._disk_error: str | None = None
        """Why the queue's disk takes nothing just now."""
        self._moved_at_s = -math.inf
        """When a delivery last began or was acknowledged."""
        self._flushed = 0
        """The last batch that was open when the output was asked what is durable; 0: to be asked again."""
        self._answered = 0
        """The same, once it has said so."""
        self._flushed_at_s = 0.0

    @property
    def _is_failing(self) -> bool:
        """Whether the output cannot write just now, as far as anybody knows."""
        return self._trouble.text is not None or self._trouble.away is not None or self._hangs

    @property
    def _hangs(self) -> bool:
        """Whether it has a delivery open and has acknowledged none for long."""
        return bool(self._open) and self._means.clock.monotonic_s() - self._moved_at_s >= HANG_S

    @property
    def error(self) -> str | None:
        """What keeps the output from writing just now."""
        if self._has_given_up:
            return f"{self._given_up_for}; what it lacks waits in its queue on disk for the next run"
        return self._trouble.text or self._disk_error

    def resume(self, numbers: list[int]) -> None:
        """Begin with the batches that the queue has from the last run."""
        self._waiting.extend(Waiting(number, None, is_kept=True) for number in numbers)

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to wait for: all delivered, or on disk until another run."""
        if self._has_given_up:
            return True
        if self._is_leaving and all(one.is_kept for one in self._waiting):
            return not self._open or self._knows_no_more
        return not self._waiting and not self._open

    @property
    def _knows_no_more(self) -> bool:
        """Whether the output was asked and cannot say now what it has, all of which is on disk."""
        if self._answered != self._open[-1].one.number or self._open[0].task.done():
            return False
        return all(open_.one.is_kept for open_ in self._open)

    def finish(self, *, leaving: bool) -> None:
        """No batch comes any more; with `leaving`, what is on disk stays there for the next run."""
        if leaving and not self._is_leaving:
            self._flushed = self._answered = 0
        self._is_finishing = True
        self._is_leaving = leaving
        self._news.tell()

    async def take(self, batch: Batch) -> None:
        """Accept a batch; returns once it has a place in memory or on disk, or is left out.

        One of nothing but duplicates keeps its place too: the first copies may be in a batch before it.
        """
        one = Waiting(batch.number, batch)
        if not batch.parts or not (batch.record_count or self._waiting or self._open):
            await self._commit(one, None)
            self._means.on_held(one.number, self.output.name)
            return
        if self._goes_to_disk():
            await self._keep(one)
        if one.is_settled:
            return
        self._waiting.append(one)
        self._news.tell()
        if not one.is_kept and not await self._has_place(within_s=None if self._is_alone else SLOW_S):
            await self._keep_all()

    def _goes_to_disk(self) -> bool:
        return not self._is_alone and (self.output.waits_on_disk or any(one.is_kept for one in self._waiting))

    async def _has_place(self, *, within_s: float | None) -> bool:
        """Whether the batches in memory have become few enough."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while sum(not one.is_kept for one in self._waiting) > BATCHES_WAITING_MAX:
                    await self._news.wait_after(self._news.count)
                return True
        return False

    async def _keep_all(self) -> None:
        """Put every batch that is in memory alone on disk, so that it holds nobody up."""
        for one in [*(open_.one for open_ in self._open), *self._waiting]:
            await self._keep(one)
            if one.is_settled and one in self._waiting:
                self._waiting.remove(one)

    async def _keep(self, one: Waiting) -> None:
        """Put the batch on disk; a failing output whose queue has no room is left out of it.

        Not of one that it was handed, of which some may have arrived: that one stays where it is.

        Raises: OutputUnavailable: the disk has refused for longer than the patience.
        """
        refused_since_s: float | None = None
        while not one.is_kept and not one.is_settled:
            seen = self._news.count
            # Not held while waiting: a batch that is acknowledged meanwhile makes room.
            async with self._moving:
                if one.is_settled or one.batch is None:
                    return
                if await self._put(one.batch):
                    await self._mark_kept(one)
                    return
                if self._is_failing:
                    if not one.was_handed_over:
                        await self._leave_out(one)
                    return
            self._lacks_room = True
            if seen == self._news.count:
                self._news.tell()
                seen = self._news.count
            if self._disk_error is not None:
                refused_since_s = refused_since_s or self._means.clock.monotonic_s()
                self._lose_patience_with_disk(refused_since_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._news.wait_after(seen)

    def _lose_patience_with_disk(self, since_s: float) -> None:
        patience_s = self._means.patience_s
        if patience_s is not None and self._means.clock.monotonic_s() - since_s >= patience_s:
            raise OutputUnavailable(str(self._disk_error), where=f"output {self.output.name}")

    async def _mark_kept(self, one: Waiting) -> None:
        await self._means.calls(self._means.ledger.commit_queued, one.number, self.output.name)
        one.is_kept = True
        self._lacks_room = False
        if len(self._waiting) >= BATCHES_WAITING_MAX:
            one.batch = None
        self._means.on_held(one.number, self.output.name)

    async def _put(self, batch: Batch) -> bool:
        """Whether the queue took it: it may be full, or its disk may refuse."""
        try:
            has_room = await self._disk(self._queue.put, batch)
        except OutputUnavailable as error:
            if self._disk_error != error.what:
                self._disk_error = error.what
                _log.warning(str(error), code=error.code)
            return False
        self._disk_error = None
        return has_room

    async def _leave_out(self, one: Waiting) -> None:
        if not self._owes:
            _log.warning(
                f"output {self.output.name}: its queue on disk has no room; what comes now is fetched again "
                "for it once it works, while the service serves it (7 days)",
                code=OutputUnavailable.code,
            )
        self._owes = True
        # First, so that it is not handed over while the ledger writes.
        one.is_settled = True
        await self._means.calls(self._means.ledger.leave_out, one.number, self.output.name)
        self._means.on_held(one.number, self.output.name)

    async def run(self) -> None:
        """Deliver until cancelled, or until the patience is over and everything is safe on disk.

        Raises: CollectorError: the patience is over, and what the output lacks is in memory alone.
        """
        try:
            while not self._has_given_up:
                seen = self._news.count
                await self._begin()
                await self._wait_for_news(seen)
                await self._trouble.look()
                await self._settle_first()
        finally:
            await self._close_open()

    async def _begin(self) -> None:
        """Hand over as many batches as the output takes at once."""
        while self._waiting and self._may_open():
            one = self._waiting[0]
            try:
                batch = one.batch or await self._disk(self._queue.get, one.number)
            except OutputUnavailable as error:
                await self._fail(error)
                return
            # Nobody else takes the first one away: what is on disk is not left out.
            self._waiting.popleft()
            if batch is None:
                await self._give_back(one)
            elif not one.is_settled:
                if not self._open:
                    self._moved_at_s = self._means.clock.monotonic_s()
                one.was_handed_over = True
                task = asyncio.create_task(self._hand_over(batch))
                size_bytes = batch.size_bytes if self.output.batches_at_once_max > 1 else 0
                self._open.append(Handed(one, batch, size_bytes, task))
            self._news.tell()
        await self._announce()
        await self._flush()

    async def _announce(self) -> None:
        """Let the output begin with the next batch while the one before is delivered and committed."""
        if self._preparing is None or not self._open:
            return
        # A delivery that began just now takes its batch over first, and what was prepared of it.
        await asyncio.sleep(0)
        batch = self._waiting[0].batch if self._waiting else None
        if batch is not None and batch.record_count:
            self._preparing.prepare(batch)

    async def _hand_over(self, batch: Batch) -> Receipt | None:
        """The output's receipt; None where the batch has nothing for it."""
        return await self.output.deliver(batch) if batch.record_count else None

    def _may_open(self) -> bool:
        if self._is_leaving and self._waiting[0].is_kept:
            return False
        if not self._open:
            return True
        if len(self._open) >= self.output.batches_at_once_max:
            return False
        return sum(open_.size_bytes for open_ in self._open) < OPEN_BYTES_MAX

    async def _flush(self) -> None:
        """Once the last batch has been handed over, ask the output what is durable.

        Also where the next batch has no room on disk before one of those is known to be durable.
        """
        is_last = not self._waiting or self._is_leaving
        is_wanted = self._is_finishing or self._lacks_room
        if is_wanted and is_last and self._open and self._flushed != self._open[-1].one.number:
            number = self._flushed = self._open[-1].one.number
            # The deliveries that began just now take their batches over first.
            await asyncio.sleep(0)
            try:
                await self.output.flush()
            except Exception as error:  # noqa: BLE001 - the supervisor of outputs: what is open tells the rest
                defect = defect_of(error, where=f"output {self.output.name}")
                _log.error(str(defect), code=defect.code)
            self._flushed_at_s = self._means.clock.monotonic_s()
            # Those that are durable end before anybody asks whether there is something to wait for.
            await asyncio.sleep(0)
            self._answered = number
            self._means.on_settled()

    async def _forget(self, number: int) -> None:
        """Remove the batch's file; one that cannot be removed goes with the next start."""
        try:
            await self._disk(self._queue.remove, number)
        except OSError as error:
            _log.warning(
                f"output {self.output.name}: a file of its queue on disk cannot be removed ({error.strerror})"
            )

    async def _give_back(self, one: Waiting) -> None:
        """A damaged file of the queue: its blobs are fetched again."""
        _log.error(
            f"output {self.output.name}: a batch in its queue on disk is damaged; it is fetched again",
            code=OutputUnavailable.code,
        )
        await self._means.calls(self._means.ledger.leave_out, one.number, self.output.name)
        one.is_settled = True
        await self._forget(one.number)
        await self._recall()
        self._means.on_settled()

    async def _wait_for_news(self, seen: int) -> None:
        """Return once the first open delivery has ended, or something has changed since `seen`."""
        first = [open_.task for open_ in self._open][:1]
        if any(task.done() for task in first):
            return
        news = asyncio.create_task(self._news.wait_after(seen))
        try:
            left_s = self._patience_left_s()
            look_s = _LOOK_S if self._open and self._may_be_away else None
            timeout_s = min((one for one in (left_s, look_s) if one is not None), default=None)
            await asyncio.wait([news, *first], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    def _patience_left_s(self) -> float | None:
        """How long an output that was asked what is durable may still take to say so; None: for ever."""
        patience_s = self._means.patience_s
        if patience_s is None or not self._is_finishing or not self._open:
            return None
        if self._flushed != self._open[-1].one.number:
            return None
        if isinstance(self._trouble.away, NeedsOperator):
            return 0.0
        return max(0.0, self._flushed_at_s + patience_s - self._means.clock.monotonic_s())

    async def _settle_first(self) -> None:
        """Commit the first open batch if it has ended, or take all of them back if it failed."""
        if not self._open:
            return
        if not self._open[0].task.done():
            if self._patience_left_s() == 0.0:
                await self._lose_patience()
            return
        try:
            receipt = self._open[0].task.result()
        except OutputUnavailable as error:
            await self._fail(error)
        except CollectorError as error:
            if self._is_alone:
                raise
            await self._fail(error)
        except Exception as error:  # noqa: BLE001 - the supervisor of outputs: a defect in one is not all
            await self._fail(defect_of(error, where=f"output {self.output.name}"))
        else:
            await self._settle(self._open[0].one, receipt)

    async def _lose_patience(self) -> None:
        """The output does not say what is durable: what it lacks is left to another run."""
        where = f"output {self.output.name}"
        silent = OutputUnavailable(f"took nothing within {self._means.patience_s:g} s", where=where)
        self._tries.lose_patience()
        await self._fail(self._trouble.away or silent)

    async def _settle(self, one: Waiting, receipt: Receipt | None) -> None:
        self._moved_at_s = self._means.clock.monotonic_s()
        # A batch with nothing for the output says nothing of it.
        if receipt is not None:
            await self._trouble.passed()
            self._tries.succeeded()
        async with self._moving:
            await self._commit(one, receipt)
            if one.is_kept:
                await self._forget(one.number)
            else:
                self._means.on_held(one.number, self.output.name)
        self._means.on_delivered(self._open.popleft().batch, self.output.name)
        if self._owes and self._queue.has_room:
            self._owes = False
            await self._recall()
        self._news.tell()
        self._means.on_settled()

    async def _commit(self, one: Waiting, receipt: Receipt | None) -> None:
        ledger, name = self._means.ledger, self.output.name
        await self._means.calls(
            ledger.commit_delivered, one.number, name, receipt, at=self._means.clock.now()
        )
        one.is_settled = True
        for refused in receipt.refused if receipt else ():
            _log.error(
                f"output {name}: refused a record of {len(refused.record)} bytes, "
                f"it is in quarantine: {refused.reason}",
                code="quarantined",
            )

    async def _recall(self) -> None:
        if await self._means.calls(self._means.ledger.recall):
            self._means.on_recalled()

    async def _fail(self, error: CollectorError) -> None:
        """Take everything that is open back, in order, and wait before it is handed over again."""
        await self._close_open()
        self._waiting.extendleft(open_.one for open_ in reversed(self._open))
        self._open.clear()
        self._flushed = 0
        await self._trouble.note(error)
        if not self._is_alone:
            await self._keep_all()
        for one in self._waiting:
            if one.is_kept:
                one.batch = None
        self._news.tell()
        self._means.on_settled()
        await self._wait_or_give_up(error)

    async def _close_open(self) -> None:
        for open_ in self._open:
            open_.task.cancel()
        await asyncio.gather(*(open_.task for open_ in self._open), return_exceptions=True)

    async def _wait_or_give_up(self, error: CollectorError) -> None:
        after_s = error.after_s if isinstance(error, RetryLater) else None
        pause_s = self._tries.failed(self._means.clock.monotonic_s(), after_s=after_s)
        if pause_s is not None:
            await self._means.clock.sleep(pause_s)
            return
        if not all(one.is_kept for one in self._waiting):
            raise error
        self._has_given_up = True
        fix = f"; {error.fix}" if error.fix else ""
        self._given_up_for = f"{error.where}: {error.what}{fix}" if error.where else f"{error.what}{fix}"
        self._means.on_settled()
