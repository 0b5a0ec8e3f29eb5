"""A disk that fills up in the middle of a commit: nothing happened, and what is repeated happens once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from promises import guarantee
from small_disk import small_disk

from m365watch.common.errors import LedgerUnavailable
from m365watch.ledger.backup import check_ledger
from m365watch.ledger.ledger_database import open_ledger
from m365watch.ledger.sqlite_ledger import LEDGER_FILE

FILLED = '''
import resource, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from m365watch.common.errors import LedgerUnavailable
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.common.model import BatchPart, BlobRef, ContentType, Feed, Header, Receipt, TenantId, Window

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("1" * 36), ContentType.EXCHANGE)
LAKE = frozenset({"lake"})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, HARD = resource.getrlimit(resource.RLIMIT_FSIZE)
folder = Path(sys.argv[1])
ledger = SqliteLedger(folder, outputs=LAKE, now=NOW)
log = Path(f"{ledger.path}-wal")
failures = 0

def with_room(room_bytes, verb):
    """What the verb answers; first with so many bytes left in the log, then with room."""
    global failures
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + room_bytes, HARD))
    try:
        return verb()
    except LedgerUnavailable:
        failures += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if HARD < 0 else HARD, HARD))
    return verb()

for round_ in range(60):
    room = round_ * 700
    name = f"content{round_}"
    ref = BlobRef(FEED, name, NOW, NOW + timedelta(days=7))
    window = Window(NOW - timedelta(hours=1), NOW)
    new = with_room(room, lambda: ledger.commit_listing(FEED, window, [ref], complete=True, at=NOW))
    assert new == 1, new
    [due] = ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    part = BatchPart(
        blob=due.key, feed=FEED, received_at=NOW, records=[b"a"] * 300, headers=[Header()] * 300,
        tables=["t"] * 300, missing_outputs=LAKE,
        identities=[f"{round_:08}{place:08}".encode() for place in range(300)],
    )
    opened = with_room(room, lambda: ledger.open_batch([part], LAKE))
    assert not opened.duplicates
    with_room(room, lambda: ledger.commit_delivered(opened.number, "lake", Receipt(name), at=NOW))
    [progress] = ledger.feed_progress()
    assert (progress.blobs_waiting, progress.blobs_delivered) == (0, round_ + 1), progress
print(failures)
'''


@guarantee(20)
def test_a_disk_that_fills_during_a_commit_leaves_the_ledger_whole(tmp_path: Path) -> None:
    """Cut short at every 700 bytes of each verb's commit; the repeat counts once, in memory and on disk."""
    ended = subprocess.run(
        [sys.executable, "-c", FILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 60
    found = check_ledger(tmp_path / LEDGER_FILE, on_step=lambda: None)
    assert (found.problems, found.blobs, found.identities) == ([], 60, 60 * 300)


@pytest.mark.parametrize("left_bytes", [4_096, 40_000, 70_000])
def test_a_start_on_a_full_disk_says_that_it_is_full(tmp_path: Path, left_bytes: int) -> None:
    """SQLite calls it a disk I/O error where it finds no room for its first page."""
    folder = tmp_path / "state"
    with small_disk(folder, left_bytes=left_bytes) as ballast:
        with pytest.raises(LedgerUnavailable, match=f"its disk is full.*; make room on the disk of {folder}"):
            open_ledger(folder / LEDGER_FILE).close()
        ballast.unlink()

        open_ledger(folder / LEDGER_FILE).close()
