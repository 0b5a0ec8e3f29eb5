"""Files of a lake that are gone, cut short or damaged, as DuckDB says it."""

from __future__ import annotations

import duckdb

_OF_FILES = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.SerializationException,
    duckdb.InternalException,
)


def is_of_a_file(error: duckdb.Error) -> bool:
    """Whether the failure comes of a file that a query of ours reads, and not of the query.

    What it says is not for anybody's eyes: it may quote a record.
    """
    return isinstance(error, _OF_FILES) or type(error) is duckdb.Error
