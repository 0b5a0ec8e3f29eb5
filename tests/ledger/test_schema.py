"""Ledgers of every earlier version: brought up with all they knew, wherever the upgrade is cut short."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import BatchPart, BlobKey, ContentType, Feed, Header, TenantId
from m365watch.ledger.backup import back_up, check_ledger, put_in
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.schema import SCHEMA_VERSION, migrate
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger

SCHEMAS = Path(__file__).with_name("schemas")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
OUTPUTS = frozenset({"devo", "lake"})
OLD = range(1, SCHEMA_VERSION)
HOUR_US = 3_600_000_000
CREATED_US = int(NOW.timestamp()) * 1_000_000 - HOUR_US
TABLES = ("meta", "feed", "coverage", "gap", "blob", "batch", "output", "identity", "quarantine")


def written_by(version: int, folder: Path) -> Path:
    """A ledger as that version of the schema has it: blobs in each state, an open batch, identities."""
    path = folder / LEDGER_FILE
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((SCHEMAS / f"version-{version}.sql").read_text())
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO number SELECT value FROM json_each(?)", (json.dumps([*range(8192)]),))
        fill(connection)
        connection.execute(f"PRAGMA user_version = {version}")
    return path


def fill(connection: sqlite3.Connection) -> None:
    """What a collector of that day would have left."""
    connection.execute("INSERT INTO meta VALUES ('identity_seed', '42')")
    connection.execute(
        "INSERT INTO feed (id, tenant_id, content_type, blobs_delivered, records_delivered)"
        " VALUES (1, ?, ?, 2, 4)",
        (FEED.tenant_id, FEED.content_type),
    )
    start_s = CREATED_US // 1_000_000
    connection.execute("INSERT INTO coverage VALUES (1, ?, ?)", (start_s - 3600, start_s + 3600))
    connection.execute("INSERT INTO gap VALUES (1, ?, ?, ?)", (start_s - 9000, start_s - 8000, start_s))
    connection.executemany(
        "INSERT INTO blob (key, feed, content_id, created_us, expires_us, state, missing, records,"
        " duplicates, finished_s) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (1, "delivered", CREATED_US, CREATED_US + 168 * HOUR_US, 1, None, 2, 0, 1.0),
            (2, "kept", CREATED_US, CREATED_US + 168 * HOUR_US, 2, None, None, None, 1.0),
            (3, "lost", CREATED_US, CREATED_US + 168 * HOUR_US, 3, None, None, None, 1.0),
            (4, "half", CREATED_US, CREATED_US + 168 * HOUR_US, 0, '["devo"]', 2, 0, None),
            (5, "waiting", CREATED_US, CREATED_US + 168 * HOUR_US, 0, None, None, None, None),
        ],
    )
    connection.execute(
        "INSERT INTO batch (number, parts, identities, waiting_for, committed) VALUES (7, ?, ?, ?, 1)",
        (json.dumps([[4, 2, 2, 0]]), b"h" * 16 + b"i" * 16, '["devo"]'),
    )
    connection.execute("INSERT INTO output VALUES ('lake', 7, ''), ('devo', 6, 'here')")
    connection.execute("INSERT INTO identity VALUES (?, ?)", (b"d" * 16, (1).to_bytes(6, "big")))
    connection.execute("INSERT INTO quarantine VALUES (1, 2, '', x'00', 'no JSON', x'ff', 1.0)")


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the ledger knows, in the columns of the first version."""
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(":memory:")) as first:
        first.executescript((SCHEMAS / "version-1.sql").read_text())
        found = {}
        for table in TABLES:
            columns = ", ".join(row[1] for row in first.execute(f"PRAGMA table_info({table})"))
            found[table] = connection.execute(
                f"SELECT {columns} FROM {_source(connection, table)}"
            ).fetchall()
        return found


def _source(connection: sqlite3.Connection, table: str) -> str:
    """Where the rows of the first version's `table` are: identities have become pages."""
    is_there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    pages = "(SELECT substr(rows, 1, 16) AS key, substr(rows, 17) AS blob FROM identity_page)"
    return table if is_there or table != "identity" else pages


def part(key: int, *letters: str) -> BatchPart:
    records = [letter.encode() for letter in letters]
    return BatchPart(
        blob=BlobKey(key),
        feed=FEED,
        received_at=NOW,
        records=records,
        headers=[Header() for _ in letters],
        tables=["t"] * len(letters),
        missing_outputs=OUTPUTS,
        identities=[letter.encode() * 16 for letter in letters],
    )


@guarantee(20)
@pytest.mark.parametrize("version", OLD)
def test_a_ledger_of_every_earlier_version_is_brought_up_with_all_it_knew(
    tmp_path: Path, version: int
) -> None:
    """Blobs, identities, batches and positions; and the collector goes on with them."""
    path = written_by(version, tmp_path)
    before = contents(path)

    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    assert contents(path) == before
    kept = ledger.settle_outputs({"lake": 7, "devo": 6}, queued={"devo": []}, at=NOW)
    due = {
        one.ref.content_id: one.missing_outputs
        for one in ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    }
    opened = ledger.open_batch([part(5, "d", "h", "i", "n")], OUTPUTS)
    positions = [ledger.output_position(name).last_batch for name in ("lake", "devo")]
    [progress] = ledger.feed_progress()
    [schema] = ledger._connection.execute("PRAGMA user_version").fetchone()
    ledger.close()

    assert schema == SCHEMA_VERSION
    assert kept == {"devo": []}
    assert due == {"half": {"devo"}, "waiting": OUTPUTS}
    # What was merged and what only a batch's row had: both are known.
    assert opened.duplicates == {0: {0, 1, 2}}
    assert opened.number == 8
    assert positions == [7, 6]
    assert (progress.blobs_delivered, progress.blobs_waiting) == (2, 2)
    assert ledger.identity_seed == 42


