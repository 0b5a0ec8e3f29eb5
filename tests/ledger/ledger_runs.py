"""Runs of a collector over a ledger, and a plain ledger that goes along: starts, failures, crashes."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import BlobKey, BlobRef, ContentType, Feed, KnownBlob, RefusedRecord, TenantId
from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.limits import LedgerBounds
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from plain_ledger import Body, PlainLedger

P = ParamSpec("P")
T = TypeVar("T")

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
FEEDS = (Feed(TENANT, ContentType.EXCHANGE), Feed(TENANT, ContentType.SHAREPOINT))
OUTPUTS = ("files", "lake", "wire")
"""By what each can say after a crash: files undo what was not committed, the lake tells, a wire knows
nothing."""
BOUNDS = LedgerBounds(
    merge_count=4,
    merge_count_min=2,
    merge_pause_calls=1,
    merge_share=0.5,
    step_count=3,
    page_count=3,
    identities_forgotten_max=6,
    filter_count=5,
    filter_step_count=3,
    filter_both_max=40,
    filter_false_share=0.2,
)
"""So small that a history of some records has merges in several steps, and filters that grow and err."""

feeds = st.sampled_from(FEEDS)
outputs = st.sampled_from(OUTPUTS)
few = st.integers(0, 3)
bodies = st.lists(st.one_of(st.integers(0, 7), st.none()), max_size=4).map(tuple)
refs = st.lists(st.tuples(st.integers(1, 160), few, bodies), max_size=3)


class Cut(Exception):
    """A verb failed in its middle: nothing of it happened."""


def breakable(step: Callable[P, None]) -> Callable[P, None]:
    """The step, which ends where a verb is cut short: what it did before that has happened."""

    @wraps(step)
    def broken(*args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(Cut):
            step(*args, **kwargs)

    return broken


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that an output has, with the batch that brought it."""

    number: int
    record: bytes
    identity: int | None


@dataclass(slots=True)
class Lane:
    """An output, what it has and what its queue has, and, until the next crash, what waits for it."""

    name: str
    arrived: list[Arrival] = field(default_factory=list)
    refused: list[Arrival] = field(default_factory=list)
    files: dict[int, list[Arrival]] = field(default_factory=dict)
    """Its queue on disk."""
    waiting: deque[int] = field(default_factory=deque)
    brought: dict[int, list[Arrival]] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)
    """The waiting batches that the ledger knows to be in the queue."""
    written: dict[int, tuple[RefusedRecord, ...]] = field(default_factory=dict)
    """The waiting batches that the output has and the ledger does not know of, with what was refused."""
    empty: deque[int] = field(default_factory=deque)
    """Batches of which nothing is for this output, which the ledger has to be told."""

    @property
    def untaken(self) -> list[int]:
        """The waiting batches that the output has not begun to take."""
        return [number for number in self.waiting if number not in self.written]

    def forget(self) -> None:
        """What a crash does."""
        self.waiting.clear()
        self.brought.clear()
        self.kept.clear()
        self.written.clear()
        self.empty.clear()


def record_of(ref: BlobRef, place: int) -> bytes:
    """The bytes of a record, no two of them equal."""
    return f"{ref.feed}/{ref.content_id}/{ref.created_at:%m%d%H}/{place}".encode()


