"""The listed spans of a feed: what a window adds to them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import xxhash

from m365watch.common.errors import CollectorError, LedgerUnusable, NeedsOperator
from m365watch.common.model import BatchPart, BlobKey, BlobRef, Feed, KnownBlob, Receipt, Window
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.ledger import queries as reading
from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.feed_table import KnownFeeds
from m365watch.ledger.identity_store import IdentityStore, Routes, pack
from m365watch.ledger.ledger_database import Durability, directory_unusable, failures_named, open_ledger
from m365watch.ledger.limits import HORIZON, IN_EARNEST, LedgerBounds
from m365watch.ledger.lock import LOCK_FILE, LedgerLock
from m365watch.ledger.open_batches import Happening, Lot, OpenBatches
from m365watch.ledger.reconciliation_store import HeldStore
from m365watch.ledger.redelivery import Carrier, PendingAgain, carriers_of, make_pending
from m365watch.ledger.schema import IS_OPEN
from m365watch.registry.ports import OpenedBatch, OutputPosition, WaitingBlob
from m365watch.storage.database import Database

_DROP = f"""
DELETE FROM blob WHERE key IN
(SELECT key FROM blob WHERE created_us < ? AND finished_s IS NOT NULL AND (missing IS NULL OR key < ?)
 AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.blob = blob.key)
 AND key NOT IN (SELECT json_extract(part.value, '$[0]') FROM batch, json_each(batch.parts) AS part
                 WHERE {IS_OPEN}) LIMIT ?)
