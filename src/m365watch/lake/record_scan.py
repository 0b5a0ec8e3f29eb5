"""The lake's records of a period, in the order of time, in slices that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import (
    ContentType,
    Feed,
    FeedContent,
    GraphContent,
    TenantId,
    Window,
    content_named,
)
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.lake.delta.table_files import is_made, list_files, no_lake
from m365watch.lake.maintenance.integrity_check import cause_of
from m365watch.lake.schema import AUDIT, PARTITION
from m365watch.lake.store import table_store
from m365watch.lake.writer.table_writer import WRITE_FAILURES

SLICE_RECORDS = 10_000
SLICE_BYTES_MAX = 24 * 1024 * 1024
"""A slice with more records or bytes than these is cut, down to a single instant."""
_READ_AHEAD = {"batch_size": 4096, "batch_readahead": 1, "fragment_readahead": 1}
_DAY = timedelta(days=1)


class Clock(StrEnum):
    """Which of a record's times counts."""

    CREATED = "created"
    """CreationTime."""
    RECEIVED = "received"
    """When the collector had fetched it."""
    COUNTED = "counted"
    """CreationTime, or where that is no time, when it had been fetched: what detections go by."""


_COLUMNS = {
    Clock.CREATED: ("created_at",),
    Clock.RECEIVED: ("received_at",),
    Clock.COUNTED: ("created_at", "received_at"),
}
"""The times of a record by clock, the first of which that it has counts."""


@dataclass(frozen=True, slots=True)
class ScanAsked:
    """Which records are meant."""

    period: Window
    """It may be longer than 24 h."""
    clock: Clock = Clock.CREATED
    content_types: frozenset[FeedContent] = frozenset({*ContentType, *GraphContent})
    table: str | None = None
    """A Devo table's full name, or the last part of one."""
    tenant_ids: frozenset[TenantId] | None = None
    """Only these; None: all that the lake has, also those that nobody collects any more."""


class TooMany(Exception):
    """The span has more than one slice may hold."""


