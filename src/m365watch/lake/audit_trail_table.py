"""Table `board_trail`: who has seen and done what on the board, each line exactly once.

Like `collectors_out` it is a table of its own with commits of its own: whatever happens here, `audit` neither
sees nor counts it. A commit carries the number of its last line, so that none is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa

from m365watch.lake.delta.missing_commits import BEFORE
from m365watch.lake.schema import PARTITION, TRAIL_TABLE
from m365watch.lake.writer.parquet_files import FRESH, write_part
from m365watch.lake.writer.table_writer import OpenTable, file_prefix


class Deed(msgspec.Struct, frozen=True):
    """One line of the trail."""

    number: int
    """The time in microseconds, or the last number and 1 if that is more; older versions counted from 1."""
    time: datetime
    name: str
    role: str
    address: str
    session: str
    action: str
    status: int
    path: str
    query: str
    says: str

    @property
    def day(self) -> date:
        """The day that it belongs to."""
        return self.time.date()


class TrailWriter:
    """Table `board_trail` of a lake, open for appending by one process."""

    def __init__(self, directory: Path, *, app_id: str) -> None:
        """Open the table below the lake's `directory`; make it if it is not there.

        Raises: ForeignTable; any of WRITE_FAILURES.
        """
        self._app_id = app_id
        self._name = file_prefix(app_id)
        self._table = OpenTable(directory, TRAIL_TABLE)

    @property
    def last_number(self) -> int:
        """The number of the last line that is there; 0 for none."""
        return self._table.number_of(self._app_id)

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make the lines durable as one commit; those that are in already are left alone.

        Raises: any of WRITE_FAILURES: whether they got in, a new TrailWriter will tell.
        """
        before = self.last_number
        fresh = sorted((one for one in deeds if one.number > before), key=lambda one: one.day)
        if not fresh:
            return
        number = max(one.number for one in fresh)
        parts = [
            write_part(
                self._table.directory,
                TRAIL_TABLE,
                day=day,
                name=f"{self._name}-{number:012}",
                chunks=[_tabulated(list(some))],
                compression=FRESH,
            )
            for day, some in groupby(fresh, lambda one: one.day)
        ]
        self._table.commit(parts, numbers={self._app_id: number, self._app_id + BEFORE: before})


def _tabulated(deeds: Sequence[Deed]) -> pa.Table:
    rows = [{PARTITION: one.day} | msgspec.structs.asdict(one) for one in deeds]
    return pa.Table.from_pylist(rows, schema=TRAIL_TABLE.schema)
