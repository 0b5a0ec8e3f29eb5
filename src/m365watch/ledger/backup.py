"""A copy of the ledger made beside a running collector, one put back, and a thorough look at either."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from m365watch.common.atomic_files import sync_file, sync_folder
from m365watch.common.errors import LedgerUnusable
from m365watch.ledger.ledger_database import other_version
from m365watch.ledger.lock import hold_ledger
from m365watch.ledger.queries import instant, ledger_for_reading, require_ledger, unreadable
from m365watch.ledger.reconciliation_store import mark_put_back
from m365watch.ledger.schema import LEDGER
from m365watch.storage.damage import aside_name, find_damage, set_aside, watched
from m365watch.storage.database import (
    Database,
    DatabaseError,
    Failure,
    OtherVersion,
    connect,
    failure_of,
    is_database,
)

OnPages = Callable[[int, int], None]
"""Hears how many pages are done, and of how many."""
PAGES_AT_ONCE = 2_000
"""16 MB, after which progress is told."""
_PROBLEMS_MAX = 20
_OF_WRITING = {Failure.FULL, Failure.WRITE}
"""Failures of a copy that are those of its target: its source is only read."""
_CONTRADICTIONS = (
    (
        "blobs that are of no feed",
        "SELECT count(*) FROM blob WHERE feed NOT IN (SELECT id FROM feed)",
    ),
    (
        "blobs that are finished and not, at once",
        "SELECT count(*) FROM blob WHERE (state IN (1, 2, 3)) != (finished_s IS NOT NULL)",
    ),
    (
        "batches whose identities are not those of their parts",
        """SELECT count(*) FROM batch WHERE identities != x'' AND length(identities) != 16 *
        (SELECT total(json_extract(value, '$[1]')) FROM json_each(parts))""",
    ),
    (
        "outputs that have batches which were never numbered",
        """SELECT count(*) FROM output WHERE last_batch >
        ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'batch'), 0)""",
    ),
    (
        "spans of listed time that end before they begin",
        "SELECT count(*) FROM coverage WHERE end_s <= start_s",
    ),
    (
        "pages of identities that are not what their first one says",
        "SELECT count(*) FROM identity_page WHERE substr(rows, 1, 16) != first OR length(rows) % 22 != 0",
    ),
)
"""What must not be, and how often it is."""
_COUNT_IDENTITIES = "SELECT ifnull(sum(length(rows) / 22), 0) FROM identity_page"
_COUNT_UNMERGED = "SELECT ifnull(sum(length(identities) / 16), 0) FROM batch"


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What a thorough look at a ledger found."""

    path: Path
    schema: int
    size_bytes: int
    problems: list[str]
    """Each in one line; empty: sound."""
    blobs: int = 0
    identities: int = 0
    as_of: datetime | None = None
    """When a listing was last committed."""


@dataclass(frozen=True, slots=True)
class PutIn:
    """What came of putting a ledger back."""

    as_of: datetime | None
    """When the copy's last listing was; None where it has none."""
    kept: Path | None
    """Under what name the ledger that was there before is kept; None where there was none."""


def check_ledger(path: Path, *, on_step: Callable[[], None]) -> LedgerCheck:
    """Look at every page of the ledger at `path`, and at what must not be in it; changes nothing.

    Works beside a collector, on one moment's state.

    Raises: LedgerUnusable: there is none, or it cannot be read.
    """
    require_ledger(path)
    size_bytes = path.stat().st_size
    try:
        with closing(_open_for_reading(path)) as connection:
            watched(connection, on_step)
            problems = find_damage(connection, thorough=True)
            if problems:
                return LedgerCheck(path, 0, size_bytes, problems)
            return _check_contents(connection, path, size_bytes)
    except DatabaseError as error:
        if failure_of(error) is Failure.INTERRUPTED:
            # What a Ctrl-C becomes that `on_step` meets: SQLite knows no other way to pass it on.
            raise KeyboardInterrupt from None
        raise unreadable(error, path) from error


def _open_for_reading(path: Path) -> Database:
    connection = connect(path, mode="ro")
    connection.execute("BEGIN")
    return connection


def _check_contents(connection: Database, path: Path, size_bytes: int) -> LedgerCheck:
    _require_ledger(connection, path)
    problems = [
        f"{count:,} {what}"
        for what, question in _CONTRADICTIONS
        if (count := int(connection.execute(question).fetchone()[0]))
    ]
    [blobs] = connection.execute("SELECT count(*) FROM blob").fetchone()
    [stored] = connection.execute(_COUNT_IDENTITIES).fetchone()
    [unmerged] = connection.execute(_COUNT_UNMERGED).fetchone()
    return LedgerCheck(
        path, LEDGER.version, size_bytes, problems, blobs, stored + unmerged, _as_of(connection)
    )


def _require_ledger(connection: Database, path: Path) -> None:
    """Raises: LedgerUnusable: it is no ledger, or one of another version."""
    if not _has_tables(connection):
        raise LedgerUnusable("is no ledger", where=str(path), fix="name a file that `ledger backup` wrote")
    try:
        connection.require(LEDGER)
    except OtherVersion as error:
        raise other_version(error, path) from error


def _has_tables(connection: Database) -> bool:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
    return connection.version > 0 and {"meta", "feed", "blob", "batch"} <= tables