class LakeScan:
    """The lake below `directory`, read only; works while a collector writes to it."""

    def __init__(self, directory: Path, asked: ScanAsked) -> None:
        """Nothing is opened yet."""
        self._directory = directory
        self._asked = asked
        self._columns = _COLUMNS[asked.clock]
        self._table: DeltaTable | None = None
        self._rows: ds.Dataset | None = None

    def feeds(self) -> list[Feed]:
        """The feeds that have records in the period, sorted.

        Raises: LakeMissing; OutputUnavailable: the lake cannot be read.
        """
        pairs: set[tuple[str, str]] = set()
        for span in self._days(self._asked.period):
            for chunk in self._chunks(span, ["tenant_id", "content_type"]):
                pairs.update(zip(*(chunk[name].to_pylist() for name in chunk.schema.names), strict=True))
        return [Feed(TenantId(tenant), content_named(content_type)) for tenant, content_type in sorted(pairs)]

    def tables(self) -> list[str]:
        """Every table that the lake has records of, by its full name, whatever the period; reads all of it.

        Raises: LakeMissing; OutputUnavailable: the lake cannot be read.
        """
        return self._different("devo_table")

    def tenants(self) -> list[str]:
        """Every tenant that the lake has records of, whatever the period; reads all of it.

        Raises: LakeMissing; OutputUnavailable: the lake cannot be read.
        """
        return self._different("tenant_id")

    def _different(self, column: str) -> list[str]:
        found: set[str] = set()
        for chunk in self._matching(None, [column]):
            found.update(pc.unique(chunk[column]).to_pylist())
        return sorted(found)

    def days_present(self) -> frozenset[date]:
        """The days of creation of which the lake has files. Raises: LakeMissing; OutputUnavailable."""
        try:
            self._dataset()
            return frozenset(file.day for file in list_files(self._table)) if self._table else frozenset()
        except WRITE_FAILURES as failure:
            what = f"the lake cannot be read ({cause_of(self._directory, failure).what})"
            raise OutputUnavailable(what, where=str(self._directory)) from failure

    def spans(self, start: datetime, *, end: datetime | None = None) -> Iterator[Window]:
        """The spans from `start` to `end` (left out, the period's) that have records.

        Each has about `SLICE_RECORDS` of them.
        """
        for day in self._days(Window(start, end or self._asked.period.end)):
            times = [self._times(chunk).cast(pa.int64()) for chunk in self._chunks(day, self._columns)]
            instants = pa.concat_arrays([pa.array([], pa.int64()), *times])
            in_order = instants.take(pc.sort_indices(instants))
            marks = [in_order[place].as_py() for place in range(0, len(in_order), SLICE_RECORDS)]
            bounds = sorted({*marks, us_of(day.end)}) if marks else []
            for first, after in pairwise(bounds):
                yield Window(instant_of_us(first), instant_of_us(after))

    def read(self, span: Window, *, bounded: bool) -> dict[Feed, list[bytes]]:
        """The records of `span` by feed, each feed's in the order of time and Id, byte for byte.

        Raises: TooMany, if `bounded` and it holds more than a slice may; OutputUnavailable.
        """
        found: dict[Feed, list[bytes]] = {}
        for (feed, _), records in self.read_apart(span, bounded=bounded).items():
            found.setdefault(feed, []).extend(records)
        return found

    def read_apart(self, span: Window, *, bounded: bool) -> dict[tuple[Feed, datetime | None], list[bytes]]:
        """The same; on the clock that counts, what tells no time apart by when it had been fetched."""
        names = list(dict.fromkeys(["tenant_id", "content_type", *self._columns, "id", "raw", "raw_bytes"]))
        chunks, size_bytes = [], 0
        for chunk in self._chunks(span, names):
            chunks.append(chunk)
            size_bytes += chunk.nbytes
            if bounded and size_bytes > SLICE_BYTES_MAX and span.end - span.start > timedelta(seconds=1):
                raise TooMany
        if not chunks:
            return {}
        rows = pa.Table.from_batches(chunks)
        rows = rows.append_column("time", self._times(rows))
        rows = rows.sort_by([("time", "ascending"), ("id", "ascending")])
        found: dict[tuple[Feed, datetime | None], list[bytes]] = {}
        columns = [rows[name].to_pylist() for name in ("tenant_id", "content_type", "raw", "raw_bytes")]
        for tenant_id, content_type, raw, odd, fetched_at in zip(*columns, self._untimed(rows), strict=True):
            feed = Feed(TenantId(tenant_id), content_named(content_type))
            record = odd if odd is not None else raw.encode()
            found.setdefault((feed, fetched_at), []).append(record)
        return found

    def _times(self, rows: pa.RecordBatch | pa.Table) -> Any:
        """The time of each row by the clock that is asked for."""
        return pc.coalesce(*(rows[name] for name in self._columns))

    def _untimed(self, rows: pa.Table) -> list[datetime | None]:
        """When each row that tells no time itself had been fetched; None for those that do."""
        if self._asked.clock is not Clock.COUNTED or not rows["created_at"].null_count:
            return [None] * len(rows)
        nothing = pa.scalar(None, rows.schema.field("received_at").type)
        return cast(
            "list[datetime | None]",
            pc.if_else(pc.is_null(rows["created_at"]), rows["received_at"], nothing).to_pylist(),
        )

    def earliest(self, *, claimed_max: timedelta) -> dict[TenantId, datetime]:
        """When each tenant's first record was created, whatever the period; reads two columns of all.

        A record that was created more than `claimed_max` before it was received does not count.
        Raises: LakeMissing; OutputUnavailable: the lake cannot be read.
        """
        found: dict[TenantId, datetime] = {}
        for chunk in self._matching(None, ["tenant_id", "created_at", "received_at"]):
            rows = pa.Table.from_batches([chunk])
            oldest = pc.subtract(rows["received_at"], pa.scalar(claimed_max))
            rows = rows.filter(pc.greater_equal(rows["created_at"], oldest))
            for row in rows.group_by("tenant_id").aggregate([("created_at", "min")]).to_pylist():
                tenant, first = TenantId(row["tenant_id"]), row["created_at_min"]
                found[tenant] = min(first, found.get(tenant, first))
        return found

    def _days(self, period: Window) -> Iterator[Window]:
        start = period.start
        while start < period.end:
            midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
            yield Window(start, min(midnight, period.end))
            start = midnight

    def _chunks(self, span: Window, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._matching(self._condition(span), names)

    def _matching(self, condition: pc.Expression | None, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            rows = self._dataset().scanner(columns=list(names), filter=condition, **_READ_AHEAD)
            for chunk in rows.to_batches():
                if chunk.num_rows:
                    yield chunk
        except WRITE_FAILURES as failure:
            what = f"the lake cannot be read ({cause_of(self._directory, failure).what})"
            raise OutputUnavailable(what, where=str(self._directory)) from failure

    def _condition(self, span: Window) -> pc.Expression:
        asked = self._asked
        condition, *others = (
            (pc.field(name) >= span.start) & (pc.field(name) < span.end) for name in self._columns
        )
        for other in others:
            condition |= pc.field(self._columns[0]).is_null() & other
        if asked.clock is not Clock.RECEIVED:
            condition &= (pc.field(PARTITION) >= span.start.date()) & (pc.field(PARTITION) <= span.end.date())
        types = pa.array(sorted(map(str, asked.content_types)), pa.string())
        condition &= pc.field("content_type").isin(types)
        if asked.tenant_ids is not None:
            condition &= pc.field("tenant_id").isin(pa.array(sorted(asked.tenant_ids), pa.string()))
        if asked.table is not None:
            names = pc.field("devo_table")
            condition &= (names == asked.table) | pc.ends_with(names, f".{asked.table}")
        return condition

    def _dataset(self) -> ds.Dataset:
        """The table as it is now: files that upkeep has merged meanwhile are read under their new names."""
        store = table_store(self._directory, AUDIT)
        if not is_made(store):
            raise no_lake(self._directory)
        if self._table is None or self._rows is None:
            self._table = store.open()
            self._rows = self._table.to_pyarrow_dataset()
            return self._rows
        seen = self._table.version()
        self._table.update_incremental()
        if self._table.version() != seen:
            # To list the files of a large table takes longer than to read one slice of it.
            self._rows = self._table.to_pyarrow_dataset()
        return self._rows