@cache
def empty_ledger() -> bytes:
    """The file of a new ledger: making one takes longer than a whole history."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = SqliteLedger(Path(folder), outputs=frozenset(), now=START)
        ledger.close()
        return ledger.path.read_bytes()


class Runs(RuleBasedStateMachine):
    """A tenant, outputs and the collector that uses the ledger."""

    @initialize(filtered=st.booleans(), names=st.sets(outputs, min_size=1))
    def begin(self, filtered: bool, names: set[str]) -> None:
        """A new ledger, for a run with some of the outputs."""
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-machine-"))
        self.starts = 0
        self.plain = PlainLedger()
        self.now = START
        self.lanes = {name: Lane(name) for name in OUTPUTS}
        self.bodies: dict[BlobRef, Body] = {}
        self.in_flight: dict[BlobKey, set[tuple[int, str]]] = {}
        self.fuse: int | None = None
        self.fuse_crashes = False
        place = self.next_place()
        place.mkdir()
        (place / LEDGER_FILE).write_bytes(empty_ledger())
        self.open(place, filtered=filtered, names=frozenset(names))

    # Starts and ends.

    def next_place(self) -> Path:
        self.starts += 1
        return self.folder / str(self.starts)

    def open(
        self, place: Path, *, filtered: bool, names: frozenset[str], cut_after: int | None = None
    ) -> None:
        """Start a run, as the collector does: the outputs' accounts are compared with the ledger's."""
        self.names = names
        sizes = FilterSizes(6, None) if filtered else None
        self.ledger = SqliteLedger(place, outputs=names, now=self.now, front_filter=sizes, bounds=BOUNDS)
        # Nothing here takes the machine's power away, so the disk need not be waited for.
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.in_flight.clear()
        for lane in self.lanes.values():
            lane.forget()
        durable = {name: self.open_output(self.lanes[name]) for name in sorted(names)}
        queued = {lane.name: sorted(lane.files) for lane in self.lanes.values()}
        self.fuse, self.fuse_crashes = cut_after, True
        try:
            kept = self.call(self.ledger.settle_outputs, durable, queued=queued, at=self.now)
        except Cut:
            return
        assert kept == self.plain.settle(durable, queued, names)
        for lane in self.lanes.values():
            self.resume(lane, kept[lane.name])

    def open_output(self, lane: Lane) -> int:
        """The last batch that the output has, by its own account."""
        committed = self.ledger.output_position(lane.name).last_batch
        if lane.name == "files":
            lane.arrived = [one for one in lane.arrived if one.number <= committed]
            lane.refused = [one for one in lane.refused if one.number <= committed]
        if lane.name == "lake":
            return max((one.number for one in lane.arrived), default=committed)
        return committed

    def resume(self, lane: Lane, kept: list[int]) -> None:
        for number in lane.files.keys() - set(kept):
            del lane.files[number]
        if lane.name in self.names:
            lane.waiting.extend(kept)
            lane.kept.update(kept)
            lane.brought.update({number: lane.files[number] for number in kept})

    def abandon(self) -> None:
        """What a crash leaves of the run: the files, and nothing else."""
        self.ledger._connection.close()
        self.ledger._lock.release()

    def crash_at(self, place: Path, *, names: frozenset[str], filtered: bool = False) -> None:
        self.abandon()
        self.open(place, filtered=filtered, names=names)

    def copy(self) -> Path:
        """The ledger's files as they are at this moment, in the middle of a transaction or not."""
        place = self.next_place()
        place.mkdir()
        for suffix in ("", "-wal"):
            source = self.ledger.path.with_name(LEDGER_FILE + suffix)
            if source.exists():
                shutil.copyfile(source, place / source.name)
        return place

    def call(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What the verb answers, unless it is cut short; then nothing of it has happened.

        Raises: Cut: in the middle of it the database failed, or the process ended and began again.
        """
        if self.fuse is None:
            return verb(*args, **kwargs)
        left, self.fuse = self.fuse, None
        copies: list[Path] = []
        statement = ""

        def note(sql: str) -> None:
            nonlocal statement
            statement = sql

        def burn() -> bool:
            nonlocal left
            if statement.startswith(("BEGIN", "COMMIT")):
                return False  # Its last step would fail after it has happened, which no disk does.
            left -= 1
            if left == 0 and self.fuse_crashes:
                copies.append(self.copy())
            return left == 0

        self.ledger._connection.set_trace_callback(note)
        self.ledger._connection.set_progress_handler(burn, 1)
        try:
            return verb(*args, **kwargs)
        except LedgerUnusable as error:
            if left > 0:
                raise
            if copies:
                self.crash_at(copies[0], names=self.names)
            raise Cut from error
        finally:
            self.ledger._connection.set_progress_handler(None, 0)
            self.ledger._connection.set_trace_callback(None)

    @rule(after=st.integers(1, 300), crashes=st.booleans())
    def break_the_next_verb(self, after: int, crashes: bool) -> None:
        """After so many steps of the database's machine the disk fails, or the process dies."""
        self.fuse, self.fuse_crashes = after, crashes

    @rule(
        names=st.sets(outputs, min_size=1) | st.none(),
        filtered=st.booleans(),
        cut=st.integers(1, 900) | st.none(),
    )
    def crash(self, names: set[str] | None, filtered: bool, cut: int | None) -> None:
        """The process is killed; the next start may be killed as well, or have other outputs."""
        place = self.copy()
        self.abandon()
        told = frozenset(names or self.names)
        if self.may_come_as_rest():
            told = (told & self.names) or self.names
        self.open(place, filtered=filtered, names=told, cut_after=cut)

    def may_come_as_rest(self) -> bool:
        """Whether a blob waits of which nobody may have a record that was on its way.

        An output that is added then gets that record with the rest of the blob, which the plain ledger does
        not know: `test_grown.py` has it.
        """
        batches = self.plain.batches.values()
        open_ones = {identity for one in batches if not one.is_committed for identity, *_ in one.new}
        waiting = (one for one in self.plain.blobs.values() if one.final is None and one.lacking is not None)
        return any(
            identity is not None and (identity in open_ones or identity not in self.plain.owners)
            for one in waiting
            for identity in one.body
        )

    @rule(filtered=st.booleans())
    def stop_and_start(self, filtered: bool) -> None:
        """The ledger is closed in order, and opened where it is."""
        self.ledger.close()
        self.open(self.ledger.path.parent, filtered=filtered, names=self.names)

    def due(self, feed: Feed) -> list[KnownBlob]:
        return self.ledger.due_blobs(feed, now=self.now, count_max=1_000, besides=frozenset(self.in_flight))
