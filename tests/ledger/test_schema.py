"""A ledger of another version is refused by name, whoever opens it, and stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerUnusable
from m365watch.ledger.backup import back_up, check_ledger, put_in
from m365watch.ledger.quarantine import forget_memory
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.schema import LEDGER
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.storage.database import connect

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def ledger_of(version: int, folder: Path) -> Path:
    """A ledger whose file says that it is of that version."""
    SqliteLedger(folder, outputs=frozenset({"lake"}), now=NOW).close()
    path = folder / LEDGER_FILE
    with closing(connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    return path


def run(path: Path) -> None:
    SqliteLedger(path.parent, outputs=frozenset({"lake"}), now=NOW).close()


def read(path: Path) -> None:
    with ledger_for_reading(path):
        pass


def put_back(path: Path) -> None:
    put_in(path.with_name("present.sqlite"), path, now=NOW, on_pages=lambda _done, _total: None)


def back_it_up(path: Path) -> None:
    back_up(path, path.with_name("copy"), on_pages=lambda _done, _total: None)


@guarantee(20)
@pytest.mark.parametrize(
    "use",
    [
        run,
        read,
        lambda path: forget_memory(path, "expiry"),
        lambda path: check_ledger(path, on_step=lambda: None),
        back_it_up,
        put_back,
    ],
    ids=["run", "read", "change", "check", "back up", "put back"],
)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_ledger_of_another_version_is_refused_and_stays_as_it_is(
    tmp_path: Path, step: int, use: Callable[[Path], None]
) -> None:
    """Nobody knows what the other version must keep; an older file can be moved aside."""
    path = ledger_of(LEDGER.version + step, tmp_path)
    before = path.read_bytes()

    with pytest.raises(LedgerUnusable, match=f"has schema {LEDGER.version + step}") as refused:
        use(path)

    assert refused.value.fix.startswith("use the m365watch that wrote it")
    assert ("move it aside" in refused.value.fix) == (step < 0)
    assert path.read_bytes() == before
    assert not {"copy", "present.sqlite"} & {one.name for one in tmp_path.iterdir()}
