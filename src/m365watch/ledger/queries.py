"""What the upkeep of a lake wants to know of a ledger; read only, beside a collector."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator


def output_account(connection: sqlite3.Connection, output: str) -> tuple[int, int]:
    """The last batch that the output is known to have, and the last number ever given; 0 for none."""
    row = connection.execute("SELECT last_batch FROM output WHERE name = ?", (output,)).fetchone()
    newest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batch'").fetchone()
    return (int(row[0]) if row else 0, int(newest[0]) if newest else 0)


def quarantined_bodies(connection: sqlite3.Connection) -> Iterator[bytes]:
    """The bytes of every piece in quarantine, one at a time."""
    for (body,) in connection.execute("SELECT body FROM quarantine ORDER BY id"):
        yield bytes(body)
