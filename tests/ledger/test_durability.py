"""The ledger's log is synced when that is asked for: once for many transactions, not for nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from m365watch.errors import LedgerUnusable
from m365watch.ledger.database import open_database
from m365watch.ledger.durability import Durability


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(tmp_path / "ledger.sqlite")) as connection:
        yield connection


class Syncs:
    """Which files were synced."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, descriptor: int) -> None:
        self.names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        os.fsync(descriptor)


def add(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("INSERT INTO meta VALUES (?, '')", (name,))


def test_many_transactions_take_one_sync(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """The folder once as well: the log's name has to be there after a power cut."""
    syncs = Syncs()
    log = Durability(connection, tmp_path / "ledger.sqlite", sync=syncs)
    log.defer()

    add(connection, "one")
    add(connection, "two")
    log.settle()
    add(connection, "three")
    log.settle()

    assert syncs.names == [tmp_path.name, "ledger.sqlite-wal", "ledger.sqlite-wal"]


def test_nothing_new_takes_no_sync(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Most verbs of an idle collector only read."""
    syncs = Syncs()
    log = Durability(connection, tmp_path / "ledger.sqlite", sync=syncs)
    log.defer()
    add(connection, "one")
    log.settle()
    before = len(syncs.names)

    connection.execute("SELECT count(*) FROM meta").fetchone()
    log.settle()

    assert len(syncs.names) == before


def test_sqlite_itself_syncs_no_transaction_any_more(connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Only its checkpoints; 2 is FULL, and 1 NORMAL."""
    log = Durability(connection, tmp_path / "ledger.sqlite")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    log.defer()

    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_a_disk_that_cannot_sync_ends_the_run_with_its_cure(
    connection: sqlite3.Connection, tmp_path: Path
) -> None:
    """What has happened in memory may not be on the disk: going on would build on it."""

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    log = Durability(connection, tmp_path / "ledger.sqlite", sync=fail)
    add(connection, "one")

    with pytest.raises(LedgerUnusable, match=r"cannot be brought to the disk \(Input/output error\)"):
        log.settle()
