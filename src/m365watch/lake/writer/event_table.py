"""Table `collectors_out`: what collectors say of themselves, best effort.

It is a table of its own with commits of its own: whatever happens here, `audit` neither sees nor counts
it. Files are named after the version they are written onto, which no committed file has had before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa

from m365watch import __version__
from m365watch.common.collector_events import Notice
from m365watch.lake.delta.missing_commits import BEFORE
from m365watch.lake.schema import NOTICE_TABLE, PARTITION
from m365watch.lake.writer.parquet_files import FRESH, write_part
from m365watch.lake.writer.table_writer import OpenTable, file_prefix


class NoticeWriter:
    """Table `collectors_out` of a lake, open for appending by one process."""

    def __init__(self, directory: Path, *, app_id: str) -> None:
        """Open the table below the lake's `directory`; make it if it is not there.

        Raises: ForeignTable; any of WRITE_FAILURES.
        """
        self._app_id = app_id
        self._name = file_prefix(app_id)
        self._table = OpenTable(directory, NOTICE_TABLE)

    def append(self, notices: Sequence[Notice]) -> None:
        """Make the notices durable as one commit.

        Raises: any of WRITE_FAILURES: they may be in all the same, and twice if they are written again.
        """
        by_day: dict[date, list[Notice]] = {}
        for notice in notices:
            by_day.setdefault(notice.at.date(), []).append(notice)
        parts = [
            write_part(
                self._table.store,
                NOTICE_TABLE,
                day=day,
                name=f"{self._name}-{self._table.version:012}",
                chunks=[tabulate_notices(said)],
                compression=FRESH,
            )
            for day, said in sorted(by_day.items())
        ]
        before = self._table.number_of(self._app_id)
        self._table.commit(parts, numbers={self._app_id: before + 1, self._app_id + BEFORE: before})


def tabulate_notices(notices: Sequence[Notice]) -> pa.Table:
    """The notices as rows of `collectors_out`, in their order."""
    rows = [
        {
            PARTITION: notice.at.date(),
            "time": notice.at,
            "level": notice.level,
            "collector_name": notice.speaker.collector_name,
            "collector_version": __version__,
            "collector_image": notice.speaker.collector_image,
            "job_id": notice.speaker.job_id,
            "input_name": notice.input_name,
            "service_name": notice.service_name,
            "module_name": notice.module_name,
            "msg": notice.msg.encode("utf-8", "replace").decode(),
        }
        for notice in notices
    ]
    return pa.Table.from_pylist(rows, schema=NOTICE_TABLE.schema)
