"""Output `detections`: every batch goes past the rules, in a thread of its own.

The engine counts a set of records, so that a batch that comes again, under whatever number, changes
nothing. That is why `open` always answers what the ledger says: where the ledger was lost or put back,
its numbers start anew, and none of its batches may be taken for one that was seen.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, BatchPart, Header, Receipt
from m365watch.common.timestamps import ms_of
from m365watch.common.worker_thread import OwnThread
from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.lake_sync import Shelf, Shelving
from m365watch.detection.alerts.reconciler import close_excepted
from m365watch.detection.correlation.risk_score import RISK_POINTS, risk_rules
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import Detects, MakesEngine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.database_recovery import Rebuilder, RebuildStopped, set_aside_if_damaged
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of

CHANGES_LOOK_EVERY_S = 3.0
"""Between two looks at the files of rules. What differs in one and is the same in the next is a change."""


class RulesRead(NamedTuple):
    """What the user's files say, and the settings that name them."""

    rules: Sequence[Rule]
    """With those of the packs, and with all that correlations join."""
    exceptions: Exceptions
    knowledge: Knowledge = NOTHING_KNOWN
    risk_points: int = 0


class RuleFiles(Protocol):
    """The user's files of rules and exceptions, which may change while a run lasts."""

    def look(self) -> str:
        """What changes with the files, and with nothing else."""
        ...

    def read(self) -> RulesRead | None:
        """What they say now; None where they have mistakes that they did not have: those are told then."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run puts around the detections; a hunt and tests do without."""

    shelves: Sequence[Shelf] = ()
    """The lakes that the alerts are brought to."""
    rebuilder: Rebuilder | None = None
    """What makes the file anew where it was lost or damaged."""
    rule_files: RuleFiles | None = None
    """What is read again when it changes, or somebody asks; None: there is nothing to be read."""
    watches_files: bool = True
    """Whether changes are looked for; else they count when somebody asks."""


class RuleWatch:
    """Waits until the files have changed and lie still."""

    def __init__(self, files: RuleFiles, clock: Clock) -> None:
        """Changes count from now on; looks at the files."""
        self._files = files
        self._clock = clock
        self._known = files.look()

    def take_note(self) -> None:
        """The files are read as they are now: changes count from here on."""
        self._known = self._files.look()

    async def changed(self) -> None:
        """Return once the files are others than at the last time, and were the same in two looks."""
        last = self._known
        while True:
            await self._clock.sleep(CHANGES_LOOK_EVERY_S)
            now = await asyncio.to_thread(self._files.look)
            if now == last != self._known:
                self._known = now
                return
            last = now


NOTHING_AROUND = Surroundings()
_log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
"""How often time alone is let count: rules about silence, and what is too old to be kept."""
SHELVE_EVERY_S = 5.0
"""How often what has changed of the alerts is brought to the lake."""
SHELVE_SHARE = 0.05
"""How much of the output's time that may take."""
REBUILD_AGAIN_S = 30.0
"""How long after a failure the file is tried to be made anew."""
CLOSING_LOOK_S = 0.2
FILE_NAME = "detections.sqlite"
"""The file in the state directory."""


