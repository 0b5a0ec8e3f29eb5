"""What the board must not lose: one file of the state directory, which only its owner may read."""

from __future__ import annotations

from pathlib import Path

from m365watch.lake.audit_trail_table import OUTBOX_FILE
from m365watch.storage.database import Database, Schema, open_database

FILE_NAME = OUTBOX_FILE
_BOARD = Schema(
    1,
    """
CREATE TABLE trail_outbox (
    number INTEGER PRIMARY KEY, end_bytes INTEGER NOT NULL, line BLOB NOT NULL
) STRICT;
-- One row: the last line's number and the bytes of all lines that ever were.
CREATE TABLE trail_outbox_end (
    id TEXT NOT NULL, number INTEGER NOT NULL, end_bytes INTEGER NOT NULL, room BLOB
) STRICT;
-- Its own name: another file has other lines under the same numbers.
INSERT INTO trail_outbox_end VALUES (lower(hex(randomblob(8))), 0, 0, NULL);
""",
    ("journal_mode = WAL",),
)


def open_board(state_directory: Path) -> Database:
    """The file, made if it is not there. Raises: DatabaseError; OSError."""
    return open_database(state_directory / FILE_NAME, _BOARD)
