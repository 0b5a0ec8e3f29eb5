"""The few functions of Arrow's that writing a batch needs, called by their names.

`pyarrow.compute` makes a documented Python function of each of some 300 when it is imported, which takes
18 ms of a start. What these functions call, and with what, it has from the module that is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow._compute import CastOptions, SetLookupOptions, call_function

Values = TypeVar("Values", pa.Array, pa.ChunkedArray)


def cast(values: Values, kind: pa.DataType) -> Values:
    """The values as `kind`.

    Raises: pa.ArrowInvalid: one of them cannot be.
    """
    return call_function("cast", [values], CastOptions.safe(kind))


def told_apart(values: pa.Array) -> tuple[list[Any], pa.Array]:
    """Each different value once, and of each value where it stands among these."""
    found: pa.DictionaryArray = call_function("dictionary_encode", [values])
    return found.dictionary.to_pylist(), found.indices


def told_apart_together(columns: Sequence[pa.Array]) -> tuple[list[tuple[Any, ...]], pa.Array]:
    """Each different set of the columns' values once, and of each row where its set stands among these."""
    sets: list[tuple[Any, ...]] = [()]
    rows = pa.array([], pa.int32())
    for column in columns:
        values, places = told_apart(column)
        values.append(None)
        places = cast(call_function("coalesce", [places, pa.scalar(len(values) - 1, pa.int32())]), pa.int64())
        if len(sets) > 1:
            above = call_function("multiply", [cast(rows, pa.int64()), pa.scalar(len(values), pa.int64())])
            places = call_function("add", [above, places])
        numbers, rows = told_apart(places)
        sets = [(*sets[number // len(values)], values[number % len(values)]) for number in numbers]
    return sets, rows


def places_of(values: pa.Array, value: int) -> list[int]:
    """Where the value stands."""
    is_it = call_function("equal", [values, pa.scalar(value, values.type)])
    found: list[int] = call_function("indices_nonzero", [is_it]).to_pylist()
    return found


def take(values: pa.Array, places: pa.Array) -> pa.Array:
    """The value at each of the places; null where the place is."""
    return call_function("take", [values, places])


def coalesce(values: pa.Array, others: pa.Array) -> pa.Array:
    """Each of `values`, or that of `others` where it is null."""
    return call_function("coalesce", [values, others])


def run_end_decode(runs: pa.RunEndEncodedArray) -> pa.Array:
    """Each value as often as its run is long."""
    return call_function("run_end_decode", [runs])


def unique(values: pa.ChunkedArray) -> list[Any]:
    """Each different value once, in the order of their first places."""
    found: list[Any] = call_function("unique", [values]).to_pylist()
    return found


def keep_equal(rows: pa.Table, name: str, value: pa.Scalar) -> pa.Table:
    """The rows whose column `name` has `value`."""
    return call_function("filter", [rows, call_function("equal", [rows[name], value])])


def keep_odd(values: pa.Array) -> pa.Array:
    """Every other one of the values, from the second one on."""
    bits = pa.py_buffer(b"\xaa" * (len(values) // 8 + 1))
    mask = pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])
    return call_function("filter", [values, mask])


def drop_listed(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The rows whose column `name` has none of `values`."""
    listed = call_function("is_in", [rows[name]], SetLookupOptions(values))
    return call_function("filter", [rows, call_function("invert", [listed])])


def bounds_of(values: pa.ChunkedArray) -> tuple[Any, Any] | None:
    """The least and the greatest value, times without their zone; None where all are null."""
    if pa.types.is_timestamp(values.type):
        # Python's own zone of each would be looked for anew, in a library that is not there.
        values = cast(values, pa.timestamp(values.type.unit))
    found = call_function("min_max", [values]).as_py()
    return None if found["min"] is None else (found["min"], found["max"])
