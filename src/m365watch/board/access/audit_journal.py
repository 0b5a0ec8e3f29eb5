"""The trail on disk until it is in the lake: a line is durable before what it tells of is answered.

Lines wait in an outbox under increasing numbers. The lake says with each commit up to which number it has
the lines of this outbox, so that each comes to it once, whichever board over the state directory brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

import msgspec
import structlog

from m365watch.board.access.board_database import FILE_NAME, open_board
from m365watch.common.timestamps import us_of
from m365watch.lake.audit_trail_table import Deed, TrailWriter, deeds_of
from m365watch.lake.delta.table_schema import ForeignTable
from m365watch.lake.schema import TRAIL_TABLE
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason

BYTES_MAX = 64 << 20
"""Of lines that wait; where no lake takes them, the older half goes."""
SHIPPED_AT_ONCE = 10_000
"""Lines of a commit."""
LOSS_FIX = "name a lake among the outputs that the collector writes to, or see why the lake refuses"
LINE_MAX = 320 << 10
"""More than any line has, whatever stands in it."""
_log = structlog.get_logger(__name__)


class TrailTable(Protocol):
    """The table of a lake in which each line stands once."""

    @property
    def last_number(self) -> int:
        """The number of the last line that is there; 0 for none."""
        ...

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make durable those that are not there yet. Raises: ForeignTable; any of WRITE_FAILURES."""
        ...


def _table_of(lake: Path, app_id: str) -> TrailTable:
    return TrailWriter(lake, app_id=app_id)


class TrailJournal:
    """Lines on disk, which `ship` brings to the lake: one thread appends while another ships."""

    def __init__(
        self,
        state_directory: Path,
        *,
        lake: Callable[[], Path | None],
        collector_name: str,
        bytes_max: int = BYTES_MAX,
        open_table: Callable[[Path, str], TrailTable] = _table_of,
    ) -> None:
        """Open the outbox. `lake` says where its lines are to go just then.

        Raises: DatabaseError; OSError.
        """
        self._bytes_max = bytes_max
        self._lake_now = lake
        self._lake: Path | None = None
        """The one that is written to, as soon as one could be opened."""
        self._noting = open_board(state_directory)
        self._shipping = open_board(state_directory)
        [outbox] = self._noting.execute("SELECT id FROM trail_outbox_end").fetchone()
        self._app_id = f"m365watch/board_trail/{collector_name}/{outbox}"
        self._open_table = open_table
        self._writer: TrailTable | None = None
        self._complaint = ""
        self.loss = ""
        """Which lines of this run no lake has taken before they had to go; empty for none."""
        self._lost = 0
        self._lock = Lock()
        """Whoever has it may use the lake, and `_shipping`; it can last."""

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make the lines durable, under numbers of their own. Raises: DatabaseError."""
        # First: nobody pushes lines out of the outbox by many long ones.
        if self._waiting_bytes() > self._bytes_max:
            with self._lock:
                if not self._bring():
                    self._drop()
        with self._noting.transaction():
            for one in deeds:
                line = msgspec.json.encode(one)
                # As times, they go on behind those that a copy of this file, put back, knows nothing of.
                end = self._noting.execute(
                    "UPDATE trail_outbox_end SET end_bytes = end_bytes + ?,"
                    " number = CASE WHEN number < ? THEN ? ELSE number + 1 END RETURNING number, end_bytes",
                    (len(line), us_of(one.time), us_of(one.time)),
                ).fetchone()
                self._noting.execute("INSERT INTO trail_outbox VALUES (?, ?, ?)", (*end, line))

    def _waiting_bytes(self) -> int:
        [number] = self._noting.execute(
            "SELECT (SELECT end_bytes FROM trail_outbox_end)"
            " - coalesce((SELECT min(end_bytes) FROM trail_outbox), 0)"
        ).fetchone()
        return int(number)

    def try_write(self) -> None:
        """See that a line could be made durable now: room is taken, and given back. Raises: DatabaseError."""
        for room in (bytes(LINE_MAX), None):
            self._noting.execute("UPDATE trail_outbox_end SET room = ?", (room,))

    def ship(self) -> bool:
        """Bring what waits to the lake; False where it goes on waiting. Raises: DatabaseError."""
        with self._lock:
            if self._writer is not None and self._standing() != self._lake:
                self._bring()
                self._writer = None
            return self._bring()

    def _bring(self) -> bool:
        while rows := self._shipping.execute(
            "SELECT number, line FROM trail_outbox ORDER BY number LIMIT ?", (SHIPPED_AT_ONCE,)
        ).fetchall():
            if not self._put(list(deeds_of(rows))):
                return False
            self._shipping.execute("DELETE FROM trail_outbox WHERE number <= ?", (rows[-1][0],))
        return True

    def _put(self, deeds: Sequence[Deed]) -> bool:
        try:
            if self._writer is None:
                if (lake := self._standing()) is None:
                    return False
                self._lake, self._writer = lake, self._open_table(lake, self._app_id)
            if self._lake is not None and not (self._lake / TRAIL_TABLE.name).is_dir():
                self._complain("its folder is not where it was")  # a commit would make it anew
                return False
            self._writer.append(deeds)
        except (*WRITE_FAILURES, ForeignTable) as failure:
            self._writer = None
            self._complain(plain_reason(failure))
            return False
        self._complaint = ""
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._noting.close()
        self._shipping.close()

    def _standing(self) -> Path | None:
        """The lake as it is now; None where there is none, or where nobody can look, as at a lost mount."""
        try:
            return self._lake_now()
        except OSError as failure:
            self._complain(plain_reason(failure))
            return None

    def _drop(self) -> None:
        gone = self._shipping.execute(
            "DELETE FROM trail_outbox WHERE end_bytes <= (SELECT end_bytes FROM trail_outbox_end) - ?"
            " RETURNING number, line",
            (self._bytes_max // 2,),
        ).fetchall()
        if gone:
            self._lost += len(gone)
            lines = f"{self._lost:,} line{'s' if self._lost > 1 else ''}"
            until = f"{max(one.time for one in deeds_of(gone)):%Y-%m-%d %H:%M:%S} UTC"
            self.loss = f"{lines} until {until} had to go, as no lake took them and their room was full"
            _log.error(f"board: the trail lacks what was done: {self.loss}; {LOSS_FIX}")

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            _log.warning(f"board: the trail waits for the lake: {why}; its lines are kept in {FILE_NAME}")
