"""Files of a state directory that are garbled: one clear line, or what is known without them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.board.access.roles import Access, Role
from m365watch.board.query.saved_searches import SavedSearches
from m365watch.common.errors import CollectorError, LedgerUnusable, NeedsOperator, OutputUnusable
from m365watch.common.model import ContentType, Feed, TenantId, Window
from m365watch.detection.alerts import triage as desk
from m365watch.detection.store.detection_store import DetectionState
from m365watch.health.completeness.audit_requests import order_of
from m365watch.health.completeness.feed_audit import last_audit, memory_name
from m365watch.health.config_status import MEMORY, configuration_note
from m365watch.ledger.queries import feed_progress, ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.notifications.notification_database import NotificationFile
from m365watch_testing.clock import START

ANN = Access("ann", Role.ADMIN, tenants=None)
FEED = Feed(TenantId("0a1b2c3d-0000-4000-8000-00000000000a"), ContentType.EXCHANGE)
GARBLED = [
    "{}",
    "[]",
    "null",
    "not json",
    "[" * 5_000,
    '{"at":1e300,"span":[1,2],"hours":[[1]],"missing":[["a",1]]}',
]


def ledger_with(folder: Path, sql: str, *bound: str) -> Path:
    """A ledger in which somebody has written."""
    ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=START)
    ledger.commit_listing(FEED, Window(START, START), [], complete=False, at=START)
    ledger.close()
    path = folder / LEDGER_FILE
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(sql, bound)
    return path


@pytest.mark.parametrize("body", GARBLED)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        (MEMORY, configuration_note),
        (memory_name(FEED), lambda connection: last_audit(connection, FEED)),
    ],
)
def test_what_is_remembered_in_another_shape_is_not_known(
    tmp_path: Path, name: str, read: Callable[[sqlite3.Connection], object], body: str
) -> None:
    """Found by the fuzzer: `status` and `audit` ended in a traceback."""
    path = ledger_with(tmp_path, "INSERT OR REPLACE INTO memory VALUES (?, ?)", name, body)

    with ledger_for_reading(path) as connection:
        assert read(connection) is None


def test_an_adoption_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """It says which outputs were asked what they hold: no run may go on without."""
    ledger_with(tmp_path, "INSERT OR REPLACE INTO memory VALUES ('adoption', ?)", '{"a":1}')

    with pytest.raises(LedgerUnusable, match="what is remembered as 'adoption' cannot be read"):
        SqliteLedger(tmp_path, outputs=frozenset({"lake"}), now=START)


@guarantee(26)
def test_a_cell_that_nobody_has_written_is_one_line(tmp_path: Path) -> None:
    """Found by the fuzzer: a flipped bit within a cell, which SQLite cannot see."""
    path = ledger_with(tmp_path, "UPDATE feed SET content_type = 'Audit.Exghange'")

    with pytest.raises(LedgerUnusable, match="is damaged"), ledger_for_reading(path) as connection:
        feed_progress(connection, START)


@guarantee(26)
@pytest.mark.parametrize("keep", [100, 5_000])
def test_alerts_of_a_damaged_file_are_one_line(tmp_path: Path, keep: int) -> None:
    """Found by the fuzzer: `alerts` ended in a traceback of SQLite's."""
    path = tmp_path / "detections.sqlite"
    DetectionState(path).close()
    body = path.read_bytes()
    path.write_bytes(body[:keep] + b"\xff" * (len(body) - keep))

    with pytest.raises(CollectorError) as caught:
        desk.list_alerts(path, desk.AlertsAsked())
    assert isinstance(caught.value, OutputUnusable)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("sign", [b"\x01", b"\xa0"])
def test_words_of_a_damaged_schema_are_one_line(tmp_path: Path, sign: bytes) -> None:
    """Found by the fuzzer: SQLite quotes what it cannot read, which may be no text at all."""
    searches = SavedSearches(tmp_path)
    searches.keep(ANN, "a", "/search", is_shared=True, now_s=0)
    NotificationFile(tmp_path / "notifications.sqlite").close()
    for path in tmp_path.glob("*.sqlite"):
        path.write_bytes(path.read_bytes().replace(b" TEXT", sign + b"TEXT"))

    with pytest.raises(NeedsOperator) as of_searches:
        searches.list(ANN)
    with pytest.raises(OutputUnusable) as of_notifications:
        NotificationFile(tmp_path / "notifications.sqlite")

    assert str(of_searches.value).isprintable()
    assert str(of_notifications.value).isprintable()


@pytest.mark.parametrize("sign", [b"\x01", b"\x1b", b"\xa0"])
def test_words_of_a_damaged_ledger_move_no_terminal(tmp_path: Path, sign: bytes) -> None:
    """Found by the fuzzer: names of its schema that SQLite does not find were quoted as they stand."""
    path = ledger_with(tmp_path, "CREATE TRIGGER own AFTER UPDATE ON feed BEGIN SELECT own_text; END")
    path.write_bytes(path.read_bytes().replace(b"own_text", b"own" + sign + b"text"))

    def use() -> None:
        with closing(SqliteLedger(tmp_path, outputs=frozenset({"lake"}), now=START)) as ledger:
            ledger.commit_listing(FEED, Window(START, START), [], complete=True, at=START)

    with pytest.raises(LedgerUnusable, match=r"the ledger (is damaged|cannot be used)") as caught:
        use()

    assert str(caught.value).isprintable()


def test_an_order_that_is_nested_too_deeply_is_none() -> None:
    """Anything may stand where a running collector is asked for an audit."""
    assert order_of(b"[" * 5_000) is None
