"""Which rows of a table are one person's, and what has to be read to tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m365watch.lake.delta.table_files import ROWS_PER_CHUNK
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.person_matching import Person
from m365watch.lake.schema import ALERT_TABLE, AUDIT_TABLE, NOTICE_TABLE, TableShape

_WORDS = ("entities", "grouped_by", "explanation", "next_steps", "notes", "reason")
"""Columns of an alert that repeat values of records, or what somebody wrote of it."""
_COLUMNS = {
    AUDIT_TABLE.name: ("created_at", "received_at", "devo_table", "raw"),
    NOTICE_TABLE.name: ("time", "msg"),
    ALERT_TABLE.name: ("first_seen_at", "last_seen_at", *_WORDS),
}
_RECEIVED = {
    AUDIT_TABLE.name: "received_at",
    NOTICE_TABLE.name: "time",
    ALERT_TABLE.name: "first_seen_at",
}


def tables_to_search(*, anywhere: bool) -> tuple[TableShape, ...]:
    """Where a person may stand; notices have no fields that name one."""
    return (AUDIT_TABLE, ALERT_TABLE, NOTICE_TABLE) if anywhere else (AUDIT_TABLE, ALERT_TABLE)


def search_chunks(path: Path, shape: TableShape, *, besides: Iterable[str] = ()) -> Iterator[pa.Table]:
    """The columns that a search needs, and those `besides`, in chunks of at most `ROWS_PER_CHUNK` rows."""
    names = [*_COLUMNS[shape.name], *besides]
    schema = pa.schema([shape.file_schema.field(name) for name in names])
    with pq.ParquetFile(path, memory_map=True) as source:
        for rows in source.iter_batches(ROWS_PER_CHUNK, columns=names, use_threads=False):
            yield pa.Table.from_batches([rows]).select(names).cast(schema)


def received(rows: pa.Table, shape: TableShape) -> pa.ChunkedArray:
    """Since when each row can have been there."""
    return rows[_RECEIVED[shape.name]]


def person_marks(rows: pa.Table, shape: TableShape, person: Person, asked: Asked) -> pa.BooleanArray:
    """Which rows are to go."""
    if shape is AUDIT_TABLE:
        marks = person.marks(rows["raw"])
        first = last = pc.coalesce(rows["created_at"], rows["received_at"])
    else:
        texts = _texts_of(rows, shape)
        marks = pa.array([person.is_mentioned(text) for text in texts], pa.bool_())
        names = ("first_seen_at", "last_seen_at") if shape is ALERT_TABLE else ("time", "time")
        first, last = (rows[name] for name in names)
    if asked.start is not None:
        marks = pc.and_(marks, pc.greater_equal(last, pa.scalar(asked.start, last.type)))
    if asked.end is not None:
        marks = pc.and_(marks, pc.less(first, pa.scalar(asked.end, first.type)))
    return pc.fill_null(marks, fill_value=False)


def _texts_of(rows: pa.Table, shape: TableShape) -> Iterator[str]:
    """All that a row says; one that names the person in any way is to go."""
    names = _WORDS if shape is ALERT_TABLE else ("msg",)
    for row in rows.select(names).to_pylist():
        yield "\n".join(_flat(list(row.values())))


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _flat(one)


def tables_of(rows: pa.Table, marks: pa.BooleanArray, shape: TableShape) -> Iterator[tuple[str, int]]:
    """How many of the marked rows are of each of Devo's tables."""
    if shape.devo_table:
        count = marks.true_count if isinstance(marks, pa.BooleanArray) else pc.sum(marks).as_py() or 0
        if count:
            yield shape.devo_table, count
        return
    for one in rows["devo_table"].filter(marks).value_counts().to_pylist():
        yield one["values"] or "", one["counts"]
