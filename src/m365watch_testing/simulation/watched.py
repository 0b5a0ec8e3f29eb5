"""The ledger and the bound on memory as the simulation has them: the collector's own, with a witness."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from random import Random

from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import Batch, BatchPart, BlobKey, Feed, KnownBlob, Receipt
from m365watch.ledger.ledger_database import DamageGuard
from m365watch.ledger.reconciliation_store import MEMORY, Stage
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.registry.ports import OpenedBatch
from m365watch.sources.management_api.in_flight_limit import BytesInFlight
from m365watch_testing.simulation.faults import Fault
from m365watch_testing.simulation.judge import NO_BLOBS
from m365watch_testing.simulation.ways import Way
from m365watch_testing.simulation.world import BlobName, SimulatedClock, World

_PAGES_MAX = 1 << 30
_WITNESS = f"""
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE forgotten (tenant_id, content_type, content_id, created_us, state);
CREATE TEMP TRIGGER note_forgotten AFTER DELETE ON blob
WHEN old.finished_s IS NOT NULL AND old.content_id NOT LIKE '{NO_BLOBS}'
BEGIN
    INSERT INTO forgotten SELECT tenant_id, content_type, old.content_id, old.created_us, old.state
    FROM feed WHERE id = old.feed;
END;
"""  # noqa: S608 - our own names
"""What was final and is deleted, in a table of the connection's own: to read all blobs before and after each
step of forgetting took a tenth of a simulation's time."""


class UnhurriedLedger(SqliteLedger):
    """The ledger without its waiting for the disk: here the process dies, and never the machine.

    It says to the world what has become durable, after it has.
    """

    def __init__(self, directory: Path, *, outputs: frozenset[str], now: datetime, world: World) -> None:
        plan = world.plan
        self._world = world
        super().__init__(
            directory,
            outputs=outputs,
            now=now,
            front_filter=plan.filter_sizes,
            bounds=plan.bounds,
            before_opening=DamageGuard(SimulatedClock(world)),
        )
        self._is_reckoned = False
        self._held = world.held
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA busy_timeout = 0")
        self._connection.executescript(_WITNESS)

    def _fill_meta(self) -> None:
        # Of the seed, so that identities are the same in every process. Each new ledger has its own secret.
        seed = f"{self._world.plan.seed}/{self._world.life}"
        secret = str(Random(seed).getrandbits(64))
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity_seed', ?)", (secret,))

    def close(self) -> None:
        """As the collector's own, after the world has heard what the store of identities has done."""
        if not self._is_reckoned:
            self._is_reckoned = True
            self._reckon()
        super().close()

    def _reckon(self) -> None:
        store, world = self._identities, self._world
        figures = store.figures
        world.merges += figures.merges
        taken = {
            Way.MERGED_TWICE: world.merges > 1,
            Way.MERGE_CUT: store.is_merging,
            Way.FOUND_IN_TABLE: figures.found,
            Way.FILTER_SPARED: figures.spared,
            Way.FILTER_ERRED: figures.false_hits,
            Way.FILTER_ANEW: store.filters_made > 1,
            Way.IDENTITIES_FORGOTTEN: figures.forgotten,
            Way.LEFT_OUT_AS_HELD: self.held.left_out,
            Way.MOVED: self._has_rows("moved"),
            Way.ADOPTION_CUT: f'"{Stage.BEGUN}"' in (self.remembered(MEMORY) or ""),
        }
        world.ways.update(way for way, is_taken in taken.items() if is_taken)

    def _has_rows(self, table: str) -> bool:
        return bool(self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0])  # noqa: S608 - our own names

    def merge_identities(self) -> bool:
        """As the collector's own."""
        goes_on = super().merge_identities()
        if self._identities.is_merging:
            self._world.ways.add(Way.MERGE_IN_STEPS)
            self._world.on_merging()
        return goes_on

    def evict(self, *, now: datetime) -> bool:
        """As the collector's own."""
        held = self._has_rows("held")
        self._connection.execute("DELETE FROM forgotten")
        more = super().evict(now=now)
        rows = self._connection.execute(
            "SELECT tenant_id, content_type, content_id, created_us, state FROM forgotten"
        )
        forgotten: dict[BlobName, int] = {
            (tenant, kind, content, created): state for tenant, kind, content, created, state in rows
        }
        self._world.forgotten.update(forgotten)
        if forgotten:
            self._world.ways.add(Way.BLOBS_FORGOTTEN)
        if held and not self._has_rows("held"):
            self._world.ways.add(Way.HELD_FORGOTTEN)
        return more

    def fill_disk(self, *, full: bool) -> None:
        """Let the file grow no further, or again."""
        pages = self._connection.execute("PRAGMA page_count").fetchone()[0] if full else _PAGES_MAX
        self._connection.execute(f"PRAGMA max_page_count = {int(pages)}")

    def _transaction(self) -> AbstractContextManager[None]:
        return self._felt(super()._transaction())

    @contextmanager
    def _felt(self, transaction: AbstractContextManager[None]) -> Iterator[None]:
        try:
            with transaction:
                yield
        except sqlite3.OperationalError as error:
            self._world.strike(Fault.LEDGER_FULL if "full" in str(error) else Fault.LEDGER_LOCKED)
            raise

    def due_blobs(
        self, feed: Feed, *, now: datetime, count_max: int, besides: frozenset[BlobKey]
    ) -> list[KnownBlob]:
        """As the collector's own."""
        found = super().due_blobs(feed, now=now, count_max=count_max, besides=besides)
        self._held.names.update((one.key, one.ref.content_id) for one in found)
        return found

    def open_batch(self, parts: Sequence[BatchPart], outputs: frozenset[str]) -> OpenedBatch:
        """As the collector's own."""
        opened = super().open_batch(parts, outputs)
        if opened.has_rests:
            self._world.ways.add(Way.GROWN)
        self._held.open_batch(opened.number, [part.blob for part in parts], outputs)
        return opened

    def commit_delivered(self, number: int, output: str, receipt: Receipt | None, *, at: datetime) -> None:
        """As the collector's own."""
        super().commit_delivered(number, output, receipt, at=at)
        self._held.settle(number, output)

    def commit_queued(self, number: int, output: str) -> None:
        """As the collector's own."""
        super().commit_queued(number, output)
        self._held.settle(number, output)

    def leave_out(self, number: int, output: str) -> None:
        """As the collector's own."""
        super().leave_out(number, output)
        self._held.settle(number, output)

    def postpone(self, blob: BlobKey, *, attempts: int, next_try_at: datetime, error: str) -> None:
        """As the collector's own."""
        super().postpone(blob, attempts=attempts, next_try_at=next_try_at, error=error)
        self._held.let_go(blob)


