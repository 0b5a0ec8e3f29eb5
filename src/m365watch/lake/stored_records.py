"""What a lake holds, for a ledger that does not know: its records, read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from m365watch.common.errors import LedgerUnavailable
from m365watch.common.model import Header, TenantId
from m365watch.lake.erasure.tombstones import ErasedRecords, read_erased
from m365watch.lake.schema import AUDIT, PARTITION
from m365watch.lake.store import table_store
from m365watch.lake.writer.record_columns import read_instants
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason
from m365watch.records.split import split_blob

_DAY = timedelta(days=1)


class LakeWitness:
    """The lake below `directory`, asked for records by what makes them the same.

    It is the lake as it was when it was first asked: what arrives later comes by way of the ledger of
    whoever asks, which remembers it. To list the files of a table anew takes longer than to ask them.
    """

    def __init__(self, directory: Path) -> None:
        """The table is opened when it is first asked; there may be none yet."""
        self._directory = directory
        self._rows: ds.Dataset | None = None
        self._erased: ErasedRecords | None = None
        self._is_open = False

    def places_known(
        self, tenant_id: TenantId, records: Sequence[bytes], headers: Sequence[Header]
    ) -> set[int]:
        """The places of those records that the lake has or had; of one without Id, if byte for byte.

        Had, and was told to erase. A record whose CreationTime is no time is looked for among these only.
        Raises: LedgerUnavailable: the lake cannot be read.
        """
        try:
            self._open()
            erased = self._erased.places(tenant_id, headers, records) if self._erased else set[int]()
            return erased | self._places_held(tenant_id, records, headers)
        except WRITE_FAILURES as failure:
            # Upkeep may have merged files away: the next try looks at the table as it is then.
            self._is_open = False
            what = f"the lake cannot be asked what it has ({plain_reason(failure)})"
            raise LedgerUnavailable(what, where=str(self._directory)) from failure

    def _open(self) -> None:
        if self._is_open:
            return
        try:
            self._rows = table_store(self._directory, AUDIT).open().to_pyarrow_dataset()
        except TableNotFoundError:
            self._rows = None
        # In this order: what is erased in between is marked by then.
        self._erased = read_erased(self._directory)
        self._is_open = True

    def _places_held(
        self, tenant_id: TenantId, records: Sequence[bytes], headers: Sequence[Header]
    ) -> set[int]:
        times = read_instants([header.CreationTime for header in headers])
        first, last = pc.min(times).as_py(), pc.max(times).as_py()
        if first is None or self._rows is None:
            return set()
        condition = (pc.field(PARTITION) >= first.date()) & (pc.field(PARTITION) <= last.date())
        condition &= (pc.field("created_at") >= first) & (pc.field("created_at") <= last)
        ids = pa.array(sorted({header.Id for header in headers if header.Id}), pa.string())
        condition &= (pc.field("tenant_id") == str(tenant_id)) & (
            pc.field("id").isin(ids) | pc.field("id").is_null()
        )
        known = _keys(self._rows, condition)
        return {place for place, header in enumerate(headers) if _key(header, records[place]) in known}


def _keys(table: ds.Dataset, condition: pc.Expression) -> set[tuple[object, ...]]:
    rows = table.scanner(columns=["raw", "raw_bytes"], filter=condition)
    keys: set[tuple[object, ...]] = set()
    for chunk in rows.to_batches():
        for raw, odd in zip(chunk["raw"].to_pylist(), chunk["raw_bytes"].to_pylist(), strict=True):
            record = odd if odd is not None else raw.encode()
            split = split_blob(b"[" + record + b"]", wide=False)
            keys.update(_key(header, record) for header in split.headers)
    return keys


def _key(header: Header, record: bytes) -> tuple[object, ...]:
    """What makes two records of one tenant the same; the bytes themselves where there is no Id."""
    if not header.Id:
        return (record,)
    return (header.Id, header.CreationTime or "", str(header.Operation), str(header.RecordType))


ROWS_PER_PIECE = 2_048
RECORD_COLUMNS = ["tenant_id", "raw", "raw_bytes"]
"""What tells a record and whose it is."""


def list_records(directory: Path, *, since: datetime) -> Iterator[tuple[str, list[bytes]]]:
    """Tenants and records, in pieces, of every file of table `audit` with rows received after `since`.

    Raises: any of WRITE_FAILURES.
    """
    store = table_store(directory, AUDIT)
    for path in _recent_files(store.open(), since):
        with pq.ParquetFile(store.path(path), memory_map=True) as source:
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
