"""SQLite's log brought to the disk when the ledger is told to, and not with each transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from m365watch.common.errors import LedgerUnusable

sync_content: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""As SQLite itself does it; not every system can leave out a file's times."""


class Durability:
    """Syncs the write-ahead log of a connection: all transactions before are durable then.

    A log counts up to its first frame that is not whole, so that a power cut before the sync takes away the
    last transactions and none from among them (https://sqlite.org/walformat.html, "The WAL File Format").
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, sync: Callable[[int], None] = sync_content
    ) -> None:
        """Leave transactions as they are, durable one by one, until `defer`; `path` is the database's."""
        self._connection = connection
        self._path = path
        self._sync = sync
        self._synced_changes = -1

    def defer(self) -> Callable[[], None]:
        """Let transactions from here on be durable with `settle` only, which is returned."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        return self.settle

    def settle(self) -> None:
        """Make durable what was committed since the last time; nothing where nothing was.

        Raises: LedgerUnusable: what has happened since then may be lost.
        """
        changes = self._connection.total_changes
        if changes == self._synced_changes:
            return
        try:
            if self._synced_changes < 0:
                self._sync_file(self._path.parent)  # The log's name, which is there from now on.
            self._sync_file(Path(f"{self._path}-wal"))
        except OSError as error:
            raise LedgerUnusable(
                f"the ledger's log cannot be brought to the disk ({error.strerror or error})",
                where=str(self._path),
                fix="look at the disk, then start `m365watch run` again: it goes on with what the disk has",
            ) from error
        self._synced_changes = changes

    def _sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)