class DetectionOutput:
    """The rules over every record that is delivered; matches and alerts are in the file."""

    needs_wide_headers = False
    batches_at_once_max = 2
    """The next one is there when one is done: its records are looked at while that one is committed."""
    waits_on_disk = False

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        rules: Callable[[], Sequence[Rule]],
        clock: Clock,
        knowledge: Knowledge = NOTHING_KNOWN,
        exceptions: Exceptions = NO_EXCEPTIONS,
        risk_points: int = RISK_POINTS,
        tell: Callable[[Sequence[Change]], None] | None = None,
        around: Surroundings = NOTHING_AROUND,
        engine: MakesEngine = Engine,
    ) -> None:
        """Nothing is touched before `open`.

        `rules` loads them, with all that correlations join; it is called in the output's thread. `tell` is
        called on the event loop with what a batch has changed, once that is durable. Without `risk_points`
        no alert is made of what others add up to. `engine` makes what does the work.
        """
        self._make = engine
        self.name = name
        self._directory = directory
        self._rules = rules
        self._clock = clock
        self._knowledge = knowledge
        self._exceptions = exceptions
        self._risk_points = risk_points
        self._tell = tell
        self._around = around
        self._closing = threading.Event()
        self._asked = asyncio.Event()
        self._turn = 0
        """Grows when a batch does not count: those that were handed over with it do not count either."""
        self._uncounted: set[int] = set()
        """The numbers of batches that did not count, and will come again."""
        self._expected = 0
        """Records that are about to come, of which the engine does not know yet."""
        self._engine: Detects | None = None
        self._state: DetectionState | None = None
        self._making: asyncio.Task[Detects] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._shelving: Shelving | None = None
        self._is_behind = False
        self._going_on = GoingOn(name)
        self._thread = OwnThread(f"detect-{name}")

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - batches may come again
        newest_batch: int | None = None,  # noqa: ARG002 - the same
    ) -> int:
        """Load the rules and the file; answers `last_batch`.

        Raises: OutputUnusable: the directory cannot be written, the file is none of ours.
        """
        rebuilder = await self._thread(lambda: self._examine(last_batch))
        if rebuilder is None:
            await self._thread(lambda: self._open_state(last_batch))
        # Rules take their time to read: meanwhile the run goes on, and what comes waits for them.
        self._making = asyncio.create_task(self._make_engine(last_batch, rebuilder))
        if rebuilder is not None and rebuilder.is_waited_for:
            try:
                await asyncio.shield(self._making)
            except asyncio.CancelledError:
                self._closing.set()
                raise
        self._tasks = [
            asyncio.create_task(self._look_regularly()),
            asyncio.create_task(self._shelve_regularly()),
        ]
        files = self._around.rule_files
        if files is not None:
            is_watched = self._around.watches_files
            watch = await asyncio.to_thread(RuleWatch, files, self._clock) if is_watched else None
            self._tasks.append(asyncio.create_task(self._follow(files, watch)))
        return last_batch

    def expect(self, records: int) -> None:
        """Have the engine get ready: now, or as soon as it is there."""
        self._expected = records
        self._have_ready()

    def _have_ready(self) -> None:
        if self._engine is not None and self._expected and not self._closing.is_set():
            self._thread.begin(_get_ready, self._engine, self._expected, self._clock.now())
            self._expected = 0

    async def deliver(self, batch: Batch) -> Receipt:
        """Let the batch count.

        Raises: OutputUnavailable: the disk is full or fails; nothing of the batch counts.
        """
        await self._ready()
        turn = self._turn
        changes = await self._thread(lambda: self._take_in_turn(batch, turn))
        self._say(changes)
        return Receipt()

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Stop looking, and let go of the file; every acknowledged batch is durable already."""
        self._closing.set()
        if self._engine is not None:
            self._engine.hurry()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        ending: asyncio.Task[None] | None = None
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)
            if self._engine is not None:
                await self._catch_up(self._engine)
                # A child takes its time to end, and nothing more is asked of it.
                ending = asyncio.create_task(asyncio.to_thread(self._engine.close))
            self._making = self._engine = None
        if self._state is not None:
            await self._shelve()
            if ending is not None:
                await ending
            state, self._state = self._state, None
            await self._thread(state.close)
        self._thread.close()

    @property
    def engine(self) -> Detects | None:
        """What does the work, for its figures; None before the rules are loaded."""
        return self._engine

    async def _make_engine(self, last_batch: int, rebuilder: Rebuilder | None) -> Detects:
        rules = await self._thread(self._load_rules)
        if rebuilder is not None:
            await self._rebuild(rebuilder, rules)
            await self._thread(lambda: self._open_state(last_batch))
        state = self._state
        if state is None:
            raise OutputUnusable("the detections are not open", fix="open them first", where=self.name)
        self._engine = await self._thread(lambda: self._engine_of(rules, state))
        self._have_ready()
        return self._engine

    def _engine_of(self, rules: Sequence[Rule], state: DetectionState) -> Detects:
        engine = self._make(rules, state, knowledge=self._knowledge, exceptions=self._exceptions)
        with suppress(OutputUnavailable):  # the next batch meets the same disk and says so
            self._close_excepted(engine)
        return engine

    def _close_excepted(self, engine: Detects) -> None:
        by_id = {rule.id: rule for rule in engine.rules}
        at_ms = ms_of(self._clock.now())
        count = close_excepted(engine.state, by_id, self._exceptions, at_ms=at_ms)
        if count:
            noun = "open alert" if count == 1 else "open alerts"
            _log.info(f"detections: closed as excepted meanwhile: {count:,} {noun}")

    def _load_rules(self) -> list[Rule]:
        return self._with_risk(self._rules())

    def _with_risk(self, rules: Sequence[Rule]) -> list[Rule]:
        return [*rules, *risk_rules(self._risk_points)]

    def reread(self) -> None:
        """Read the user's rules and exceptions again, whether they have changed or not."""
        self._asked.set()

    async def _follow(self, files: RuleFiles, watch: RuleWatch | None) -> None:
        """Take up what changes in the user's files; what has new mistakes changes nothing."""
        await self._ready()
        while True:
            with self._going_on("rules"):
                await self._until_changed(watch)
                await self._thread(lambda: self._take_up(files))
                continue
            # What has changed is not in force yet, though it will not change once more.
            await self._clock.sleep(LOOK_EVERY_S)
            self._asked.set()

    async def _until_changed(self, watch: RuleWatch | None) -> None:
        """Return when somebody asks, or the files have changed. Raises whatever looking at them raises."""
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._asked.wait(), name="asked")]
        if watch is not None:
            waits.append(asyncio.create_task(watch.changed(), name="changed"))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        for one in done:
            one.result()
        if watch is not None and self._asked.is_set():
            await asyncio.to_thread(watch.take_note)
        self._asked.clear()

    def _take_up(self, files: RuleFiles) -> None:
        found = files.read()
        if found is not None:
            self._exceptions, self._knowledge = found.exceptions, found.knowledge
            self._risk_points = found.risk_points
            before = self._engine_now()
            self._engine = self._engine_of(self._with_risk(found.rules), before.state)
            before.close()

    async def _rebuild(self, rebuilder: Rebuilder, rules: Sequence[Rule]) -> None:
        """Have the file made anew, however often that has to be tried."""
        is_told = False
        while not self._closing.is_set():
            try:
                return await self._thread(lambda: rebuilder.run(rules, self._closing.is_set))
            except OutputUnavailable as error:
                if not is_told:
                    _log.warning(f"{error.where}: {error.what}; it goes on when that is mended")
                is_told = True
            except RebuildStopped:
                break
            await self._nap(REBUILD_AGAIN_S)
        raise OutputUnavailable("the detections are being made anew", where=self.name)

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        sleeping = asyncio.create_task(self._clock.sleep(seconds))
        while not sleeping.done() and not self._closing.is_set():
            await asyncio.wait([sleeping], timeout=CLOSING_LOOK_S)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)

    def _engine_now(self) -> Detects:
        """The engine: another one, once the rules have changed."""
        if self._engine is None:
            raise OutputUnusable("the detections are not open", fix="open them first", where=self.name)
        return self._engine

    async def _ready(self) -> None:
        """Return once the rules are loaded."""
        if self._making is None:
            raise OutputUnusable("the detections are not open", fix="open them first", where=self.name)
        # Whoever waits may be cancelled; the rules are loaded all the same.
        await asyncio.shield(self._making)

    def _examine(self, last_batch: int) -> Rebuilder | None:
        """What has to make the file anew before it can be used; one that is damaged is set aside."""
        was_damaged = set_aside_if_damaged(self._directory / FILE_NAME, clock=self._clock)
        rebuilder = self._around.rebuilder
        if rebuilder is not None and rebuilder.is_needed(was_damaged=was_damaged, last_batch=last_batch):
            return rebuilder
        return None

    def _open_state(self, last_batch: int) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputUnusable(
                f"the directory of the detections cannot be made: {error.strerror}",
                fix="make it, or name another state directory",
                where=str(self._directory),
            ) from None
        state = DetectionState(self._directory / FILE_NAME)
        # A process that an earlier run left behind may still be at work on its last batch.
        state.take_hold()
        state.count_from(last_batch)
        self._state, self._shelving = state, Shelving(state, self._around.shelves)

    def _take_in_turn(self, batch: Batch, turn: int) -> list[Change]:
        """Let the batch count, unless one before it does not: that one comes again first, and then this."""
        if turn != self._turn:
            raise OutputUnavailable("the batch before this one does not count yet", where=self.name)
        engine = self._engine_now()
        try:
            if batch.number in self._uncounted:
                # One after it may have counted, after which it would be taken for one that has.
                engine.state.count_from(batch.number - 1)
            changes = self._take(engine, batch)
        except BaseException:
            self._turn += 1
            self._uncounted.add(batch.number)
            raise
        self._uncounted.discard(batch.number)
        return changes

    def _take(self, engine: Detects, batch: Batch) -> list[Change]:
        portions = [
            Portion(part.feed.tenant_id, part.received_at, part.records, _headers_of(part))
            for part in batch.parts
        ]
        return engine.take(portions, number=batch.number, now=self._clock.now())

    async def _look_regularly(self) -> None:
        await self._ready()
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            # The next batch, or the next look, meets the same disk and says so.
            with self._going_on("looks"), suppress(OutputUnavailable):
                self._say(await self._thread(lambda: self._engine_now().look(now=self._clock.now())))

    async def _catch_up(self, engine: Detects) -> None:
        """Bring alerts up to what is known, before the end."""
        with suppress(OutputUnavailable):  # the next run does it
            self._say(await self._thread(lambda: engine.catch_up(now=self._clock.now())))

    async def _shelve_regularly(self) -> None:
        wait_s = SHELVE_EVERY_S
        while True:
            await self._clock.sleep(wait_s)
            began_s = self._clock.monotonic_s()
            await self._shelve()
            wait_s = max(SHELVE_EVERY_S, (self._clock.monotonic_s() - began_s) / SHELVE_SHARE)

    async def _shelve(self) -> None:
        """Bring the lakes up to what the alerts are; what cannot be done now is done later."""
        if self._shelving is None:
            return
        with self._going_on("lakes"):
            try:
                brought = await self._thread(self._shelving.bring)
                while brought.rows and not brought.is_done:
                    brought = await self._thread(self._shelving.bring)
                self._is_behind = False
            except OutputUnavailable as error:
                if not self._is_behind:
                    _log.warning(
                        f"{error.where}: {error.what}; tried again every few seconds, nothing is lost"
                    )
                self._is_behind = True

    def _say(self, changes: Sequence[Change]) -> None:
        if changes and self._tell is not None:
            self._tell(changes)


def _get_ready(engine: Detects, records: int, now: datetime) -> None:
    with suppress(OutputUnavailable):  # the batch meets the same disk and says so
        engine.expect(records, now=now)


def _headers_of(part: BatchPart) -> Sequence[Header]:
    """Those of the part; one that waited on disk comes without, and they are read again."""
    return part.headers if len(part.headers) == len(part.records) else headers_of(part.records)
