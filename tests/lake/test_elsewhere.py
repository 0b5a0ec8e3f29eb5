"""What m365watch filled outside the lake is searched for a person, place by place, and left as it is."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
import zstandard
from channels_configured import wanting
from promises import guarantee

from keeping_lake import ANNA, TODAY, a_record
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.roles import Access, Role
from m365watch.board.query.saved_searches import SavedSearches
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.audit_trail_table import Deed
from m365watch.lake.delta.table_files import Progress, silently
from m365watch.lake.erasure.person_matching import Person
from m365watch.ledger.backup import back_up
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.notifications.notification import Standing
from m365watch.notifications.outbox import NotificationStore
from m365watch.outputs.lake.spec import LakeSection
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.response.journal import Journal, Line
from m365watch.runtime.lake_maintenance import choose_lake
from m365watch.runtime.personal_data_search import Elsewhere, search_elsewhere
from m365watch.storage.damage import set_aside
from m365watch_testing.batches import TENANT, make_batch, make_part

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HERS, OTHERS = a_record(6, day=TODAY), a_record(7, day=TODAY)
LINES = b"\n".join((HERS, OTHERS, HERS, b""))
HERS_TOLD = Alert(
    id=AlertId("a" * 32),
    rule_id="r",
    title="t",
    severity=Severity.HIGH,
    tenant=TENANT,
    group=("g",),
    entities=(("user", ANNA),),
    first_at_ms=1,
    last_at_ms=1,
    count=1,
    evidence=(),
    explanation="e",
)


def settings_in(folder: Path) -> tuple[Settings, LakeSection]:
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"}
    document = {
        "globals": {"name": "collector-1"},
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {
            "lake": {"type": "lake", "config": {"directory": "lake"}},
            "plain": {"type": "files", "config": {"directory": "out"}},
        },
    }
    settings = parse_settings(document, path=folder / "m365watch.json", environment={})
    return settings, choose_lake(settings, "lake")


def search(folder: Path, *, progress: Progress = silently) -> dict[str, Elsewhere]:
    """What was found, by the last part of each place's name."""
    settings, lake = settings_in(folder)
    found = search_elsewhere(settings, lake, Person([ANNA], anywhere=True), progress=progress)
    return {Path(one.place).name: one for one in found}


