"""A batch becomes Arrow columns. Nothing here raises over a record's contents."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, chain
from typing import Any, cast

import pyarrow as pa
from msgspec.structs import astuple

from m365watch.common.model import Batch, BatchPart, WideHeader
from m365watch.lake.schema import AUDIT_COLUMNS, AUDIT_SCHEMA, INSTANT, PARTITION, Column
from m365watch.lake.writer.arrow_compute import cast as cast_values
from m365watch.lake.writer.arrow_compute import (
    coalesce,
    keep_odd,
    places_of,
    run_end_decode,
    take,
    told_apart,
    told_apart_together,
)
from m365watch.records.derived_values import Texts
from m365watch.records.headers import object_of
from m365watch.records.split import Views, body_of

_INT32_MAX = 2**31 - 1
_NUMBERS = {"RecordType", "UserType"}
_ROW = pa.struct(
    [pa.field(name, pa.int32() if name in _NUMBERS else pa.string()) for name in WideHeader.__struct_fields__]
)
"""A header as most are."""
ROWS_AT_ONCE = 1_000
"""Headers that become rows together: so many the processor's nearest cache has room for."""
LIFTED_RECORDS = 2_000
"""Of some 3 MB: below 1 MB Python joins bytes without letting go of the interpreter."""


def tabulate(batch: Batch) -> pa.Table:
    """The batch as rows of `audit`, in its own order; one row per record, whatever it holds."""
    parts = [part for part in batch.parts if part.records]
    headers = cast("list[WideHeader]", list(chain.from_iterable(part.headers for part in parts)))
    columns = _feed_columns(parts) | header_columns(headers)
    _read_whole(columns, parts)
    columns["raw"], columns["raw_bytes"] = _raw_columns(parts)
    columns[PARTITION] = _days(columns["created_at"], columns["received_at"])
    return pa.table([columns[name] for name in AUDIT_SCHEMA.names], schema=AUDIT_SCHEMA)


def _days(created: pa.Array, received: pa.Array) -> pa.Array:
    """The day of each record: its own, or that of its fetching where it tells no time."""
    return cast_values(coalesce(created, received) if created.null_count else created, pa.date32())


def _feed_columns(parts: Sequence[BatchPart]) -> dict[str, pa.Array]:
    counts = [len(part.records) for part in parts]
    received_at = [part.received_at.astimezone(UTC).replace(tzinfo=None) for part in parts]
    return {
        # Arrow looks for a library of time zones that is not there at each time with a zone.
        "received_at": cast_values(_repeated(received_at, counts, pa.timestamp("us")), INSTANT),
        "tenant_id": _repeated([part.feed.tenant_id for part in parts], counts, pa.string()),
        "content_type": _repeated([part.feed.content_type.value for part in parts], counts, pa.string()),
        "devo_table": _texts(list(chain.from_iterable(part.tables for part in parts))),
    }


def _repeated(values: Sequence[object], counts: Sequence[int], kind: pa.DataType) -> pa.Array:
    """Each of `values` as often as `counts` says; no Python value is made for a record."""
    ends = pa.array(list(accumulate(counts)), pa.int32())
    return run_end_decode(pa.RunEndEncodedArray.from_arrays(ends, pa.array(values, kind)))


def header_columns(headers: Sequence[WideHeader]) -> dict[str, pa.Array]:
    """The columns that are made of headers, by name."""
    try:
        return _columns_of(_fields_of(headers))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return header_columns_apart(headers)


def header_columns_apart(headers: Sequence[WideHeader]) -> dict[str, pa.Array]:
    """The same column by column, whatever values there are among them; takes half as long again."""
    return _columns_of(
        {
            name: (_numbers if name in _NUMBERS else _texts)([getattr(header, name) for header in headers])
            for name in WideHeader.__struct_fields__
        }
    )


