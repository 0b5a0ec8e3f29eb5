"""The ledger's log is synced when that is asked for: once for many transactions, not for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import BlobState, Receipt
from m365watch.ledger.ledger_database import Durability, open_ledger
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.storage.database import Database
from test_open_batches import FEED, NOW, OUTPUTS, known, opened, part, states


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Database]:
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as connection:
        yield connection


class Syncs:
    """Which files were synced."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, descriptor: int) -> None:
        self.names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        os.fsync(descriptor)


def add(connection: Database, name: str) -> None:
    connection.execute("INSERT INTO meta VALUES (?, '')", (name,))


def test_many_transactions_take_one_sync(connection: Database, tmp_path: Path) -> None:
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


def test_nothing_new_takes_no_sync(connection: Database, tmp_path: Path) -> None:
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


def test_sqlite_itself_syncs_no_transaction_any_more(connection: Database, tmp_path: Path) -> None:
    """Only its checkpoints; 2 is FULL, and 1 NORMAL."""
    log = Durability(connection, tmp_path / "ledger.sqlite")
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)

    log.defer()

    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_a_disk_that_cannot_sync_ends_the_run_with_its_cure(connection: Database, tmp_path: Path) -> None:
    """What has happened in memory may not be on the disk: going on would build on it."""

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    log = Durability(connection, tmp_path / "ledger.sqlite", sync=fail)
    add(connection, "one")

    with pytest.raises(LedgerUnusable, match=r"cannot be brought to the disk \(Input/output error\)"):
        log.settle()


def test_a_power_cut_takes_a_listing_with_all_that_came_after_it(tmp_path: Path) -> None:
    """So that its window is listed again; before a batch goes out, the disk has the listing as well."""
    ledger = opened(tmp_path / "whole")
    settle = ledger.durability.defer()
    settle()
    log = tmp_path / "whole" / f"{LEDGER_FILE}-wal"
    on_disk = log.stat().st_size

    def after_a_power_cut(name: str) -> tuple[int, list[BlobState]]:
        """How many windows and which blobs are known of what the disk had at its last sync."""
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        os.truncate(tmp_path / name / f"{LEDGER_FILE}-wal", on_disk)
        with closing(opened(tmp_path / name)) as again:
            return len(again.coverage(FEED)), states(again)

    [blob] = known(ledger, "one")
    before_the_sync = after_a_power_cut("listed")
    number = ledger.open_batch([part(blob, "a")], OUTPUTS).number
    settle()
    on_disk = log.stat().st_size
    for output in OUTPUTS:
        ledger.commit_delivered(number, output, Receipt(), at=NOW)
    after_it = after_a_power_cut("batched")
    ledger.close()

    assert before_the_sync == (0, [])
    assert after_it == (1, [BlobState.WAITING])
