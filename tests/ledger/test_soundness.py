"""Damage is found at a start within a bounded time, and a damaged ledger is set aside, never removed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.ledger.identity_pages import StoredIdentities
from m365watch.ledger.ledger_database import DamageGuard
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.storage.database import suspicion_of
from m365watch_testing.clock import FakeClock

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
LAKE = frozenset({"lake"})
KEPT = "ledger-20261124T120000Z.damaged.sqlite"


class HastyClock(FakeClock):
    """A clock on which a second has passed whenever somebody looks."""

    def monotonic_s(self) -> float:
        self.looks = getattr(self, "looks", 0) + 1
        return float(self.looks)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with 3,000 blobs and 20,000 identities."""
    ledger = SqliteLedger(tmp_path, outputs=LAKE, now=NOW)
    refs = [BlobRef(FEED, f"content{n}", NOW, NOW + timedelta(days=7)) for n in range(3000)]
    ledger.commit_listing(FEED, Window(NOW - timedelta(hours=1), NOW), refs, complete=True, at=NOW)
    with ledger._connection.transaction():
        StoredIdentities(ledger._connection).add([n.to_bytes(16, "big") + bytes(6) for n in range(20_000)])
    ledger.close()
    return ledger.path


def page_of(path: Path, table: str) -> int:
    """The root page of the table, counted from 0."""
    with closing(sqlite3.connect(path)) as connection:
        [page] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int(page) - 1


def harm(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * 8192)
        file.write(b"\x55" * 8192)


def guarded(path: Path, clock: FakeClock | None = None) -> None:
    DamageGuard(clock or FakeClock(NOW))(path)


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if one.name != "ledger.lock")


def test_a_sound_ledger_is_left_where_it_is(path: Path) -> None:
    """And not a byte of it changes."""
    before = path.read_bytes()

    guarded(path)

    assert path.read_bytes() == before
    assert names(path) == [LEDGER_FILE]


@guarantee(19)
@pytest.mark.parametrize("table", ["blob", "identity_page", "meta", "batch"])
def test_damage_in_any_table_is_found(path: Path, table: str) -> None:
    """The file is kept as it is, under a name with the time."""
    harm(path, page_of(path, table))
    before = path.read_bytes()

    guarded(path)

    assert names(path) == [KEPT]
    assert path.with_name(KEPT).read_bytes() == before


def test_two_damaged_ledgers_of_one_second_are_both_kept(path: Path) -> None:
    """Nothing is ever written over."""
    path.write_bytes(b"first " * 4000)
    guarded(path)
    path.write_bytes(b"second" * 4000)
    guarded(path)

    assert names(path) == ["ledger-20261124T120000Z-2.damaged.sqlite", KEPT]


def test_a_look_is_bounded_and_the_small_tables_come_first(path: Path) -> None:
    """What is cut short has found nothing, and the run starts: `ledger check` reads all of it."""
    harm(path, page_of(path, "identity_page"))
    guarded(path, HastyClock(NOW))
    assert names(path) == [LEDGER_FILE]

    guarded(path)
    assert names(path) == [KEPT]


def test_where_a_run_met_damage_the_next_start_looks_to_the_end(path: Path) -> None:
    """However long it takes; else it would meet the same page again and again."""
    harm(path, page_of(path, "identity_page"))
    with pytest.raises(LedgerUnusable, match=r"start `m365watch run` again"):
        SqliteLedger(path.parent, outputs=LAKE, now=NOW)
    assert suspicion_of(path).exists()

    guarded(path, HastyClock(NOW))

    # Its log as well, if it left one.
    assert [name.removesuffix("-wal").removesuffix("-shm") for name in names(path)] == [KEPT] * len(
        names(path)
    )


def test_a_suspicion_that_is_not_confirmed_goes(path: Path) -> None:
    """A bad cable may have been the cause."""
    suspicion_of(path).touch()

    guarded(path)

    assert names(path) == [LEDGER_FILE]


def test_a_log_without_its_ledger_is_set_aside(tmp_path: Path) -> None:
    """It would otherwise be read into the new one."""
    Path(f"{tmp_path / LEDGER_FILE}-wal").write_bytes(b"of another")

    guarded(tmp_path / LEDGER_FILE)

    assert names(tmp_path / LEDGER_FILE) == [f"{KEPT}-wal"]


def test_a_ledger_that_cannot_be_read_is_no_damaged_one(tmp_path: Path) -> None:
    """A directory in its place, for example, is for a person to remove."""
    (tmp_path / LEDGER_FILE).mkdir()

    with pytest.raises(LedgerUnusable):
        guarded(tmp_path / LEDGER_FILE)

    assert names(tmp_path / LEDGER_FILE) == [LEDGER_FILE]