def _columns_of(fields: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    return {column.name: _made(column, fields) for column in AUDIT_COLUMNS if column.fields}


def _made(column: Column, fields: Mapping[str, pa.Array]) -> pa.Array:
    """What a column's fields make of it."""
    sources = [fields[name] for name in column.fields]
    if column.type == INSTANT:
        return _instants_of(*sources)
    if column.meaning is not None:
        return _first_of(column.meaning, *sources)
    if column.made is not None:
        return _together(column.made, column.fields, sources)
    [source] = sources
    return source


def _fields_of(headers: Sequence[WideHeader]) -> dict[str, pa.Array]:
    """Each field of the headers as a column; a header is gone through once, while the processor has it.

    Raises: pa.ArrowException, UnicodeEncodeError, OverflowError: some value is not of the usual kind.
    """
    rows = [
        pa.RecordBatch.from_struct_array(pa.array(list(map(astuple, headers[at : at + ROWS_AT_ONCE])), _ROW))
        for at in range(0, len(headers), ROWS_AT_ONCE)
    ]
    together = pa.Table.from_batches(rows, schema=pa.schema(list(_ROW))).combine_chunks()
    return {name: _one_chunk(together[name]) for name in together.column_names}


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _instants_of(texts: pa.Array) -> pa.Array:
    """What `read_instants` makes of the times."""
    try:
        return cast_values(cast_values(texts, pa.timestamp("us")), INSTANT)
    except pa.ArrowInvalid:
        return read_instants(texts.to_pylist())


def _first_of(meaning: Callable[[str], str | None], *columns: pa.Array) -> pa.Array:
    """In each row what the first of the columns' values means that means something; each is asked once."""
    found = pa.nulls(len(columns[0]), pa.string())
    for column in columns:
        if column.null_count < len(column) and found.null_count:
            values, places = told_apart(column)
            found = coalesce(found, take(pa.array(map(meaning, values), pa.string()), places))
    return found


def _together(made: Callable[[Texts], str], names: Sequence[str], columns: Sequence[pa.Array]) -> pa.Array:
    """In each row what the columns' values make together; each set of values is asked once."""
    sets, places = told_apart_together(columns)
    asked = [dict(zip(names, values, strict=True)) for values in sets]
    return take(pa.array([made(partial(_text_at, one)) for one in asked], pa.string()), places)


def _read_whole(columns: dict[str, pa.Array], parts: Sequence[BatchPart]) -> None:
    """Fill in what, of some record types, the whole record tells."""
    for column in AUDIT_COLUMNS:
        for number, read in column.of_types.items():
            if places := places_of(columns["record_type"], number):
                records = _records_in(parts)
                values = columns[column.name].to_pylist()
                for place in places:
                    values[place] = read(partial(_text_at, object_of(records[place]))) or values[place]
                columns[column.name] = _texts(values)


def _text_at(record: Mapping[str, Any], path: str) -> str:
    """The text at a path of at most two names; the second may lie in JSON that the first has as its text."""
    name, _, inner = path.partition(".")
    value = record.get(name)
    if inner:
        value = object_of(value) if isinstance(value, str) else value
        value = value.get(inner) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _texts(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        # A tolerant decoder lets half a surrogate pair through, which no UTF-8 column can hold.
        return pa.array([value and value.encode(errors="replace").decode() for value in values], pa.string())


def _numbers(values: list[int | str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.int32())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_whole_number(value) for value in values], pa.int32())


def _whole_number(value: int | str | None) -> int | None:
    try:
        number = int(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) <= _INT32_MAX else None


def read_instants(values: list[str | None]) -> pa.Array:
    """The times in `values`; the usual form, without a zone, is read in one go."""
    try:
        local = cast_values(pa.array(values, pa.string()), pa.timestamp("us"))
        return cast_values(local, INSTANT)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return pa.array([_instant(value) for value in values], INSTANT)


def _instant(value: str | None) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(value) if value is not None else None
        if parsed is None or parsed.tzinfo is not None:
            return parsed and parsed.astimezone(UTC)
        return parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _raw_columns(parts: Sequence[BatchPart]) -> tuple[pa.Array | pa.ChunkedArray, pa.Array]:
    if any(isinstance(part.records, Views) for part in parts):
        raw: pa.Array | pa.ChunkedArray = pa.chunked_array(
            [_lifted(lot) for lot in _lots_of(parts)], pa.string()
        )
    else:
        raw = _joined(_records_in(parts))
    try:
        raw.validate(full=True)
    except pa.ArrowInvalid:
        records = list(map(bytes, _records_in(parts)))
        texts = [record.decode(errors="replace") for record in records]
        odd = [None if _is_utf8(record) else record for record in records]
        return pa.array(texts, pa.string()), pa.array(odd, pa.binary())
    return raw, pa.nulls(len(raw), pa.binary())


def _records_in(parts: Sequence[BatchPart]) -> list[bytes]:
    return list(chain.from_iterable(part.records for part in parts))


def _joined(records: list[bytes]) -> pa.Array:
    """The records as text, not yet known to be UTF-8.

    One join is one copy; a builder grows by copying, and took 1.7 microseconds a record for it.
    """
    ends = array("i", accumulate(map(len, records), initial=0))
    return pa.Array.from_buffers(
        pa.string(), len(records), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(records))]
    )


def _lots_of(parts: Sequence[BatchPart]) -> Iterator[list[BatchPart]]:
    """The parts in lots of about `LIFTED_RECORDS`: what is lifted at once is copied twice."""
    lot: list[BatchPart] = []
    count = 0
    for part in parts:
        lot.append(part)
        count += len(part.records)
        if count >= LIFTED_RECORDS:
            yield lot
            lot, count = [], 0
    if lot:
        yield lot


def _lifted(parts: Sequence[BatchPart]) -> pa.Array:
    """The records as text, lifted out of the bodies that they lie in; not yet known to be UTF-8.

    Arrow copies the bytes, and the thread that splits blobs has the interpreter meanwhile.
    """
    records = _records_in(parts)
    # What lies between two of them is a piece as well: a comma, or the end of one array and the next's start.
    pieces = [1] * (2 * len(records) + 1)
    pieces[1::2] = map(len, records)
    for count in accumulate(len(part.records) for part in parts[:-1]):
        pieces[2 * count] = 2
    ends = array("i", accumulate(pieces, initial=0))
    text = b"".join([body_of(part.records) for part in parts])
    if ends[-1] != len(text):
        # More lies between them than that: blanks, which no record has.
        return _joined(records)
    return keep_odd(
        pa.Array.from_buffers(pa.string(), len(pieces), [None, pa.py_buffer(ends), pa.py_buffer(text)])
    )


def _is_utf8(record: bytes) -> bool:
    try:
        record.decode()
    except UnicodeDecodeError:
        return False
    return True
