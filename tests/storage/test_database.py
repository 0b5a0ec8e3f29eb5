"""Database files: made whole or not at all, whoever opens them first, and refused where they are others'."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.ledger.schema import LEDGER
from m365watch.storage import database as storage
from m365watch.storage.database import (
    Database,
    DatabaseError,
    Failure,
    OtherVersion,
    Schema,
    connect,
    failure_of,
    open_database,
    read_rows,
)

TWO = Schema(
    3,
    """
-- One; with a semicolon in what is said of it.
CREATE TABLE one (name TEXT PRIMARY KEY);
CREATE TABLE two (name TEXT DEFAULT ';');
INSERT INTO one VALUES ('a;b');
""",
    ("page_size = 8192", "journal_mode = WAL"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "two.sqlite"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with closing(open_database(path, TWO)) as database:
        yield database


def test_a_new_file_has_its_tables_and_is_its_owner_s_alone(path: Path, database: Database) -> None:
    """Also what lies beside it, in a folder that is made with it."""
    assert database.execute("SELECT name FROM one").fetchall() == [("a;b",)]
    assert database.version == 3
    kept = ("synchronous", "journal_mode", "page_size")
    assert [database.execute(f"PRAGMA {one}").fetchone()[0] for one in kept] == [2, "wal", 8192]
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


@guarantee(20)
@pytest.mark.parametrize("version", [2, 4])
def test_a_file_of_another_version_is_refused_and_stays_as_it_is(path: Path, version: int) -> None:
    open_database(path, TWO).close()
    with closing(connect(path)) as other:
        other.execute(f"PRAGMA user_version = {version}")
        other.execute("PRAGMA journal_mode = DELETE")
    before = path.read_bytes()

    with pytest.raises(OtherVersion) as refused:
        open_database(path, TWO)

    assert (refused.value.version, refused.value.known) == (version, 3)
    assert path.read_bytes() == before


def test_many_that_open_a_new_file_at_once_make_its_tables_once(path: Path) -> None:
    """Several panels of a page do; whoever comes second finds them."""
    with (
        closing(open_database(path, Schema(0, "", ("journal_mode = WAL",)))),
        ThreadPoolExecutor(4) as threads,
    ):
        for opened in [threads.submit(open_database, path, TWO) for _ in range(8)]:
            with closing(opened.result()) as database:
                assert database.execute("SELECT count(*) FROM one").fetchone() == (1,)


def kill_before(left: int, path: Path) -> int:
    """Make a ledger's file in a process that kills itself before its `left`th statement; how it ended."""
    if (child := os.fork()) == 0:
        seen = 0

        def count(_: str) -> None:
            nonlocal seen
            seen += 1
            if seen == left:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(path: Path | None, **given: float) -> Database:
            database = connect(path, **given)  # type: ignore[arg-type]
            database.set_trace_callback(count)
            return database

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(storage, "connect", counted)
                open_database(path, LEDGER)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@guarantee(20)
@pytest.mark.slow
def test_a_file_whose_making_is_killed_at_any_statement_is_made_good(tmp_path: Path) -> None:
    """It has all of its tables or none, and the next start goes on with it."""
    ends = []
    for left in range(1, 100):
        path = tmp_path / f"{left}.sqlite"
        ends.append(kill_before(left, path))

        with closing(open_database(path, LEDGER)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM number").fetchone() == (8192,)
        if ends[-1] == 0:
            break
    assert ends[:-1] == [-signal.SIGKILL] * (len(ends) - 1)
    assert 20 < len(ends) < 99


@guarantee(20)
@pytest.mark.parametrize("ended_by", [DatabaseError("disk I/O error"), KeyboardInterrupt()])
def test_a_transaction_that_fails_has_changed_nothing(database: Database, ended_by: BaseException) -> None:
    """And the next one is another."""

    def end_within() -> None:
        with database.transaction():
            database.execute("INSERT INTO two VALUES ('lost')")
            raise ended_by

    with pytest.raises(type(ended_by)):
        end_within()
    with database.transaction():
        database.execute("INSERT INTO two VALUES ('kept')")

    assert database.execute("SELECT name FROM two").fetchall() == [("kept",)]


def test_failures_say_why(path: Path, database: Database, tmp_path: Path) -> None:
    """Callers decide by that what passes, what is mended, and what needs a person."""

    def why(statement: str, at: Database) -> Failure:
        with pytest.raises(DatabaseError) as failed:
            at.execute(statement)
        return failure_of(failed.value)

    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database" * 100)
    with closing(connect(path, timeout_s=0)) as other, closing(connect(garbage)) as damaged:
        with database.transaction():
            busy = why("BEGIN IMMEDIATE", other)
        [(pages,)] = other.execute("PRAGMA page_count")
        other.execute(f"PRAGMA max_page_count = {pages}")
        full = why("INSERT INTO two VALUES (zeroblob(100000))", other)
        other.set_progress_handler(lambda: 1, 1)
        interrupted = why("SELECT 1 FROM one", other)

        assert why("SELECT 1 FROM one", damaged) is Failure.DAMAGE
    assert (busy, full, interrupted) == (Failure.BUSY, Failure.FULL, Failure.INTERRUPTED)
    assert failure_of(UnicodeDecodeError("utf-8", b"", 0, 1, "")) is Failure.OTHER


def test_a_file_without_its_tables_has_no_rows(path: Path) -> None:
    """As a full disk leaves it, or a kill right after it was made; of another version it is refused."""
    rows = "SELECT name FROM one"
    assert read_rows(path, rows, schema=TWO) == []
    path.parent.mkdir()
    path.touch()
    assert read_rows(path, rows, schema=TWO) == []
    with closing(open_database(path, TWO)) as database:
        database.execute("UPDATE one SET name = CAST(? AS TEXT)", (b"a\xff",))
    assert read_rows(path, rows, schema=TWO) == [("a\N{REPLACEMENT CHARACTER}",)]
    with pytest.raises(OtherVersion):
        read_rows(path, rows, schema=Schema(4, TWO.tables))