"""  # noqa: S608 - our own words
_HAS_LACKING = """
SELECT EXISTS (SELECT 1 FROM blob WHERE created_us < ? AND finished_s IS NOT NULL AND missing IS NOT NULL)
"""
_OLDEST = "SELECT key FROM blob WHERE created_us >= ? OR finished_s IS NULL ORDER BY key LIMIT 1"


def forget_blobs(
    connection: Database, *, before_us: int, known_from: Callable[[], BlobKey], count_max: int
) -> int:
    """Forget at most `count_max` blobs that ended and were created before then; how many. The caller commits.

    A blob of which something is in quarantine stays: it is the name of what is kept. So does one in a batch
    that some output has not acknowledged, of which that may yet refuse a record; and one that is
    lost to some outputs and at others, until `known_from` says that its records are forgotten as well: it
    alone tells that a record of it which comes again is no duplicate everywhere.
    """
    has_lacking = connection.execute(_HAS_LACKING, (before_us,)).fetchone()[0]
    lacking_before = known_from() if has_lacking else 0
    return connection.execute(_DROP, (before_us, lacking_before, count_max)).rowcount


def oldest_needed(connection: Database, *, before_us: int) -> BlobKey | None:
    """The oldest blob that may be listed again, or waits; None where there is none."""
    row = connection.execute(_OLDEST, (before_us,)).fetchone()
    return None if row is None else BlobKey(row[0])


# The service creates content at milliseconds, so that the microseconds between two are free.
_KNOW_REST = (
    "INSERT INTO blob (feed, content_id, created_us, expires_us)"
    " SELECT feed, content_id, (SELECT max(created_us) + 1 FROM blob AS other WHERE other.feed = blob.feed"
    " AND other.content_id = blob.content_id AND other.created_us / 1000 = blob.created_us / 1000),"
    " expires_us FROM blob WHERE key = ?"
)


def know_rests(connection: Database, blobs: Iterable[BlobKey]) -> None:
    """Let what each of `blobs` has grown by be fetched for every output; the caller commits."""
    connection.executemany(_KNOW_REST, [(blob,) for blob in blobs])


AHEAD_MAX = timedelta(minutes=5)
"""Coverage further in the future than this was made by a clock that was wrong; it is not believed."""


def cover(connection: Database, feed: int, window: Window, *, at: datetime) -> None:
    """Know `window` of the feed with the number `feed` as listed, and when; the caller commits.

    What of it comes after `at` is not: nobody can list the future.
    """
    start_s, end_s = int(window.start.timestamp()), int(min(window.end, at).timestamp())
    spans = [*connection.execute("SELECT start_s, end_s FROM coverage WHERE feed = ?", (feed,))]
    if start_s < end_s:
        spans.append((start_s, end_s))
    oldest = int((at - HORIZON).timestamp())
    connection.execute("DELETE FROM coverage WHERE feed = ?", (feed,))
    connection.executemany(
        "INSERT INTO coverage VALUES (?, ?, ?)",
        [(feed, max(start, oldest), end) for start, end in reading.merged(spans) if end > oldest],
    )
    connection.execute("UPDATE feed SET listed_at = ? WHERE id = ?", (at.timestamp(), feed))


def add_gap(connection: Database, feed: int, span: Window, *, at: datetime) -> int:
    """Count `span` as never listed and lost; how many seconds of it are news. The caller commits."""
    start_s, end_s = int(span.start.timestamp()), int(span.end.timestamp())
    row = connection.execute(
        "SELECT end_s FROM gap WHERE feed = ? AND start_s = ?", (feed, start_s)
    ).fetchone()
    new_s = end_s - (row[0] if row else start_s)
    if new_s > 0:
        values = (feed, start_s, end_s, at.timestamp())
        connection.execute("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?)", values)
    return max(0, new_s)


def take_back(connection: Database, feed: int, *, since: datetime, now: datetime) -> int:
    """Undo what a clock that was ahead left; how many seconds no longer count as lost. The caller commits.

    Nothing is lost that can be listed, from `since` on. Where coverage reaches beyond `now`, what of it lies
    before may be as wrong: the 7 days are due to be listed again.
    """
    now_s, since_s = int(now.timestamp()), int(since.timestamp())
    gaps = "SELECT total(end_s - max(start_s, ?)) FROM gap WHERE feed = ? AND end_s > ?"
    back_s = int(connection.execute(gaps, (since_s, feed, since_s)).fetchone()[0])
    if back_s:
        connection.execute("DELETE FROM gap WHERE feed = ? AND start_s >= ?", (feed, since_s))
        connection.execute("UPDATE gap SET end_s = ? WHERE feed = ? AND end_s > ?", (since_s, feed, since_s))
    (end_s,) = connection.execute("SELECT max(end_s) FROM coverage WHERE feed = ?", (feed,)).fetchone()
    if end_s is not None and end_s > now_s + AHEAD_MAX.total_seconds():
        connection.execute("DELETE FROM coverage WHERE feed = ? AND start_s >= ?", (feed, now_s))
        connection.execute("UPDATE coverage SET end_s = ? WHERE feed = ? AND end_s > ?", (now_s, feed, now_s))
        connection.execute("UPDATE feed SET relisted_at = NULL WHERE id = ?", (feed,))
    return back_s


LEDGER_FILE = "ledger.sqlite"
_DAY_US, _MICROSECOND = 86_400_000_000, timedelta(microseconds=1)
_DELIVERED, _QUARANTINED, _LOST = 1, 2, 3
_COUNT_FINISHED = {
    _QUARANTINED: "UPDATE feed SET blobs_quarantined = blobs_quarantined + 1"
    " WHERE id = (SELECT feed FROM blob WHERE key = ?)",
    _LOST: "UPDATE feed SET blobs_lost = blobs_lost + 1 WHERE id = (SELECT feed FROM blob WHERE key = ?)",
}


class SqliteLedger:
    """Implements `ledger.port.Ledger`; holds the lock of its directory until `close`."""

    def __init__(
        self,
        directory: Path,
        *,
        outputs: frozenset[str],
        now: datetime,
        front_filter: FilterSizes | None = None,
        bounds: LedgerBounds = IN_EARNEST,
        before_opening: Callable[[Path], None] | None = None,
        lock: LedgerLock | None = None,
    ) -> None:
        """Open or create the ledger in `directory` for a run with `outputs`.

        `before_opening` is called with the ledger's path once the lock is held; `lock`, of the directory, may
        be held already.
        Raises: LedgerHeld; LedgerUnusable (unwritable, corrupt, written by a newer version);
        LedgerUnavailable (disk full).
        """
        self._outputs = outputs
        self.routes = Routes(outputs)
        self._bounds = bounds
        self.path = directory / LEDGER_FILE
        self._lock = lock or LedgerLock(directory / LOCK_FILE)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire()
        except OSError as error:
            raise directory_unusable(directory, error) from error
        try:
            if before_opening is not None:
                before_opening(self.path)
            self._open(now, front_filter)
        except BaseException:
            self._lock.release()
            raise

    @failures_named
    def _open(self, now: datetime, front_filter: FilterSizes | None) -> None:
        self._connection = open_ledger(self.path)
        with self._transaction():
            self._fill_meta()
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'identity_seed'").fetchone()
        self.identity_seed = int(row[0])
        self._identities = IdentityStore(self._connection, front_filter, self._bounds)
        self.durability = Durability(self._connection, self.path)
        self.held = HeldStore(self._connection, self.path, seed=self.identity_seed, bounds=self._bounds)
        self._feeds = KnownFeeds(self._connection, now)
        self._batches = OpenBatches(self._connection, self._feeds.of, self.routes)

    def _fill_meta(self) -> None:
        seed = str(secrets.randbits(64))
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity_seed', ?)", (seed,))

    # The four verbs that move progress.

    @failures_named
    def commit_listing(
        self, feed: Feed, window: Window, blobs: Sequence[BlobRef], *, complete: bool, at: datetime
    ) -> int:
        """Know `blobs`; with `complete` (the last page), know `window` as listed. How many were new."""
        number = self._feeds.number(feed)
        with self._transaction():
            before, listed_s = self._connection.total_changes, at.timestamp()
            self._connection.executemany(
                "INSERT OR IGNORE INTO blob (feed, content_id, created_us, expires_us, next_try_s)"
                " VALUES (?, ?, ?, ?, ?)",
                [(number, b.content_id, us_of(b.created_at), us_of(b.expires_at), listed_s) for b in blobs],
            )
            new = self._connection.total_changes - before
            if complete:
                cover(self._connection, number, window, at=at)
            # Read before the end of the transaction: a verb that fails must not have happened.
            listed = reading.coverage(self._connection, number) if complete else []
        progress = self._feeds.progress(feed)
        progress.blobs_waiting += new
        if complete:
            progress.listed_at, progress.watermark = at, reading.watermark(listed, at)
        return new

    @failures_named
    def commit_delivered(self, number: int, output: str, receipt: Receipt | None, *, at: datetime) -> None:
        """Batch `number` is durable at `output`; blobs that every output has become delivered."""
        step = self._batches.step(Happening.ACKNOWLEDGED, number, output)
        finished = step.finished
        refused: list[Feed] = []
        with self._transaction():
            if receipt is not None:
                self._connection.execute(
                    "INSERT OR REPLACE INTO output VALUES (?, ?, ?)", (output, number, receipt.position)
                )
                refused = [
                    self._feeds.of(one.blob)
                    for one in receipt.refused
                    if self._keep(one.blob, one.record, one.reason, output=output, at=at)
                ]
            self._batches.write(step)
            self._deliver(finished, at=at)
        self._batches.remember(step)
        for lot in finished:
            self._feeds.count_delivered(lot)
        for feed in refused:
            self._feeds.progress(feed).records_quarantined += 1

    @failures_named
    def commit_queued(self, number: int, output: str) -> None:
        """Batch `number` is durable in the queue on disk of `output`."""
        self._take_step(Happening.QUEUED, number, output)

    @failures_named
    def leave_out(self, number: int, output: str) -> None:
        """`output` cannot take batch `number`: its blobs are owed to it until `recall`."""
        self._take_step(Happening.LEFT_OUT, number, output)

    def _take_step(self, happening: Happening, number: int, output: str) -> None:
        step = self._batches.step(happening, number, output)
        with self._transaction():
            self._batches.write(step)
        self._batches.remember(step)

    @failures_named
    def recall(self) -> bool:
        """What outputs were left out of is due again; whether there is any."""
        with self._transaction():
            return self._batches.recall()

    def _deliver(self, lots: Sequence[Lot], *, at: datetime) -> None:
        self._connection.executemany(
            "UPDATE blob SET state = ?, missing = NULL, queued = NULL, records = ?, duplicates = ?,"
            " finished_s = ? WHERE key = ?",
            [(_DELIVERED, lot.records, lot.duplicates, at.timestamp(), lot.blob) for lot in lots],
        )
        self._connection.executemany(
            "UPDATE feed SET blobs_delivered = blobs_delivered + 1,"
            " records_delivered = records_delivered + ?, records_duplicate = records_duplicate + ?"
            " WHERE id = ?",
            [(lot.records, lot.duplicates, self._feeds.number(lot.feed)) for lot in lots],
        )

    @failures_named
    def quarantine(
        self,
        blob: BlobKey,
        body: bytes,
        reason: str,
        *,
        output: str = "",
        whole: bool = False,
        at: datetime,
    ) -> None:
        """Keep what cannot go on, by name and verbatim; the same body of one blob is kept once."""
        progress = self._feeds.progress(self._feeds.of(blob))
        with self._transaction():
            kept = self._keep(blob, body, reason, output=output, at=at)
            if whole:
                self._finish(blob, _QUARANTINED, reason, at=at)
        progress.records_quarantined += kept
        if whole:
            self._batches.forget(blob)
            progress.blobs_waiting -= 1
            progress.blobs_quarantined += 1

    def _keep(self, blob: BlobKey, body: bytes, reason: str, *, output: str, at: datetime) -> bool:
        kept = self._connection.execute(
            "INSERT OR IGNORE INTO quarantine (blob, output, digest, reason, body, quarantined_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (blob, output, xxhash.xxh3_128_digest(body), reason, body, at.timestamp()),
        ).rowcount
        self._connection.execute(
            "UPDATE feed SET records_quarantined = records_quarantined + ?"
            " WHERE id = (SELECT feed FROM blob WHERE key = ?)",
            (kept, blob),
        )
        return bool(kept)

    @failures_named
    def commit_lost(self, blob: BlobKey, reason: str, *, at: datetime) -> None:
        """The service no longer serves the blob: its final state is lost, counted in plain sight."""
        progress = self._feeds.progress(self._feeds.of(blob))
        with self._transaction():
            self._finish(blob, _LOST, reason, at=at)
        self._batches.forget(blob)
        progress.blobs_waiting -= 1
        progress.blobs_lost += 1

    def _finish(self, blob: BlobKey, state: int, reason: str, *, at: datetime) -> None:
        self._connection.execute(
            "UPDATE blob SET state = ?, last_error = ?, finished_s = ? WHERE key = ? AND finished_s IS NULL",
            (state, reason, at.timestamp(), blob),
        )
        self._batches.write_lacking(blob)
        self._connection.execute(_COUNT_FINISHED[state], (blob,))

    @failures_named
    def commit_gap(self, feed: Feed, span: Window, *, at: datetime) -> bool:
        """`span` was never listed and cannot be listed any more; whether that, or some of it, was news."""
        number = self._feeds.number(feed)
        with self._transaction():
            new_s = add_gap(self._connection, number, span, at=at)
        self._feeds.progress(feed).unlisted_s += new_s
        return new_s > 0

    @failures_named
    def take_back(self, feed: Feed, *, since: datetime, now: datetime) -> timedelta:
        """Believe no coverage of the future, and count nothing as lost that is listed from `since` on."""
        number, progress = self._feeds.number(feed), self._feeds.progress(feed)
        with self._transaction():
            back_s = take_back(self._connection, number, since=since, now=now)
            listed = reading.coverage(self._connection, number)
        progress.unlisted_s, progress.watermark = progress.unlisted_s - back_s, reading.watermark(listed, now)
        return timedelta(seconds=back_s)

    # What goes before a delivery.

    @failures_named
    def open_batch(self, parts: Sequence[BatchPart], outputs: frozenset[str]) -> OpenedBatch:
        """Number a batch, find its duplicates and make its composition durable."""
        lacking = partial(self._batches.lacking, outputs=outputs)
        findings = self._identities.find(parts, lacking, routes=self.routes, outputs=outputs)
        held = self.held.leave_out(parts, findings, outputs)
        rows, packed = pack(parts, findings, outputs=outputs)
        with self._transaction():
            number = self._connection.execute(
                "INSERT INTO batch (parts, identities, waiting_for) VALUES (?, ?, ?)",
                (rows, packed, json.dumps(sorted(outputs))),
            ).lastrowid
            if number is None:  # pragma: no cover - an INSERT always gives a row id
                raise LedgerUnusable("no number for a batch", fix="report this")
            self._identities.moved.write(number, parts, findings.moved)
            self._batches.write_rest(parts, findings)
            know_rests(self._connection, [parts[place].blob for place in findings.grown])
        for place in findings.grown:
            self._feeds.progress(parts[place].feed).blobs_waiting += 1
        for part, new in zip(parts, findings.new, strict=True):
            self._identities.remember(part.blob, new)
        self._identities.moved.remember(parts, findings.moved)
        self._batches.add(number, parts, findings, outputs)
        return OpenedBatch(number, findings.duplicates, held, findings.outputs, bool(findings.grown))

    @failures_named
    def postpone(self, blob: BlobKey, *, attempts: int, next_try_at: datetime, error: str) -> None:
        """The blob waits; it stays known and in nobody's way."""
        with self._transaction():
            self._connection.execute(
                "UPDATE blob SET attempts = ?, next_try_s = ?, last_error = ? WHERE key = ? AND state = 0",
                (attempts, next_try_at.timestamp(), error, blob),
            )

    # What is asked.

    @failures_named
    def settle_outputs(
        self, durable: Mapping[str, int], *, queued: Mapping[str, Collection[int]], at: datetime
    ) -> dict[str, list[int]]:
        """At start: what outputs hold beyond the last commit counts; what nobody holds is undone."""
        for number, waiting_for in self._batches.load():
            for output in waiting_for:
                # A number at or below the last committed one means that the batch was not for it.
                if self.output_position(output).last_batch < number <= durable.get(output, 0):
                    self.commit_delivered(number, output, Receipt(), at=at)
        with self._transaction():
            kept = self._batches.settle(queued, outputs=self._outputs)
            # All are due, whatever the clock said when they were put off.
            self._connection.execute("UPDATE blob SET next_try_s = 0 WHERE state = 0 AND finished_s IS NULL")
        self._forget_outputs(at=at)
        self._identities.load()
        return kept

    def _forget_outputs(self, *, at: datetime) -> None:
        """What only outputs lack that the configuration no longer has, and no queue, is delivered."""
        with self._transaction():
            done = self._batches.drop_debts(outputs=self._outputs)
            self._deliver(done, at=at)
        for lot in done:
            self._feeds.count_delivered(lot)

    @failures_named
    def output_position(self, output: str) -> OutputPosition:
        """The last receipt of `output`."""
        row = self._connection.execute(
            "SELECT last_batch, position FROM output WHERE name = ?", (output,)
        ).fetchone()
        return OutputPosition(*row) if row else OutputPosition()

    @failures_named
    def newest_batch(self) -> int:
        """The highest number that `open_batch` has ever given; 0 before the first."""
        return reading.newest_batch(self._connection)

    @failures_named
    def coverage(self, feed: Feed) -> list[Window]:
        """The listed spans of contentCreated, disjoint, oldest first; they may exceed 24 h."""
        return reading.coverage(self._connection, self._feeds.number(feed))

    @failures_named
    def relisted_at(self, feed: Feed) -> datetime | None:
        """When the whole 7 days were last listed in full; None if never."""
        row = self._connection.execute(
            "SELECT relisted_at FROM feed WHERE id = ?", (self._feeds.number(feed),)
        ).fetchone()
        return reading.instant(row[0])

    @failures_named
    def commit_relisting(self, feed: Feed, *, at: datetime) -> None:
        """The whole 7 days have been listed again."""
        with self._transaction():
            self._connection.execute(
                "UPDATE feed SET relisted_at = ? WHERE id = ?", (at.timestamp(), self._feeds.number(feed))
            )

    @failures_named
    def due_blobs(
        self, feed: Feed, *, now: datetime, count_max: int, besides: frozenset[BlobKey]
    ) -> list[KnownBlob]:
        """Known blobs whose time has come, newest first, without those in `besides`."""
        rows = self._connection.execute(
            "SELECT key, content_id, created_us, expires_us, attempts, missing, queued, next_try_s FROM blob"
            " WHERE feed = ? AND state = 0 AND finished_s IS NULL AND (attempts = 0 OR next_try_s <= ?)"
            " ORDER BY created_us DESC LIMIT ?",
            (self._feeds.number(feed), now.timestamp(), count_max + len(besides)),
        )
        found = [
            KnownBlob(
                key=key,
                ref=BlobRef(feed, content_id, instant_of_us(created), instant_of_us(expires)),
                attempts=attempts,
                missing_outputs=self._lacking(feed, missing, queued),
                listed_at=reading.instant_s(next_try) if next_try and not attempts else None,
            )
            for key, content_id, created, expires, attempts, missing, queued, next_try in rows
            if key not in besides
        ]
        return found[:count_max]

    def _lacking(self, feed: Feed, missing: str | None, queued: str | None) -> frozenset[str]:
        """The outputs that a blob is to be fetched for."""
        lacking = self._outputs & set(json.loads(missing)) if missing else self.routes.of(feed.tenant_id)
        return lacking - set(json.loads(queued)) if queued else lacking

    @failures_named
    def waiting_blobs(self) -> list[WaitingBlob]:
        """The blobs that wait after at least one failed round of tries."""
        return reading.waiting_blobs(self._connection)

    @failures_named
    def note_error(self, feed: Feed, error: CollectorError | None, *, at: datetime) -> None:
        """Keep the feed's last error for `status`; None says that it has passed."""
        number, progress = self._feeds.number(feed), self._feeds.progress(feed)
        progress.last_error, progress.last_error_at, progress.error_code = None, None, None
        if error is not None:
            progress.last_error, progress.last_error_at, progress.error_code = str(error), at, error.code
        progress.fix = (error and error.fix) or None
        progress.needs_operator = isinstance(error, NeedsOperator)
        with self._transaction():
            self._connection.execute(
                "UPDATE feed SET last_error = ?, last_error_at = ?, fix = ?, needs_operator = ?,"
                " error_code = ? WHERE id = ?",
                (
                    progress.last_error,
                    None if error is None else at.timestamp(),
                    progress.fix,
                    progress.needs_operator,
                    progress.error_code,
                    number,
                ),
            )

    @failures_named
    def note_output_error(self, output: str, error: CollectorError | None, *, at: datetime) -> None:
        """Keep the output's last error for `status`; None says that it has passed."""
        with self._transaction():
            self._connection.execute("DELETE FROM output_error WHERE name = ?", (output,))
            if error is not None:
                text = f"{error.where}: {error.what}" if error.where else error.what
                row = (output, text, at.timestamp(), error.fix or None, isinstance(error, NeedsOperator))
                self._connection.execute("INSERT INTO output_error VALUES (?, ?, ?, ?, ?)", row)

    def feed_progress(self) -> list[FeedProgress]:
        """Every feed's figures, as committed."""
        return self._feeds.list_progress()

    @failures_named
    def output_progress(self) -> list[OutputProgress]:
        """The outputs that have an error, or lack blobs which were fetched."""
        return reading.output_progress(self._connection)

    @failures_named
    def remember(self, name: str, body: str) -> None:
        """Keep what a part of the collector has learned, as JSON, in place of what `name` had before."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (name, body))

    @failures_named
    def remembered(self, name: str) -> str | None:
        """What `remember` was last given for `name`; None if nothing was."""
        return reading.remembered(self._connection, name)

    @failures_named
    def forget_memory(self, name: str) -> None:
        """Keep nothing for `name` any more."""
        with self._transaction():
            self._connection.execute("DELETE FROM memory WHERE name = ?", (name,))

    @failures_named
    def carriers_of(
        self,
        output: str,
        *,
        received: tuple[datetime | None, datetime | None],
        is_kept: Callable[[str], bool],
        now: datetime,
    ) -> list[Carrier]:
        """The blobs whose records `output` may have received in that span."""
        return carriers_of(self._connection, output, self.routes, received=received, is_kept=is_kept, now=now)

    @failures_named
    def make_pending(self, output: str, carriers: list[Carrier]) -> PendingAgain:
        """`output` lacks records that these blobs brought; what it has all the same, `held` knows."""
        with self._transaction():
            return make_pending(self._connection, self.held, output, carriers)

    @failures_named
    def merge_identities(self) -> bool:
        """Do a bounded piece of upkeep on the store of identities; whether there is more to do."""
        with self._transaction():
            merged = self._identities.merge_step()
        if merged:
            self._identities.merge_step_committed()
        return merged

    @failures_named
    def evict(self, *, now: datetime) -> bool:
        """Forget, in one bounded step, what is older than the horizon; whether more remains."""
        newest = self._connection.execute("SELECT max(created_us) FROM blob").fetchone()[0]
        # A clock that is ahead forgets nothing that the service may still list, nor what outputs hold of it.
        now_us = min(us_of(now), (newest or 0) + _DAY_US)
        before_us = now_us - self._bounds.horizon // _MICROSECOND
        count_max = self._bounds.blobs_forgotten_max
        with self._transaction():
            gone = forget_blobs(
                self._connection,
                before_us=before_us,
                known_from=self._identities.known_from,
                count_max=count_max,
            )
            oldest = oldest_needed(self._connection, before_us=before_us)
            more = self._identities.evict(oldest) if oldest is not None else False
            more |= self.held.evict_step(instant_of_us(now_us))
        return more or gone == count_max

    @failures_named
    def shorten_wal(self) -> None:
        """Bring what is committed from SQLite's log into the file itself, which `close` would have to do."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Release the ledger; all of it is durable."""
        self._connection.close()
        self._lock.release()

    def _transaction(self) -> AbstractContextManager[None]:
        return self._connection.transaction()
