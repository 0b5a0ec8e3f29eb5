"""What a lake holds, for a ledger that does not know: its records, read back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from m365watch.lake.schema import AUDIT

ROWS_PER_PIECE = 2_048
RECORD_COLUMNS = ["tenant_id", "raw", "raw_bytes"]
"""What tells a record and whose it is."""


def list_records(directory: Path, *, since: datetime) -> Iterator[tuple[str, list[bytes]]]:
    """Tenants and records, in pieces, of every file of table `audit` with rows received after `since`.

    Raises: any of WRITE_FAILURES.
    """
    table = DeltaTable(directory / AUDIT)
    for path in _recent_files(table, since):
        with pq.ParquetFile(directory / AUDIT / path, memory_map=True) as source:
            for rows in source.iter_batches(batch_size=ROWS_PER_PIECE, columns=RECORD_COLUMNS):
                yield from by_tenant(rows)


def _recent_files(table: DeltaTable, since: datetime) -> list[str]:
    """The files that may have such rows; of one without statistics nobody knows."""
    actions = pa.table(table.get_add_actions(flatten=True))
    newest = actions["max.received_at"].to_pylist() if "max.received_at" in actions.column_names else None
    paths = [str(path) for path in actions["path"].to_pylist()]
    if newest is None:
        return paths
    return [path for path, at in zip(paths, newest, strict=True) if at is None or _aware(at, since) >= since]


def _aware(at: datetime, like: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=like.tzinfo)


def by_tenant(rows: pa.RecordBatch | pa.Table) -> Iterator[tuple[str, list[bytes]]]:
    """The records of rows with the `RECORD_COLUMNS`, tenant by tenant."""
    # As bytes: on a bad disk a text may be none.
    tenants, raws, odd = (rows[name].cast(pa.binary()).to_pylist() for name in RECORD_COLUMNS)
    records = [raw if exact is None else exact for raw, exact in zip(raws, odd, strict=True)]
    for tenant, pairs in groupby(zip(tenants, records, strict=True), key=lambda pair: pair[0]):
        yield (tenant or b"").decode("utf-8", "replace"), [record for _, record in pairs]
