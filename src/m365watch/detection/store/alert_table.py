"""Table `alerts`: one row for each alert as it stands; a change replaces the files of its days.

Readers of every engine see the newest state without having to know how one comes to be. A day's alerts are
few next to its records, so that its file is written anew with each change. Whoever does it holds the lake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.common.errors import LakeHeld, LakeUnusable, OutputUnavailable
from m365watch.common.timestamps import instant_of_ms, ms_of
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.lake_outbox import Due
from m365watch.lake.delta.missing_commits import BEFORE
from m365watch.lake.delta.table_files import (
    hold_lake,
    list_files,
    open_table,
    read_chunks,
    replace_files,
    require_whole,
)
from m365watch.lake.delta.table_schema import ForeignTable, lacks_columns, shape_of
from m365watch.lake.delta.transaction_log import set_torn_aside, sync_found
from m365watch.lake.schema import ALERT_TABLE, ALERTS_PREFIX, PARTITION, TableShape
from m365watch.lake.store import table_store
from m365watch.lake.writer.arrow_compute import drop_listed
from m365watch.lake.writer.parquet_files import FRESH, Part, write_part
from m365watch.lake.writer.table_writer import (
    WRITE_FAILURES,
    OpenTable,
    file_prefix,
    plain_reason,
)

ROWS_READ_MAX = 100_000
"""Alerts that are read back at most, the latest ones."""


def alerts_app_id(name: str, writer: str) -> str:
    """Under which the table keeps the number of the last change that a collector brought."""
    return f"m365watch/alerts/{name}/{writer}"


class AlertShelf:
    """Table `alerts` of the lake below `directory`, written by one collector among others."""

    def __init__(
        self, name: str, directory: Path, *, writer: str, clock: Clock, takes: Callable[[str], bool]
    ) -> None:
        """Nothing is opened yet; `takes` says which tenants' alerts belong there."""
        self.name = name
        self.takes = takes
        self._directory = directory
        self._store = table_store(directory, ALERT_TABLE.name)
        self._app_id = alerts_app_id(name, writer)
        self._clock = clock

    def last_number(self) -> int:
        """The number of the last change of this collector's that is on the disk there; 0 for none.

        Raises: OutputUnavailable.
        """
        try:
            set_torn_aside(self._store)
            table = open_table(self._directory, ALERT_TABLE)
            if table is None:
                return 0
            sync_found(self._store, table.version())
            return table.transaction_version(self._app_id) or 0
        except (*WRITE_FAILURES, LakeUnusable) as failure:
            raise self._unavailable(failure) from failure

    def put(self, due: Sequence[Due], *, number: int) -> bool:
        """Replace the rows of what is due by what it is now, in one durable commit.

        False where somebody else holds the lake. Raises: OutputUnavailable: nothing has changed.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Of the batches nothing is asked: this is of `alerts` alone.
            with hold_lake(self._directory, clock=self._clock, acknowledged=None):
                return self._put(due, number)
        except LakeHeld:
            return False
        except (*WRITE_FAILURES, LakeUnusable, ForeignTable) as failure:
            raise self._unavailable(failure) from failure

    def _put(self, due: Sequence[Due], number: int) -> bool:
        table = open_table(self._directory, ALERT_TABLE)
        if table is None:
            if all(one.kept is None for one in due):
                return True
            table = self._opened()
        elif lacks_columns(table, ALERT_TABLE):
            table = self._opened()
        require_whole(self._store, table.version())
        before = table.transaction_version(self._app_id) or 0
        by_day = {
            day: list(some)
            for day, some in groupby(sorted(due, key=lambda one: one.day), lambda one: one.day)
        }
        old = [file for file in list_files(table) if file.day in by_day]
        new = []
        for day, some in by_day.items():
            paths = [self._store.path(file.path) for file in old if file.day == day]
            part = self._write(day, some, paths, table)
            new += [] if part is None else [part]
        if not old and not new:
            return True
        return replace_files(
            table,
            self._store,
            old=old,
            new=new,
            changes_rows=True,
            clock=self._clock,
            numbers={self._app_id: number, self._app_id + BEFORE: before},
        )

    def _opened(self) -> DeltaTable:
        """The table, made if need be, with all columns."""
        return OpenTable(self._directory, ALERT_TABLE).store.open()

    def _write(self, day: date, due: Sequence[Due], old: Sequence[Path], table: DeltaTable) -> Part | None:
        """The day's file with what is due in its place; None where no row is left of the day."""
        rows = [_row_of(one.kept) for one in due if one.kept is not None]
        ids = pa.array([one.alert_id for one in due], pa.string())
        shape = shape_of(table, ALERT_TABLE)
        kept = (chunk for path in old for chunk in _without(path, ids, shape))
        fresh = [pa.Table.from_pylist(rows, schema=shape.schema)] if rows else []
        first = next(kept, None)
        if first is None and not fresh:
            return None
        return write_part(
            self._store,
            shape,
            day=day,
            # No committed file has had this name: the version that it is written onto has only one successor.
            name=f"{ALERTS_PREFIX}{file_prefix(self._app_id)}-{table.version():012}",
            chunks=_chained(first, kept, fresh),
            compression=FRESH,
        )

    def _unavailable(self, failure: BaseException) -> OutputUnavailable:
        if isinstance(failure, ForeignTable | LakeUnusable):
            reason = f"{failure.what}; {failure.fix}"
        else:
            reason = plain_reason(failure)
        return OutputUnavailable(f"the alerts wait for the lake: {reason}", where=str(self._directory))


