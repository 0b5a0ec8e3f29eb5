"""The ledger against a plain one: every verb, failures in the middle, crashes, and starts after them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from promises import guarantee

from ledger_judge import Judged
from ledger_runs import (
    FEEDS,
    OUTPUTS,
    START,
    WEEK,
    Arrival,
    breakable,
    feeds,
    few,
    outputs,
    record_of,
    refs,
)
from m365watch.common.model import (
    BatchPart,
    BlobKey,
    BlobRef,
    BlobState,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    RefusedRecord,
    Window,
)
from plain_ledger import HOUR, Body, PlainBlob

HISTORIES = 120
"""In every run of the tests, some 10 s; more where `M365WATCH_HISTORIES` says so."""
STEPS = 50
FINISH_ROUNDS_MAX = 20


class Histories(Judged):
    """A history: whatever a collector asks of its ledger, in any order."""

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

    @rule(feed=feeds, back=st.integers(0, 20), hours=st.integers(0, 400))
    @breakable
    def take_back(self, feed: Feed, back: int, hours: int) -> None:
        """A clock was ahead, and is right now: what it wrote of the future is not believed."""
        now = self.now - back * HOUR
        since = START - hours * HOUR
        taken = self.call(self.ledger.take_back, feed, since=since, now=now)
        assert taken == self.plain.take_back(feed, since=since, now=now)
        unlisted = sum((end - at for (of, at), end in self.plain.gaps.items() if of == feed), timedelta(0))
        told_s = sum(row.unlisted_s for row in self.ledger.feed_progress() if row.feed == feed)
        assert told_s == unlisted.total_seconds()

    @rule(feed=feeds, name=st.sampled_from("ab"))
    @breakable
    def remember(self, feed: Feed, name: str) -> None:
        """The daily listing is over, and somebody has learned something."""
        self.call(self.ledger.commit_relisting, feed, at=self.now)
        self.plain.relisted[feed] = self.now
        self.call(self.ledger.remember, name, str(self.now))
        self.plain.memory[name] = str(self.now)

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

    def empty_lane(self, name: str) -> None:
        lane = self.lanes[name]
        while lane.waiting:
            self.write(name, refuses=False)
            self.commit(name, cleans=True)
        while lane.empty:
            self.commit_what_is_not_for_it(name)


@guarantee(1)
@pytest.mark.slow
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
