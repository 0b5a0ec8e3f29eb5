"""The data files that table `audit` names and that are not there, or have another size."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from m365watch.common.missing_files import NAMED_MAX, MissingFiles
from m365watch.lake.delta.table_files import LakeFile, list_files
from m365watch.lake.schema import AUDIT
from m365watch.lake.store import Store, table_store


def find_missing(lake: Path, *, now: datetime) -> MissingFiles | None:
    """What is missing; looks at the name and the size of each file, and into none.

    Raises: any of WRITE_FAILURES.
    """
    return sum_up(lake, list_missing(lake), now=now)


def list_missing(lake: Path) -> list[LakeFile]:
    """The files themselves. Raises: any of WRITE_FAILURES."""
    store = table_store(lake, AUDIT)
    missing = [file for file in list_files(store.open()) if not _is_there(store, file)]
    # An erasure takes a file from the disk as soon as the table does not name it: what counts is still named.
    return sorted(set(missing) & set(list_files(store.open()))) if missing else []


def _is_there(store: Store, file: LakeFile) -> bool:
    try:
        return store.path(file.path).stat().st_size == file.size_bytes
    except (FileNotFoundError, NotADirectoryError):
        return False


def sum_up(lake: Path, missing: Sequence[LakeFile], *, now: datetime) -> MissingFiles | None:
    """The loss that these files of the table are; None without any. Raises: any of WRITE_FAILURES."""
    if not missing:
        return None
    paths = {one.path for one in missing}
    rows = [row for row in _figures(table_store(lake, AUDIT).open()) if row["path"] in paths]
    starts, ends = [row["min.received_at"] for row in rows], [row["max.received_at"] for row in rows]
    return MissingFiles(
        files=len(missing),
        records=sum(row["num_records"] or 0 for row in rows),
        first_day=min(one.day for one in missing),
        last_day=max(one.day for one in missing),
        names=tuple(f"{AUDIT}/{one.path}" for one in missing[:NAMED_MAX]),
        found_at=now,
        received_from=None if None in starts else min(map(_aware, starts)),
        received_to=None if None in ends else max(map(_aware, ends)),
    )


def _figures(table: DeltaTable) -> list[dict[str, Any]]:
    names = ("path", "num_records", "min.received_at", "max.received_at")
    actions = pa.table(table.get_add_actions(flatten=True))
    blank = [None] * actions.num_rows
    columns = [actions[name].to_pylist() if name in actions.column_names else blank for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