def _without(path: Path, ids: pa.Array, shape: TableShape) -> Iterator[pa.Table]:
    for rows in read_chunks(path, shape):
        kept = drop_listed(rows, "id", ids)
        if kept.num_rows:
            yield kept


def _chained(
    first: pa.Table | None, rest: Iterator[pa.Table], last: Sequence[pa.Table]
) -> Iterator[pa.Table]:
    if first is not None:
        yield first
    yield from rest
    yield from last


def _row_of(kept: KeptAlert) -> dict[str, Any]:
    """The row of an alert."""
    alert = kept.alert
    return {
        PARTITION: alert.first_seen_at.date(),
        "first_seen_at": alert.first_seen_at,
        "last_seen_at": alert.last_seen_at,
        "tenant_id": alert.tenant,
        "id": alert.id,
        "detection": alert.detection,
        "rule_id": alert.rule_id,
        "title": alert.title,
        "severity": str(alert.severity),
        "severity_rank": alert.severity.rank,
        "state": str(kept.state),
        "reason": kept.reason or None,
        "changed_by": kept.changed_by or None,
        "changed_at": instant_of_ms(kept.changed_at_ms) if kept.changed_at_ms else None,
        "user_id": alert.entity("user") or None,
        "client_ip": alert.entity("address") or None,
        "entities": [{"kind": kind, "value": value} for kind, value in alert.entities],
        "records": alert.count,
        "evidence": alert.evidence,
        "explanation": alert.explanation,
        "techniques": alert.techniques,
        "tactics": alert.tactics,
        "next_steps": alert.check,
        "containment": alert.contain,
        "risk": alert.risk,
        "notes": alert.notes,
        "grouped_by": alert.group,
        "formerly": alert.formerly,
    }


def read_alerts(lake: Path, *, since: datetime) -> Iterator[KeptAlert]:
    """The alerts of the lake that were still going on at `since`, the latest `ROWS_READ_MAX`.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    import pyarrow.dataset as ds

    table = open_table(lake, ALERT_TABLE)
    if table is None:
        return
    # Delta's own file system calls back into Python from Arrow's threads, at exit too.
    files = pyarrow.fs.SubTreeFileSystem(str(lake / ALERT_TABLE.name), pyarrow.fs.LocalFileSystem())
    rows = table.to_pyarrow_dataset(filesystem=files, schema=ALERT_TABLE.schema)
    found = rows.to_table(filter=ds.field("last_seen_at") >= since).sort_by(
        [("last_seen_at", "descending"), ("id", "ascending")]
    )
    for chunk in found.slice(0, ROWS_READ_MAX).to_batches(max_chunksize=1_000):
        yield from map(_kept_of, chunk.to_pylist())


def _kept_of(row: Mapping[str, Any]) -> KeptAlert:
    alert = Alert(
        id=AlertId(row["id"]),
        rule_id=row["rule_id"],
        title=row["title"],
        severity=Severity(row["severity"]),
        tenant=row["tenant_id"],
        group=tuple(row["grouped_by"]),
        entities=tuple((one["kind"], one["value"]) for one in row["entities"]),
        first_at_ms=ms_of(row["first_seen_at"]),
        last_at_ms=ms_of(row["last_seen_at"]),
        count=row["records"],
        evidence=tuple(row["evidence"]),
        explanation=row["explanation"],
        detection=row["detection"],
        techniques=tuple(row["techniques"]),
        tactics=tuple(row["tactics"]),
        check=tuple(row["next_steps"]),
        contain=tuple(row["containment"]),
        risk=row["risk"],
        notes=tuple(row["notes"]),
        formerly=tuple(AlertId(one) for one in row["formerly"]),
    )
    changed_at = row["changed_at"]
    return KeptAlert(
        alert,
        shown=True,
        state=AlertState(row["state"]),
        reason=row["reason"] or "",
        changed_by=row["changed_by"] or "",
        changed_at_ms=0 if changed_at is None else ms_of(changed_at),
    )