@pytest.mark.parametrize("version", OLD)
def test_what_is_brought_up_is_what_is_made_new(tmp_path: Path, version: int) -> None:
    """The same tables and indices, but for the order of columns that were added."""
    old = written_by(version, tmp_path / "old")
    for folder in ("old", "new"):
        SqliteLedger(tmp_path / folder, outputs=OUTPUTS, now=NOW).close()

    assert shape(old) == shape(tmp_path / "new" / LEDGER_FILE)


def shape(path: Path) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
        return {
            f"{kind} {name}": sorted(
                row[1:5] if kind == "table" else row[1:]
                for row in connection.execute(f"PRAGMA {kind}_info({name})")
            )
            for kind, name in names
        }


def statements_of(version: int, folder: Path) -> int:
    """How many statements the upgrade from that version takes."""
    with closing(sqlite3.connect(written_by(version, folder), isolation_level=None)) as connection:
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        migrate(connection)
    return len(seen)


DOOMED = """
import os, signal, sqlite3, sys
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.schema import migrate
def upgrade(path, left):
    connection = sqlite3.connect(path, isolation_level=None)
    def count(statement):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(count)
    migrate(connection)
for left, path in enumerate(sys.argv[1:], start=1):
    if os.fork() == 0:
        upgrade(path, left)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""For each ledger a process that upgrades it, and kills itself: before the first statement, the second ..."""


@guarantee(20)
@pytest.mark.slow
@pytest.mark.parametrize("version", OLD)
def test_an_upgrade_that_is_killed_at_any_statement_is_made_good(tmp_path: Path, version: int) -> None:
    """Each step is one transaction: a reopened ledger is of one version or the next, and goes on."""
    count = statements_of(version, tmp_path / "count")
    before = contents(written_by(version, tmp_path / "whole"))
    paths = [tmp_path / str(statement) / LEDGER_FILE for statement in range(1, count + 1)]
    for path in paths:
        path.parent.mkdir()
        shutil.copy(tmp_path / "whole" / LEDGER_FILE, path)
    command = [sys.executable, "-c", DOOMED, *map(str, paths)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * count
    seen = set()
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            seen.add(connection.execute("PRAGMA user_version").fetchone()[0])

        SqliteLedger(path.parent, outputs=OUTPUTS, now=NOW).close()

        assert contents(path) == before
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert count > 3 * (SCHEMA_VERSION - version)
    assert seen == {*range(version, SCHEMA_VERSION)}


@pytest.mark.parametrize(
    ("step", "cure"), [(-1, "start `m365watch run` of this version"), (1, "use the version")]
)
def test_who_only_looks_at_another_version_s_ledger_is_told_what_to_do(
    tmp_path: Path, step: int, cure: str
) -> None:
    """An older one is brought up by the next run: an older collector may be running beside the command."""
    SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW).close()
    path = tmp_path / LEDGER_FILE
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + step}")

    with pytest.raises(LedgerUnusable) as told, ledger_for_reading(path):
        pass

    assert told.value.fix.startswith(cure)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An older collector would not know what it must keep."""
    path = written_by(1, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()

    with pytest.raises(LedgerUnusable, match="run the newer m365watch"):
        SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)

    assert path.read_bytes() == before


def test_a_disk_that_fills_during_an_upgrade_costs_nothing(tmp_path: Path) -> None:
    """The step is undone; with room again it is done."""
    path = written_by(1, tmp_path)
    before = contents(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            migrate(connection)

    SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW).close()

    assert contents(path) == before


@pytest.mark.parametrize("version", OLD)
def test_an_older_ledger_is_backed_up_as_it_is(tmp_path: Path, version: int) -> None:
    """Before an upgrade, with the new version at hand: either can have it back."""
    path, copy = written_by(version, tmp_path / "state"), tmp_path / "copy"

    found = back_up(path, copy, on_pages=lambda _done, _total: None)
    looked_at = check_ledger(copy, on_step=lambda: None)
    put_in(path, copy, now=NOW, on_pages=lambda _done, _total: None)

    assert (found.schema, looked_at.schema, looked_at.problems) == (version, version, [])
    assert looked_at.blobs == check_ledger(path, on_step=lambda: None).blobs > 0
    with ledger_for_reading(path) as present:
        [said] = present.execute("SELECT body FROM memory WHERE name = 'adoption'").fetchone()
        assert "wanted" in said


def test_only_a_backup_reads_an_older_ledger(tmp_path: Path) -> None:
    path = written_by(SCHEMA_VERSION - 1, tmp_path)

    with pytest.raises(LedgerUnusable, match="brings an older ledger up to date"), ledger_for_reading(path):
        pass
