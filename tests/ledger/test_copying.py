"""Copies of the ledger: made beside a writer, put back beside none, and never in place of what is sound."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerHeld, LedgerUnusable
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.ledger.backup import LedgerCheck, back_up, check_ledger, put_in
from m365watch.ledger.schema import LEDGER
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
LAKE = frozenset({"lake"})
WINDOW = Window(NOW - timedelta(hours=1), NOW)


def opened(directory: Path) -> SqliteLedger:
    return SqliteLedger(directory, outputs=LAKE, now=NOW)


def know(ledger: SqliteLedger, *names: str) -> None:
    refs = [BlobRef(FEED, name, WINDOW.start, NOW + timedelta(days=7)) for name in names]
    ledger.commit_listing(FEED, WINDOW, refs, complete=True, at=NOW)


def names_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT content_id FROM blob")}


def copied(path: Path, target: Path) -> LedgerCheck:
    return back_up(path, target, on_pages=lambda _done, _total: None)


def looked_at(path: Path) -> list[str]:
    return check_ledger(path, on_step=lambda: None).problems


def put_back(path: Path, source: Path) -> Path | None:
    return put_in(path, source, now=NOW, on_pages=lambda _done, _total: None).kept


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with one blob, and no collector."""
    ledger = opened(tmp_path / "state")
    know(ledger, "one")
    ledger.close()
    return tmp_path / "state" / LEDGER_FILE


@guarantee(20)
def test_a_copy_is_of_one_moment_though_the_collector_goes_on(tmp_path: Path) -> None:
    """Commits between its steps do not make it begin again, and none of them is in it."""
    ledger = opened(tmp_path / "state")
    know(ledger, *(f"before-{number}" * 20 for number in range(3000)))
    told: list[tuple[int, int]] = []

    def write_on(done: int, total: int) -> None:
        know(ledger, *(f"meanwhile-{len(told)}-{number}" for number in range(50)))
        told.append((done, total))

    found = back_up(ledger.path, tmp_path / "copy", on_pages=write_on, pages_at_once=10)
    know(ledger, "after")
    ledger.close()

    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert (found.problems, found.blobs, found.as_of) == ([], 3000, NOW)
    assert all(name.startswith("before") for name in names_in(tmp_path / "copy"))


def test_a_copy_beside_a_collector_at_full_speed_is_sound(tmp_path: Path) -> None:
    """Its commits and checkpoints come from another thread all the while."""
    ledger = opened(tmp_path / "state")
    know(ledger, "first")
    ends = threading.Event()

    def write() -> None:
        number = 0
        while not ends.is_set():
            know(ledger, *(f"{number}-{place}" * 10 for place in range(200)))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        blobs = [copied(ledger.path, tmp_path / "copy").blobs for _ in range(5)]
    finally:
        ends.set()
        writer.join()
        ledger.close()

    assert blobs == sorted(blobs)
    # Whole transactions: the first blob, and two hundred each time.
    assert {count % 200 for count in blobs} == {1}
    assert looked_at(tmp_path / "copy") == []


@guarantee(20)
def test_a_copy_is_one_file_of_its_owner_alone(path: Path, tmp_path: Path) -> None:
    """Pieces in quarantine are in it."""
    copied(path, tmp_path / "copy")

    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy", "state"]


def test_a_copy_takes_the_place_of_a_copy_and_of_nothing_else(path: Path, tmp_path: Path) -> None:
    """A name given by mistake costs nobody a file."""
    (tmp_path / "letter").write_text("dear")
    with closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE thing (one)")
    copied(path, tmp_path / "copy")
    copied(path, tmp_path / "copy")

    for target, why in (
        (tmp_path / "letter", "no copy of a ledger"),
        (tmp_path / "other", "no copy of a ledger"),
        (tmp_path, "no copy of a ledger"),
        (path, "is the ledger itself"),
        (tmp_path / "nowhere" / "copy", "folder is not there"),
    ):
        with pytest.raises(LedgerUnusable, match=why):
            copied(path, target)

    assert (tmp_path / "letter").read_text() == "dear"


def test_a_damaged_ledger_gives_no_copy_and_leaves_the_one_before(path: Path, tmp_path: Path) -> None:
    """Last night's copy is worth more than today's damage."""
    copied(path, tmp_path / "copy")
    before = (tmp_path / "copy").read_bytes()
    harm(path)

    with pytest.raises(LedgerUnusable, match=r"damaged|malformed"):
        copied(path, tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["copy", "state"]


def harm(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 8192)
        file.write(b"\x55" * 8192 * 4)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
def test_a_disk_that_a_copy_fills_is_that_of_the_copy(path: Path, tmp_path: Path, code: int) -> None:
    """It was told as a ledger that cannot be read, whose permissions are to be checked."""

    def fill(_done: int, _total: int) -> None:
        failure = sqlite3.OperationalError("database or disk is full")
        failure.sqlite_errorcode = code
        raise failure

    target = tmp_path / "copy"
    with pytest.raises(LedgerUnusable) as refused:
        back_up(path, target, on_pages=fill)

    assert refused.value.what == "the copy cannot be written (database or disk is full)"
    assert refused.value.fix == "make room, or name a place that this user can write"
    assert refused.value.where == str(target)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "state"]