def put(path: Path, body: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def keep_in_quarantine(state: Path, *bodies: bytes) -> Path:
    """A ledger with these in quarantine."""
    ledger = SqliteLedger(state, outputs=frozenset({"lake"}), now=NOW)
    feed = Feed(TenantId(TENANT), ContentType.EXCHANGE)
    ref = BlobRef(feed, "one", NOW, NOW + timedelta(days=7))
    ledger.commit_listing(feed, Window(NOW - timedelta(hours=1), NOW), [ref], complete=True, at=NOW)
    [blob] = ledger.due_blobs(feed, now=NOW, count_max=1, besides=frozenset())
    for body in bodies:
        ledger.quarantine(blob.key, body, "too long", at=NOW)
    ledger.close()
    return state / LEDGER_FILE


def all_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """But for what SQLite keeps beside the present ledger for whoever reads it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(f"{LEDGER_FILE}-"):
            yield path.relative_to(folder).as_posix(), path.read_bytes()


@guarantee(17)
def test_files_are_searched_whatever_their_compression(tmp_path: Path) -> None:
    """Published and growing ones, and those of replays; those that name the person by their paths."""
    put(tmp_path / "out" / "table" / "000000000001-20261124T120000Z.ndjson", LINES)
    put(tmp_path / "out" / "table" / "two.ndjson.gz", gzip.compress(LINES) + gzip.compress(LINES))
    zstd = zstandard.ZstdCompressor().compress
    put(tmp_path / "out" / "other" / "three.ndjson.zst", zstd(LINES) + zstd(LINES))
    put(tmp_path / "out" / ".parts" / "table@four.part", LINES)
    put(tmp_path / "out" / "other" / "five.ndjson", OTHERS)
    put(tmp_path / "out.replay" / "plain-0123" / "table" / "six.ndjson", HERS)

    found = search(tmp_path)

    assert (found["out"].searched, found["out"].records, found["out"].kind) == (True, 12, "files")
    assert {one.path.name: one.records for one in found["out"].files} == {
        "table@four.part": 2,
        "three.ndjson.zst": 4,
        "000000000001-20261124T120000Z.ndjson": 2,
        "two.ndjson.gz": 4,
    }
    assert (found["plain-0123"].kind, found["plain-0123"].records) == ("replayed_files", 1)


def test_what_a_collector_publishes_meanwhile_is_not_missed(tmp_path: Path) -> None:
    """A file gets its name between two looks, in a folder that was not there before."""
    growing = put(tmp_path / "out" / ".parts" / "table@two.part", LINES)
    put(tmp_path / "out" / ".parts" / "a@one.part", OTHERS)

    def publish(what: str, done: int, total: int) -> None:
        del what, done, total
        if growing.exists():
            (tmp_path / "out" / "table").mkdir()
            growing.rename(tmp_path / "out" / "table" / "two.ndjson")

    assert search(tmp_path, progress=publish)["out"].records == 2


@guarantee(17)
@pytest.mark.parametrize("body", [gzip.compress(LINES)[:-9], b"\x28\xb5\x2f\xfd torn"])
def test_a_file_that_cannot_be_read_is_not_called_searched(tmp_path: Path, body: bytes) -> None:
    """It may hold anything."""
    put(tmp_path / "out" / "table" / "torn", body)

    found = search(tmp_path)["out"]

    assert not found.searched
    assert [(one.path.name, one.is_whole) for one in found.files] == [("torn", False)]
    assert "not all of 1 of its files can be read" in found.says


@guarantee(17)
def test_ledgers_out_of_use_are_searched_and_left_as_they_are(tmp_path: Path) -> None:
    """Set aside, with the log beside it or not, replaced, or backed up beside the present one."""
    state = tmp_path / "state"
    ledger = keep_in_quarantine(state, HERS, OTHERS)
    back_up(ledger, state / "monday.copy", on_pages=lambda _done, _total: None)
    damaged = set_aside(ledger, at=NOW)
    keep_in_quarantine(state, OTHERS)
    before = dict(all_files(state))

    found = search(tmp_path)

    kinds = {name: (one.kind, one.searched, one.records) for name, one in found.items()}
    assert kinds[damaged.name] == kinds["monday.copy"] == ("ledger_copy", True, 1)
    assert kinds[LEDGER_FILE] == ("quarantine", True, 0)
    assert found["copies that `m365watch ledger backup` wrote"].searched is False
    assert dict(all_files(state)) == before


def test_a_ledger_set_aside_with_its_log_is_searched(tmp_path: Path) -> None:
    """What the log has counts; a crash leaves it there."""
    state = tmp_path / "state"
    ledger = keep_in_quarantine(state)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO quarantine VALUES (1, 1, '', x'', 'too long', ?, 0)", (HERS,))
        for suffix in ("", "-wal"):
            put(state / f"ledger-1.damaged.sqlite{suffix}", Path(f"{ledger}{suffix}").read_bytes())

    assert search(tmp_path)["ledger-1.damaged.sqlite"].records == 1


def test_a_damaged_ledger_is_not_called_searched(tmp_path: Path) -> None:
    """Nobody knows what was in the rest of it."""
    put(tmp_path / "state" / "ledger-1.damaged.sqlite", b"\xff" * 8192)

    found = search(tmp_path)["ledger-1.damaged.sqlite"]

    assert (found.kind, found.searched) == ("ledger_copy", False)


@guarantee(17)
def test_recovered_pages_and_replays_are_searched(tmp_path: Path) -> None:
    """Pages that are not final; the ledger and the queue of each replay's own."""
    pages = tmp_path / "state" / "recovered" / TENANT
    put(pages / "Audit.Exchange.q.1.1.json", b"[" + HERS + b"," + OTHERS + b"," + HERS + b"]")
    put(pages / "Audit.Exchange.q.1.2.new", b"[" + HERS[:-1])
    replay = tmp_path / "state" / "replays" / "devo-0123"
    keep_in_quarantine(replay, HERS)
    queue = BatchQueue(replay / "queues" / "devo", output="devo", bytes_max=10**9, wide_headers=False)
    queue.put(make_batch(1, [make_part([HERS, OTHERS], outputs=["devo"])]))

    found = search(tmp_path)

    assert (found["recovered"].records, len(found["recovered"].files)) == (3, 2)
    assert (found["devo-0123"].kind, found["devo-0123"].records) == ("replay", 2)


def test_detections_are_searched_and_are_no_ledger(tmp_path: Path) -> None:
    """Those in use, those that were set aside, and what was done about alerts."""
    state = tmp_path / "state"
    state.mkdir()
    for name in ("detections.sqlite", "detections-20261124T120000Z.damaged.sqlite"):
        DetectionState(state / name).close()
    with closing(sqlite3.connect(state / "detections.sqlite")) as database:
        database.execute("INSERT INTO series VALUES (1, 'rule', 't', ?)", (ANNA,))
        database.execute("INSERT INTO said VALUES (1, x'7b7d')")
        database.execute("INSERT INTO match VALUES (1, 1, 'i', '', 'r', 1, 1, '')")
        database.commit()
    journal = Journal(state)
    for title in (ANNA, ANNA, "eve"):
        journal.write(Line("1", NOW, "eve", "a", "t", "done", "disable_account", title))

    found = search(tmp_path)

    kinds = {name: (one.kind, one.records, one.searched) for name, one in found.items() if "detect" in name}
    assert kinds == {
        "detections.sqlite": ("detections", 1, True),
        "detections-20261124T120000Z.damaged.sqlite": ("detections_copy", 0, True),
    }
    assert (found["responses.sqlite"].kind, found["responses.sqlite"].records) == ("responses", 2)


def test_notifications_are_searched_and_are_no_ledger(tmp_path: Path) -> None:
    """What somebody is told of, and the folder of alerts beside an output's files."""
    state = tmp_path / "state"
    state.mkdir()
    store = NotificationStore(state / "notifications.sqlite")
    store.register(["soc"], now_ms=1)
    store.take([(HERS_TOLD.id, Standing(HERS_TOLD))], {"soc": wanting()}, now_ms=1)
    store.close()
    put(tmp_path / "out-alerts" / "cloud.office365.alerts" / "one.ndjson", LINES)

    found = search(tmp_path)

    assert (found["notifications.sqlite"].kind, found["notifications.sqlite"].records) == ("notifications", 1)
    assert found["out-alerts"].records == 2
    assert not [one for one in found.values() if one.kind == "ledger_copy"]


def test_nothing_of_a_record_is_told(tmp_path: Path) -> None:
    """Places, counts and advice only."""
    put(tmp_path / "out" / "table" / "one.ndjson", LINES)
    keep_in_quarantine(tmp_path / "state", HERS)

    told = repr(search(tmp_path))

    assert ANNA not in told
    assert json.loads(HERS)["Id"] not in told


@pytest.mark.parametrize("name", [ANNA, "CONTOSO\\anna", "änna@contoso.example", "Strasse 1"])
def test_the_quick_look_at_bytes_misses_nothing(name: str) -> None:
    """In any spelling that JSON has for it."""
    plain = json.dumps({"x": name}, ensure_ascii=False).encode()
    spelt = "".join(f"\\u{ord(one):04x}" for one in name)
    person = Person([name], anywhere=True)

    assert person.is_mentioned(plain)
    assert person.is_mentioned(json.dumps({"x": name.upper()}).encode())
    assert person.is_mentioned(b'{"x": "' + spelt.encode() + b'"}')
    assert not person.is_mentioned(OTHERS)


def test_who_has_looked_is_told_and_kept(tmp_path: Path) -> None:
    """Lines of the board's trail that name the person are counted, in the lake and before it, and stay."""
    settings, lake = settings_in(tmp_path)
    journal = TrailJournal(settings.state_directory, lake=lambda: lake.folder, collector_name="one")
    look = Deed(
        0, NOW, "eve", "analyst", "::1", "s", "view", 200, "/investigate", urlencode({"user": ANNA}), ""
    )
    journal.append([look, msgspec.structs.replace(look, query="")])
    assert journal.ship()
    journal.append([look, msgspec.structs.replace(look, query="", says=f"closed: an alert about {ANNA}")])
    sessions = settings.state_directory / "board-sessions.sqlite"
    sqlite3.connect(sessions).close()

    found = search_elsewhere(settings, lake, Person([ANNA]), progress=silently)

    assert sorted(one.records or 0 for one in found if one.kind == "board_trail") == [1, 2]
    assert not any("sessions" in one.place for one in found)
    journal.close()


@pytest.mark.parametrize(
    ("name", "url"), [("mine", f"/records?{urlencode({'user': ANNA})}"), (f"What {ANNA} did", "/records")]
)
def test_searches_that_name_the_person_are_told(tmp_path: Path, name: str, url: str) -> None:
    """By their names or filters; in a board's database that was set aside, too."""
    settings, lake = settings_in(tmp_path)
    searches = SavedSearches(settings.state_directory)
    for one, to in ((name, url), ("other", "/records")):
        searches.keep(Access("eve", Role.ANALYST, tenants=None), one, to, is_shared=False, now_s=0)
    shutil.copy(searches.path, searches.path.with_name("board-20261124T120000Z.damaged.sqlite"))

    found = search_elsewhere(settings, lake, Person([ANNA]), progress=silently)

    assert [one.records for one in found if one.kind == "board_searches"] == [1]
    [copy] = [one for one in found if one.kind == "board_copy"]
    assert (copy.records, copy.searched) == (1, True)
    assert "remove the file" in copy.says
