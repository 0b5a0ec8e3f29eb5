"""The ledger against a plain one: every verb, failures in the middle, crashes, and starts after them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from m365watch.errors import LedgerUnusable
from m365watch.ledger.account import BlobsAsked, named_blobs
from m365watch.ledger.bounds import LedgerBounds
from m365watch.ledger.front_filter import FilterSizes
from m365watch.ledger.reading import feed_progress
from m365watch.ledger.sqlite import LEDGER_FILE, SqliteLedger
from m365watch.model import (
    BatchPart,
    BlobKey,
    BlobRef,
    BlobState,
    ContentType,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    RefusedRecord,
    TenantId,
    Window,
)
from plain_ledger import HOUR, Body, PlainBlob, PlainLedger

P = ParamSpec("P")
T = TypeVar("T")

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
FEEDS = (Feed(TENANT, ContentType.EXCHANGE), Feed(TENANT, ContentType.SHAREPOINT))
OUTPUTS = ("files", "lake", "wire")
"""By what each can say after a crash: files undo what was not committed, the lake tells, a wire knows
nothing."""
HISTORIES = 120
"""In every run of the tests, some 10 s; more where `M365WATCH_HISTORIES` says so."""
STEPS = 50
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
FINISH_ROUNDS_MAX = 20

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


class Histories(RuleBasedStateMachine):
    """A tenant, outputs and a collector's use of the ledger; the plain ledger goes along."""

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
        self.open(place, filtered=filtered, names=frozenset(names or self.names), cut_after=cut)

    @rule(filtered=st.booleans())
    def stop_and_start(self, filtered: bool) -> None:
        """The ledger is closed in order, and opened where it is."""
        self.ledger.close()
        self.open(self.ledger.path.parent, filtered=filtered, names=self.names)

    def teardown(self) -> None:
        """In the end everything is delivered that is not lost, and nothing twice."""
        try:
            if hasattr(self, "ledger"):
                self.finish()
        finally:
            if hasattr(self, "ledger"):
                self.abandon()
            shutil.rmtree(self.folder, ignore_errors=True)

    # Listing.

    @rule(
        feed=feeds,
        found=refs,
        again=st.booleans(),
        start=st.integers(1, 167),
        hours=st.integers(1, 24),
        complete=st.booleans(),
    )
    @breakable
    def list_window(
        self,
        feed: Feed,
        found: list[tuple[int, int, Body]],
        again: bool,
        start: int,
        hours: int,
        complete: bool,
    ) -> None:
        """A page of a listing: new blobs, old ones, one content id with several created times."""
        named = []
        for age_h, name, body in found:
            created_at = self.now - age_h * HOUR
            named.append((BlobRef(feed, f"content${name}", created_at, created_at + WEEK), body))
        if again:
            old = [ref for ref in self.bodies if ref.feed == feed and ref.expires_at > self.now]
            named += [(ref, self.bodies[ref]) for ref in old]
        window = Window(self.now - start * HOUR, self.now - (start - hours) * HOUR)
        new = self.call(
            self.ledger.commit_listing,
            feed,
            window,
            [ref for ref, _ in named],
            complete=complete,
            at=self.now,
        )
        for ref, body in named:
            self.bodies.setdefault(ref, body)
        bodies_of = [(ref, self.bodies[ref]) for ref, _ in named]
        assert new == self.plain.list_blobs(
            window, bodies_of, self.key_given_to, feed=feed, complete=complete, at=self.now
        )

    def key_given_to(self, ref: BlobRef) -> BlobKey:
        row = self.ledger._connection.execute(
            "SELECT key FROM blob WHERE content_id = ? AND created_us = ?"
            " AND feed = (SELECT id FROM feed WHERE content_type = ?)",
            (ref.content_id, int(ref.created_at.timestamp()) * 1_000_000, ref.feed.content_type),
        ).fetchone()
        return BlobKey(row[0])

    # Fetching and batches.

    def due(self, feed: Feed) -> list[KnownBlob]:
        return self.ledger.due_blobs(feed, now=self.now, count_max=1_000, besides=frozenset(self.in_flight))

    def picked(self, feed: Feed, place: int) -> KnownBlob | None:
        """One of the blobs that a fetcher may fetch now."""
        due = self.due(feed)
        return due[place % len(due)] if due else None

    @rule(feed=feeds, places=st.lists(few, min_size=1, max_size=3, unique=True))
    @breakable
    def open_batch(self, feed: Feed, places: list[int]) -> None:
        """Some due blobs are fetched and go into a batch."""
        due = self.due(feed)
        self.begin_batch([due[place] for place in places if place < len(due)])

    def begin_batch(self, blobs: Sequence[KnownBlob]) -> None:
        if not blobs:
            return
        opened = self.call(self.ledger.open_batch, [self.part(blob) for blob in blobs], self.names)
        assert opened.number > self.plain.numbers_given
        keys = [blob.key for blob in blobs]
        self.compare_duplicates(keys, (opened.duplicates, opened.outputs))
        batch = self.plain.open_batch(
            opened.number, keys, opened.duplicates, outputs=self.names, now=opened.outputs
        )
        for name in self.names:
            lane = self.lanes[name]
            brought = lane.brought[opened.number] = [
                self.arrival(opened.number, self.plain.blobs[part.blob], place)
                for part in batch.parts
                if name in part.outputs
                for place in part.kept
            ]
            is_for_it = any(name in part.outputs for part in batch.parts)
            # Duplicates keep their place: the first copies may be in a batch before them.
            (lane.waiting if brought or (is_for_it and lane.waiting) else lane.empty).append(opened.number)
        for key in keys:
            self.in_flight[key] = {(opened.number, name) for name in self.names}

    def compare_duplicates(self, keys: Sequence[BlobKey], found: object) -> None:
        """Where the ledger may know an identity or not, its own word is taken."""
        expected = self.plain.duplicates(keys, self.names)
        open_to_both = self.plain.forgettable | self.plain.uncertain
        if open_to_both.isdisjoint(one for key in keys for one in self.plain.blobs[key].body):
            assert found == expected

    def part(self, known: KnownBlob) -> BatchPart:
        body = self.plain.blobs[known.key].body
        return BatchPart(
            blob=known.key,
            feed=known.ref.feed,
            received_at=self.now,
            records=[record_of(known.ref, place) for place in range(len(body))],
            headers=[Header() for _ in body],
            tables=["t"] * len(body),
            missing_outputs=known.missing_outputs,
            identities=[None if one is None else bytes([one]) * 16 for one in body],
        )

    def arrival(self, number: int, blob: PlainBlob, place: int) -> Arrival:
        return Arrival(number, record_of(blob.ref, place), blob.body[place])

    def hold(self, number: int, output: str) -> None:
        """What `output` was to have of the batch is in memory alone no more."""
        for key, unheld in list(self.in_flight.items()):
            unheld.discard((number, output))
            if not unheld:
                del self.in_flight[key]

    # What an output does with the batches that wait for it.

    @rule(name=outputs, refuses=st.booleans())
    def write(self, name: str, refuses: bool) -> None:
        """The output has the next batch, which the ledger does not know yet; it may refuse a record."""
        lane = self.lanes[name]
        at_once = 3 if name == "wire" else 1
        if not lane.untaken or len(lane.written) >= at_once:
            return
        number = lane.untaken[0]
        arrivals = lane.brought[number]
        taken = arrivals[:-1] if refuses and name != "lake" else arrivals
        lane.arrived += taken
        lane.refused += arrivals[len(taken) :]
        lane.written[number] = tuple(
            RefusedRecord(self.key_of(one), one.record, "too long") for one in arrivals[len(taken) :]
        )

    def key_of(self, arrival: Arrival) -> BlobKey:
        parts = self.plain.batches[arrival.number].parts
        every = {**self.plain.forgotten, **self.plain.blobs}
        return next(
            part.blob
            for part in parts
            for place in part.kept
            if record_of(every[part.blob].ref, place) == arrival.record
        )

    @rule(name=outputs, cleans=st.booleans())
    @breakable
    def commit(self, name: str, cleans: bool) -> None:
        """The ledger is told what the output has; the file in its queue may outlive that for a while."""
        lane = self.lanes[name]
        if not lane.written:
            return
        number = lane.waiting[0]
        refused = lane.written[number]
        position = f"after {number}"
        receipt = Receipt(position, refused)
        self.call(self.ledger.commit_delivered, number, name, receipt, at=self.now)
        self.plain.acknowledge(number, name, position)
        self.plain.pieces |= {(one.blob, name, one.record) for one in refused}
        lane.waiting.popleft()
        del lane.written[number]
        lane.kept.discard(number)
        if cleans:
            lane.files.pop(number, None)
        self.hold(number, name)

    @rule(name=outputs)
    @breakable
    def commit_what_is_not_for_it(self, name: str) -> None:
        """All of a batch's records were left out, or are for others."""
        lane = self.lanes[name]
        if lane.empty:
            number = lane.empty[0]
            self.call(self.ledger.commit_delivered, number, name, None, at=self.now)
            self.plain.acknowledge(number, name, None)
            lane.empty.popleft()
            self.hold(number, name)

    @rule(name=outputs, place=few)
    def put_on_disk(self, name: str, place: int) -> None:
        """The queue has the batch's file, and the ledger does not know it yet."""
        lane = self.lanes[name]
        unkept = [number for number in lane.waiting if number not in lane.files]
        if place < len(unkept):
            lane.files[unkept[place]] = lane.brought[unkept[place]]

    @rule(name=outputs)
    @breakable
    def commit_queued(self, name: str) -> None:
        """The ledger is told of a file in the queue."""
        lane = self.lanes[name]
        for number in lane.waiting:
            if number in lane.files and number not in lane.kept:
                self.call(self.ledger.commit_queued, number, name)
                self.plain.queue(number, name)
                lane.kept.add(number)
                self.hold(number, name)
                return

    @rule(name=outputs, place=few)
    @breakable
    def leave_out(self, name: str, place: int) -> None:
        """The queue has no room for a batch, and the output fails."""
        lane = self.lanes[name]
        unkept = [number for number in lane.untaken if number not in lane.files]
        if place < len(unkept):
            self.call(self.ledger.leave_out, unkept[place], name)
            self.plain.leave_out(unkept[place], name)
            lane.waiting.remove(unkept[place])
            self.hold(unkept[place], name)

    @rule(name=outputs)
    @breakable
    def give_back(self, name: str) -> None:
        """A file of the queue is damaged: its blobs are owed to the output, and due at once."""
        lane = self.lanes[name]
        damaged = [number for number in lane.untaken if number in lane.kept]
        if damaged:
            self.call(self.ledger.leave_out, damaged[0], name)
            self.plain.leave_out(damaged[0], name)
            lane.waiting.remove(damaged[0])
            lane.kept.discard(damaged[0])
            del lane.files[damaged[0]]
            self.recall()

    @rule()
    @breakable
    def recall(self) -> None:
        """There is room again."""
        assert self.call(self.ledger.recall) == self.plain.recall()

    @rule(name=outputs)
    def remove_a_queue(self, name: str) -> None:
        """Somebody removed the folder while no collector ran: a crash, and the files are gone."""
        self.lanes[name].files.clear()
        self.crash_at(self.copy(), names=self.names)

    # Other ends.

    @rule(feed=feeds, place=few, body=st.binary(max_size=1), output=st.sampled_from(["", *OUTPUTS]))
    @breakable
    def quarantine_a_piece(self, feed: Feed, place: int, body: bytes, output: str) -> None:
        """A part of a fetched blob is no record."""
        if blob := self.picked(feed, place):
            self.call(self.ledger.quarantine, blob.key, body, "no record", output=output, at=self.now)
            self.plain.pieces.add((blob.key, output, body))

    @rule(feed=feeds, place=few, body=st.binary(max_size=1))
    @breakable
    def quarantine_all(self, feed: Feed, place: int, body: bytes) -> None:
        """Nothing of a fetched blob is a record, though it may have been before."""
        if blob := self.picked(feed, place):
            self.call(self.ledger.quarantine, blob.key, body, "no record", whole=True, at=self.now)
            self.plain.pieces.add((blob.key, "", body))
            self.plain.finish(blob.key, BlobState.QUARANTINED)

    @rule(feed=feeds, place=few)
    @breakable
    def lose(self, feed: Feed, place: int) -> None:
        """A blob is no longer served."""
        if blob := self.picked(feed, place):
            self.call(self.ledger.commit_lost, blob.key, "expired", at=self.now)
            self.plain.finish(blob.key, BlobState.LOST)

    @rule(feed=feeds, place=few, hours=st.integers(0, 12))
    @breakable
    def postpone(self, feed: Feed, place: int, hours: int) -> None:
        """A fetch failed."""
        if blob := self.picked(feed, place):
            later = self.now + hours * HOUR
            self.call(
                self.ledger.postpone,
                blob.key,
                attempts=blob.attempts + 1,
                next_try_at=later,
                error="no answer",
            )
            plain = self.plain.blobs[blob.key]
            plain.attempts, plain.next_try_at = blob.attempts + 1, later

    # Upkeep, and what is only remembered.

    @rule(steps=st.integers(1, 6))
    @breakable
    def merge(self, steps: int) -> None:
        """Identities move into their table, a slice at a time."""
        for _ in range(steps):
            if not self.call(self.ledger.merge_identities):
                return

    @rule(ahead=st.integers(0, 20))
    @breakable
    def evict(self, ahead: int) -> None:
        """By a clock that may be days ahead."""
        by_clock = self.now + timedelta(days=ahead)
        self.call(self.ledger.evict, now=by_clock)
        self.plain.evict(by_clock)

    @rule(hours=st.integers(1, 100))
    def wait(self, hours: int) -> None:
        """Time passes."""
        self.now += hours * HOUR

    @rule(feed=feeds, start=st.integers(170, 190), hours=st.integers(1, 5))
    @breakable
    def commit_gap(self, feed: Feed, start: int, hours: int) -> None:
        """A span was never listed and cannot be any more; a longer one from the same start is news, too."""
        span = Window(START - start * HOUR, START - (start - hours) * HOUR)
        known_to = self.plain.gaps.get((feed, span.start), span.start)
        is_news = span.end > known_to
        assert self.call(self.ledger.commit_gap, feed, span, at=self.now) == is_news
        self.plain.gaps[feed, span.start] = max(span.end, known_to)

    @rule(feed=feeds, name=st.sampled_from("ab"))
    @breakable
    def remember(self, feed: Feed, name: str) -> None:
        """The daily listing is over, and somebody has learned something."""
        self.call(self.ledger.commit_relisting, feed, at=self.now)
        self.plain.relisted[feed] = self.now
        self.call(self.ledger.remember, name, str(self.now))
        self.plain.memory[name] = str(self.now)

    # What always holds.

    @invariant()
    def everybody_agrees(self) -> None:
        """What the ledger answers is what the plain one does."""
        if not hasattr(self, "ledger"):
            return
        for feed in FEEDS:
            self.compare_due(feed)
            assert self.ledger.coverage(feed) == self.plain.coverage(feed)
            assert self.ledger.relisted_at(feed) == self.plain.relisted.get(feed)
        for name in OUTPUTS:
            position = self.ledger.output_position(name)
            assert (position.last_batch, position.position) == self.plain.positions.get(name, (0, ""))
        assert {name: self.ledger.remembered(name) for name in "ab"} == {
            name: self.plain.memory.get(name) for name in "ab"
        }
        assert self.ledger.newest_batch() >= self.plain.numbers_given

    def compare_due(self, feed: Feed) -> None:
        """A blob in flight is nobody's to fetch; of every other the ledger says whether, and for whom."""
        due = self.due(feed)
        expected = [one for one in self.plain.due(feed, now=self.now) if one.key not in self.in_flight]
        assert {(one.key, one.ref, one.attempts, one.missing_outputs) for one in due} == {
            (one.key, one.ref, one.attempts, frozenset(one.lacked_by(self.names))) for one in expected
        }
        assert [one.ref.created_at for one in due] == [one.ref.created_at for one in expected]
        some = self.ledger.due_blobs(feed, now=self.now, count_max=2, besides=frozenset(self.in_flight))
        assert [one.ref.created_at for one in some] == [one.ref.created_at for one in expected[:2]]

    @invariant()
    def every_blob_is_in_exactly_one_state(self) -> None:
        """In the tables, in memory, and counted."""
        if not hasattr(self, "ledger"):
            return
        connection = self.ledger._connection
        named = named_blobs(connection, BlobsAsked(list(BlobState), count_max=1_000)).blobs
        states = {BlobRef(b.feed, b.content_id, b.created_at, b.expires_at): b.state for b in named}
        assert len(states) == len(named)
        assert {ref: state for ref, state in states.items() if state in FINAL} == {
            blob.ref: blob.final for blob in self.plain.blobs.values() if blob.final is not None
        }
        assert states.keys() == {blob.ref for blob in self.plain.blobs.values()}
        by_file = {row.feed: row for row in feed_progress(connection, self.now)}
        for row in self.ledger.feed_progress():
            self.compare_counts(row.feed)
            for figure in ("waiting", "delivered", "quarantined", "lost"):
                assert getattr(row, f"blobs_{figure}") == getattr(by_file[row.feed], f"blobs_{figure}")
            for figure in ("delivered", "duplicate", "quarantined"):
                assert getattr(row, f"records_{figure}") == getattr(by_file[row.feed], f"records_{figure}")

    def compare_counts(self, feed: Feed) -> None:
        row = next(row for row in self.ledger.feed_progress() if row.feed == feed)
        blobs = [
            one
            for one in (*self.plain.blobs.values(), *self.plain.forgotten.values())
            if one.ref.feed == feed
        ]
        finals = Counter(blob.final for blob in blobs)
        assert (row.blobs_waiting, row.blobs_delivered, row.blobs_quarantined, row.blobs_lost) == (
            finals[None],
            finals[BlobState.DELIVERED],
            finals[BlobState.QUARANTINED],
            finals[BlobState.LOST],
        )
        assert row.records_delivered + row.records_duplicate == sum(
            len(blob.body) for blob in blobs if blob.final is BlobState.DELIVERED
        )
        keys = {blob.key for blob in blobs}
        assert row.records_quarantined == sum(piece[0] in keys for piece in self.plain.pieces)
        assert row.unlisted_s == sum(
            (end - start).total_seconds() for (one, start), end in self.plain.gaps.items() if one == feed
        )

    @invariant()
    def an_older_version_owes_nobody_more(self) -> None:
        """It takes a list that ends in spaces for a batch that is open, and asks its blobs who lacks them.

        Where such a row named nobody, and the blob were not final, that version would have it lost.
        """
        if not hasattr(self, "ledger"):
            return
        padded = "SELECT parts FROM batch WHERE waiting_for != '[]' AND rtrim(waiting_for) = '[]'"
        told = (
            "SELECT blob.key FROM blob WHERE finished_s IS NULL AND missing IS NULL AND key IN"
            f" (SELECT json_extract(part.value, '$[0]') FROM ({padded}) AS one, json_each(one.parts) AS part)"
        )
        assert self.ledger._connection.execute(told).fetchall() == []

    @invariant()
    def nothing_arrives_twice(self) -> None:
        """At outputs that can undo or tell; on the wire only what a crash left unproven."""
        if not hasattr(self, "ledger"):
            return
        for name in ("files", "lake"):
            arrived = self.lanes[name].arrived
            identities = Counter(one.identity for one in arrived if one.identity is not None)
            assert not {
                identity
                for identity, count in identities.items()
                if count > 1 and identity not in self.plain.forgettable
            }
            assert not [one for one, count in Counter(a.record for a in arrived).items() if count > 1]

    # The end.

    def finish(self) -> None:
        """Fetch, deliver and commit until every blob is final, and see that everything has arrived."""
        self.fuse = None
        for _ in range(FINISH_ROUNDS_MAX):
            self.now += 24 * HOUR
            for name in self.names:
                self.empty_lane(name)
            self.recall()
            if not any(blob.final is None for blob in self.plain.blobs.values() if self.can_end(blob)):
                break
            for feed in FEEDS:
                self.begin_batch(self.due(feed))
        self.everybody_agrees()
        self.every_blob_is_in_exactly_one_state()
        self.nothing_arrives_twice()
        assert not [blob for blob in self.plain.blobs.values() if blob.final is None and self.can_end(blob)]
        for name in OUTPUTS:
            self.look_for(name)

    def can_end(self, blob: PlainBlob) -> bool:
        """Not while it waits in the queue of an output that this run does not have."""
        return not blob.queued - self.names

    def empty_lane(self, name: str) -> None:
        lane = self.lanes[name]
        while lane.waiting:
            self.write(name, refuses=False)
            self.commit(name, cleans=True)
        while lane.empty:
            self.commit_what_is_not_for_it(name)

    def look_for(self, name: str) -> None:
        """Every record of a delivered blob that was promised to an output is there, or was refused."""
        lane = self.lanes[name]
        have = [*lane.arrived, *lane.refused]
        records, identities = {one.record for one in have}, {one.identity for one in have}
        blobs = [*self.plain.blobs.values(), *self.plain.forgotten.values()]
        # What came before this was an output is not brought to it by a duplicate.
        excused = {one for blob in blobs if name not in blob.promised for one in blob.body}
        for blob in blobs:
            if blob.final is not BlobState.DELIVERED or name not in blob.promised:
                continue
            for place, identity in enumerate(blob.body):
                if identity is None:
                    assert record_of(blob.ref, place) in records, (name, blob, place)
                else:
                    assert identity in identities | excused, (name, blob, place)


FINAL = {BlobState.DELIVERED, BlobState.QUARANTINED, BlobState.LOST}


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


def test_whatever_happens_the_ledger_says_what_a_plain_one_says() -> None:
    """Its verbs in any order, broken off anywhere, with crashes: nothing is lost, and nothing doubled."""
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=int(os.environ.get("M365WATCH_HISTORIES", HISTORIES)),
            stateful_step_count=STEPS,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