def test_what_is_put_back_is_the_copy_and_the_other_is_kept(path: Path, tmp_path: Path) -> None:
    """Nothing is ever removed; the next run is told to ask the outputs."""
    copied(path, tmp_path / "copy")
    ledger = opened(path.parent)
    know(ledger, "two")
    ledger.close()

    kept = put_back(path, tmp_path / "copy")
    after = opened(path.parent)
    is_due = after.held.is_adoption_due()
    after.close()

    assert kept == path.with_name("ledger-20261124T120000Z.replaced.sqlite")
    assert kept is not None
    assert names_in(kept) == {"one", "two"}
    assert names_in(path) == {"one"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_due


def test_a_copy_made_by_hand_into_place_asks_the_outputs_too(path: Path, tmp_path: Path) -> None:
    """The copy itself says that it is one."""
    copied(path, tmp_path / "copy")
    path.unlink()
    (tmp_path / "copy").rename(path)

    ledger = opened(path.parent)
    is_due = ledger.held.is_adoption_due()
    ledger.close()

    assert is_due


def test_a_ledger_that_was_put_back_by_hand_can_be_put_back_as_it_should(path: Path) -> None:
    """By its own name: then the next run asks the outputs."""
    kept = put_back(path, path)
    ledger = opened(path.parent)
    is_due = ledger.held.is_adoption_due()
    ledger.close()

    assert is_due
    assert kept is not None
    assert names_in(kept) == names_in(path) == {"one"}


def test_a_look_that_is_interrupted_is_no_look_that_failed(tmp_path: Path) -> None:
    """Ctrl-C reaches the command while SQLite reads, and comes out as itself."""
    ledger = opened(tmp_path / "state")
    know(ledger, *(f"{number}" * 50 for number in range(5_000)))
    ledger.close()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_ledger(ledger.path, on_step=interrupted)


@guarantee(20)
def test_nothing_is_put_back_while_a_collector_runs(path: Path, tmp_path: Path) -> None:
    """It would go on writing into a file that nobody reads any more."""
    copied(path, tmp_path / "copy")
    ledger = opened(path.parent)

    with pytest.raises(LedgerHeld, match="held by pid"):
        put_back(path, tmp_path / "copy")

    ledger.close()
    assert names_in(path) == {"one"}


@guarantee(20)
@pytest.mark.parametrize("kind", ["damaged", "foreign", "newer", "text", "missing"])
def test_what_is_no_sound_copy_is_refused_and_changes_nothing(path: Path, tmp_path: Path, kind: str) -> None:
    """The present ledger is as it was, whatever is wrong with the copy."""
    copy = tmp_path / "copy"
    copied(path, copy)
    if kind == "damaged":
        harm(copy)
    elif kind == "text":
        copy.write_text("no ledger" * 1000)
    elif kind == "missing":
        copy.unlink()
    else:
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute(f"PRAGMA user_version = {LEDGER.version + 1 if kind == 'newer' else 0}")
    before = path.read_bytes()

    with pytest.raises(LedgerUnusable):
        put_back(path, copy)

    assert path.read_bytes() == before
    assert not list(path.parent.glob("ledger-*"))
    assert not list(path.parent.glob("*.partial*"))


def test_a_copy_takes_the_place_of_a_damaged_ledger(path: Path, tmp_path: Path) -> None:
    """What is left of that, and of its log, is kept, and the log does not meet the copy."""
    copied(path, tmp_path / "copy")
    path.write_bytes(b"nothing of a ledger")
    Path(f"{path}-wal").write_bytes(b"nor of its log")

    kept = put_back(path, tmp_path / "copy")

    assert kept is not None
    assert kept.read_bytes() == b"nothing of a ledger"
    assert names_in(path) == {"one"}
    assert looked_at(path) == []


def test_a_copy_takes_the_place_of_no_ledger_at_all(path: Path, tmp_path: Path) -> None:
    """On a new machine, for example."""
    copied(path, tmp_path / "copy")

    kept = put_back(tmp_path / "new" / LEDGER_FILE, tmp_path / "copy")

    assert kept is None
    assert names_in(tmp_path / "new" / LEDGER_FILE) == {"one"}


def test_a_look_finds_what_contradicts_itself(path: Path) -> None:
    """SQLite calls sound what it wrote itself, whatever it says."""
    assert looked_at(path) == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE blob SET state = 1")
        connection.execute("INSERT INTO output VALUES ('lake', 99, '')")
        connection.execute("INSERT INTO batch VALUES (5, '[[1, 2, 2, 0]]', x'00', '[]', '[]', 1)")

    assert looked_at(path) == [
        "1 blobs that are finished and not, at once",
        "1 batches whose identities are not those of their parts",
        "1 outputs that have batches which were never numbered",
    ]


def test_a_look_at_a_damaged_ledger_says_so(path: Path) -> None:
    """In SQLite's own words."""
    harm(path)

    assert looked_at(path)