def _as_of(connection: Database) -> datetime | None:
    return instant(connection.execute("SELECT max(listed_at) FROM feed").fetchone()[0])


def back_up(
    path: Path, target: Path, *, on_pages: OnPages, pages_at_once: int = PAGES_AT_ONCE
) -> LedgerCheck:
    """Copy the ledger at `path` to `target`, as it is at one moment; what a look at the copy found.

    The copy is one file, its owner's alone, and gets its name only once it is whole and sound. A copy that
    was there before is replaced; any other file is not. While it is made, the collector goes on.

    Raises: LedgerUnusable: there is no ledger, it is damaged, or `target` cannot be written.
    """
    require_ledger(path)
    _refuse_strange_target(path, target)
    with _drafted(target) as draft:
        with ledger_for_reading(path) as source:
            # From here on the copy is of this moment, whatever the collector writes meanwhile.
            source.execute("SELECT 1 FROM meta").fetchall()
            try:
                _copy(source, draft, on_pages, pages_at_once=pages_at_once)
            except DatabaseError as error:
                if failure_of(error) in _OF_WRITING:
                    raise _unwritable(target, str(error)) from error
                raise
        found = _verify(draft, target)
        _give_name(draft, target)
        return found


def _refuse_strange_target(path: Path, target: Path) -> None:
    fix = "name another file"
    if not target.parent.is_dir():
        raise LedgerUnusable("its folder is not there", where=str(target), fix="make it, or name another one")
    if target.exists():
        if target.samefile(path):
            raise LedgerUnusable("is the ledger itself", where=str(target), fix=fix)
        if not is_database(target) or not _is_ledger(target):
            raise LedgerUnusable("is there already, and is no copy of a ledger", where=str(target), fix=fix)


def _is_ledger(path: Path) -> bool:
    """Whether it is one, of whatever version."""
    try:
        with closing(_open_for_reading(path)) as connection:
            return _has_tables(connection)
    except DatabaseError:
        return False


@contextmanager
def _drafted(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, which is gone after the block unless it was renamed."""
    draft = target.with_name(f"{target.name}.partial")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield draft
    except OSError as error:
        raise _unwritable(target, error.strerror or str(error)) from error
    except DatabaseError as error:
        raise _unwritable(target, str(error)) from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _unwritable(target: Path, why: str) -> LedgerUnusable:
    return LedgerUnusable(
        f"the copy cannot be written ({why})",
        where=str(target),
        fix="make room, or name a place that this user can write",
    )


def _copy(source: Database, draft: Path, on_pages: OnPages, *, pages_at_once: int = PAGES_AT_ONCE) -> None:
    """`source` in `draft`, with word to the next run that it is a copy."""
    source.copy_to(draft, on_pages, pages_at_once=pages_at_once)
    with closing(connect(draft)) as copy, copy.transaction():
        mark_put_back(copy)


def _verify(draft: Path, target: Path) -> LedgerCheck:
    """What a look at the copy finds. Raises: LedgerUnusable: it is not sound."""
    found = check_ledger(draft, on_step=lambda: None)
    if found.problems:
        raise LedgerUnusable(
            f"the ledger is damaged, and the copy with it ({found.problems[0]})",
            where=str(target),
            fix="look at the disk, and start `m365watch run` again: it sets a damaged ledger aside",
        )
    return replace(found, path=target)


def _give_name(draft: Path, target: Path) -> None:
    """Let the copy be `target`, durably."""
    sync_file(draft)
    draft.replace(target)
    sync_folder(target.parent)


def put_in(path: Path, source: Path, *, now: datetime, on_pages: OnPages) -> PutIn:
    """Let the ledger at `path` be a copy of `source`; the present one is kept under another name.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: `source` is no sound ledger, or nothing can
    be written: the present one is as it was.
    """
    require_copy(source)
    lock = hold_ledger(path)
    try:
        found = _require_sound(source)
        with _drafted(path) as draft:
            with closing(_open_for_reading(source)) as connection:
                _copy(connection, draft, on_pages)
            _verify(draft, source)
            _settle(path)
            kept = _keep_present(path, now)
            _give_name(draft, path)
        return PutIn(found.as_of, kept)
    finally:
        lock.release()


def require_copy(source: Path) -> None:
    """Nothing, where there is a file of that name. Raises: LedgerUnusable."""
    if not source.is_file():
        raise LedgerUnusable(
            "there is no such file", where=str(source), fix="name a file that `ledger backup` wrote"
        )


def _require_sound(source: Path) -> LedgerCheck:
    found = check_ledger(source, on_step=lambda: None)
    if found.problems:
        raise LedgerUnusable(
            f"the copy is damaged ({found.problems[0]})",
            where=str(source),
            fix="name another copy; without any, the next `m365watch run` begins a new ledger",
        )
    return found


def _settle(path: Path) -> None:
    """Bring what stands beside the present ledger into it, where it is sound enough for that."""
    if not path.exists():
        return
    with suppress(DatabaseError), closing(connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _keep_present(path: Path, now: datetime) -> Path | None:
    """The present ledger's other name; it keeps its own too until the copy takes its place."""
    if any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-shm")):
        # It could not be settled, and what is beside it must not meet the copy.
        return set_aside(path, at=now)
    if not path.exists():
        return None
    kept = aside_name(path, at=now, why="replaced")
    os.link(path, kept)
    return kept