class WatchedQueue(BatchQueue):
    """A queue whose disk may be full."""

    def __init__(
        self, world: World, directory: Path, *, output: str, bytes_max: int, wide_headers: bool
    ) -> None:
        super().__init__(directory, output=output, bytes_max=bytes_max, wide_headers=wide_headers)
        self._world = world

    def put(self, batch: Batch) -> bool:
        """As the collector's own."""
        if self._world.is_on(Fault.QUEUES_FULL):
            self._world.strike(Fault.QUEUES_FULL)
            raise OutputUnavailable(
                "its queue on disk cannot be written (No space left on device)", where=self._where
            )
        return super().put(batch)


class WatchedFlight(BytesInFlight):
    """Has the world count whenever a fetch may begin, and tells when more is given back than was held."""

    def __init__(self, bytes_max: int, world: World) -> None:
        super().__init__(bytes_max)
        self._world = world

    def _fits(self, size_bytes: int) -> bool:
        fits = super()._fits(size_bytes)
        if fits and not self._world.is_between_lives:
            self._world.held.begin(size_bytes)
        return fits

    def release(self, size_bytes: int) -> None:
        """As the collector's own."""
        super().release(size_bytes)
        if self._held < 0 and not self._world.is_between_lives:
            self._world.accuse("more bytes were given back than were in flight")

    def check_empty(self) -> None:
        """At rest nothing is in flight: what leaks would stop the collector one day."""
        if self._held:
            self._world.accuse(f"{self._held} bytes are still in flight at the end")
        if left := self._world.held.held_bytes:
            self._world.accuse(f"{left} bytes were served, and their blobs are neither final nor put off")
