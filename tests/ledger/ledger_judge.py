"""What holds between two steps of a history, and at its end."""

from __future__ import annotations

from collections import Counter

from hypothesis.stateful import invariant

from ledger_runs import (
    FEEDS,
    OUTPUTS,
    Runs,
    record_of,
)
from m365watch.common.model import BlobRef, BlobState, Feed
from m365watch.ledger.quarantine import BlobsAsked, named_blobs
from m365watch.ledger.queries import feed_progress
from plain_ledger import PlainBlob

FINAL = {BlobState.DELIVERED, BlobState.QUARANTINED, BlobState.LOST}


class Judged(Runs):
    """Runs whose ledger has to say what the plain one says."""

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

    def can_end(self, blob: PlainBlob) -> bool:
        """Not while it waits in the queue of an output that this run does not have."""
        return not blob.queued - self.names

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
