"""Files of every earlier version of `detections.sqlite`: brought up with all that was in them."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.detection_database import NUMBERED_SINCE, SCHEMA_VERSION, migrate
from m365watch.detection.store.detection_store import DetectionState

SCHEMAS = Path(__file__).with_name("schemas")
OLD = range(1, SCHEMA_VERSION)
KEPT = {
    "meta": ("key", "value"),
    "tenant": ("tenant", 1),
    "alert": ("a", "rule", "tenant", "grp", 1, 2, 2, b"body", "acknowledged", "", "ann", 3, 1, 0),
    "link": ("a", "outer", "tenant", "grp", 1),
}
"""A row of each table whose loss somebody would see.

Earlier versions have the first columns of it: an alert's own matches began where it did, and of none
was said that it was put back.
"""


def written_by(version: int, folder: Path) -> Path:
    """A file as that version of the schema has it, with what a collector of that day left in it."""
    path = folder / FILE_NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript((SCHEMAS / f"version-{version}.sql").read_text())
        for table, row in KEPT.items():
            columns = len(file.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall())
            file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", row[:columns])
        file.execute(f"PRAGMA user_version = {version}")
    return path


def tables_of(file: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Each table and index with its columns, whatever the text that made it."""
    names = [
        name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    ]
    return {
        name: file.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
        for name in sorted(names)
    }


@guarantee(20)
@pytest.mark.parametrize("version", OLD)
def test_a_file_of_every_earlier_version_is_brought_up_with_all_it_knew(version: int, tmp_path: Path) -> None:
    """Alerts keep their states, and the tables are those of a file that is made new."""
    with closing(sqlite3.connect(written_by(version, tmp_path), isolation_level=None)) as file:
        migrate(file)

        assert {table: file.execute(f"SELECT * FROM {table}").fetchall() for table in KEPT} == {
            table: [row] for table, row in KEPT.items()
        }
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
            migrate(new)
            assert tables_of(file) == tables_of(new)
            assert [*file.execute("PRAGMA user_version")] == [*new.execute("PRAGMA user_version")]


def deny_new_version(action: int, name: str | None, value: str | None, *_: object) -> int:
    """SQLite's answer to each part of a statement: all but a version's new number is allowed."""
    is_new = action == sqlite3.SQLITE_PRAGMA and name == "user_version" and value is not None
    return sqlite3.SQLITE_DENY if is_new else sqlite3.SQLITE_OK


@guarantee(20)
@pytest.mark.parametrize("version", OLD)
def test_an_upgrade_that_fails_leaves_the_file_as_it_was(version: int, tmp_path: Path) -> None:
    """Each step is one transaction: the next start does the rest."""
    path = written_by(version, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        before = tables_of(file)
        # A step that has done everything but name its version fails at its end: as on a full disk.
        file.set_authorizer(deny_new_version)
        with pytest.raises(sqlite3.Error):
            migrate(file)
        file.set_authorizer(None)
        if file.in_transaction:
            file.rollback()

        assert tables_of(file) == before
        migrate(file)
        assert [*file.execute("PRAGMA user_version")] == [(SCHEMA_VERSION,)]


OLD_MATCHES = [
    ("rule", "tenant", "ann", 5, "a" * 32, "rule", "record-1", "high", b'{"UserId":"ann"}', ""),
    ("rule", "tenant", "ann", 6, "b" * 32, "another", "record-2", "medium", b'{"UserId":"ann"}', "x"),
    ("rule", "tenant", "bob", 7, "c" * 32, "rule", "record-3", "informational", b"{}", ""),
]


@pytest.mark.parametrize("version", range(1, NUMBERED_SINCE))
def test_matches_say_the_same_by_number(version: int, tmp_path: Path) -> None:
    """What rules have learned and counted goes on; what matches share is there once."""
    path = written_by(version, tmp_path)
    with closing(sqlite3.connect(path)) as file:
        file.executemany(f"INSERT INTO match VALUES ({', '.join('?' * 10)})", OLD_MATCHES)
        file.commit()
    state = DetectionState(path)
    found = [
        (
            *(one.rule_id, one.tenant, *one.group, one.at_ms, one.identity, one.source_id, one.record_id),
            *(one.severity.value, one.written, one.counted),
        )
        for name in ("ann", "bob")
        for one in state.matches.read_group(GroupKey("rule", "tenant", (name,)), since_ms=0).matches
    ]
    state.close()
    with closing(sqlite3.connect(path)) as file:
        counts = file.execute("SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM said)").fetchone()

    assert found == OLD_MATCHES
    assert counts == (2, 2)


def test_two_that_open_an_old_file_at_once_bring_it_up_once(tmp_path: Path) -> None:
    """Several panels of a page do; whoever comes second finds it done."""
    path = written_by(1, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as one:
        one.execute("PRAGMA journal_mode = WAL")
        with ThreadPoolExecutor(4) as threads:
            for opened in [threads.submit(DetectionState, path) for _ in range(4)]:
                opened.result().close()

        assert [*one.execute("PRAGMA user_version")] == [(SCHEMA_VERSION,)]
