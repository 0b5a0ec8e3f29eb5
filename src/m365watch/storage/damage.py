"""Whether a ledger's file is sound, and what becomes of one that is not: it is set aside, never removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import structlog

from m365watch.common.atomic_files import sync_folder
from m365watch.common.clock import Clock
from m365watch.common.errors import LedgerUnusable
from m365watch.storage.sqlite import FAILURES, is_damage, name_failure, suspicion_of

CHECK_S = 1.0
"""How long a start may look for damage; 3 million identities take 0.3 s in memory, 10 s on a slow disk."""
_STEPS = 1_000
"""SQLite's steps between two looks at the clock."""
_PROBLEMS_MAX = 20
_HEADING = "***"
"""How a line of SQLite's begins that names the database and no problem."""
_COMPANIONS = ("-wal", "-shm")
_FAST_FIRST = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('identity_page', 'held', 'number')"
)
_log = structlog.get_logger(__name__)


def find_damage(connection: sqlite3.Connection, *, thorough: bool = False) -> list[str]:
    """What SQLite says is wrong with the file, in its own words, at most 20 of them; empty: nothing.

    A thorough look reads every index against its table as well.

    Raises: sqlite3.OperationalError: interrupted.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    try:
        if not thorough:
            # The few pages that matter most come first: a look that is cut short has seen them.
            for (table,) in connection.execute(_FAST_FIRST).fetchall():
                if problems := _ask(connection, f'PRAGMA {pragma}("{table}")'):
                    return problems
        return _ask(connection, f"PRAGMA {pragma}({_PROBLEMS_MAX})")
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return [str(error)]


def _ask(connection: sqlite3.Connection, question: str) -> list[str]:
    said = [str(row[0]) for row in connection.execute(question).fetchmany(_PROBLEMS_MAX)]
    lines = [line for text in said for line in text.splitlines() if not line.startswith(_HEADING)]
    return [] if lines == ["ok"] else lines[:_PROBLEMS_MAX] or said


@contextmanager
def within(connection: sqlite3.Connection, limit_s: float, clock: Clock) -> Iterator[None]:
    """In the block a statement that is not done after `limit_s` seconds is interrupted."""
    end_s = clock.monotonic_s() + limit_s
    connection.set_progress_handler(lambda: clock.monotonic_s() > end_s, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def watched(connection: sqlite3.Connection, on_step: Callable[[], None], *, steps: int = 100_000) -> None:
    """Call `on_step` now and then while a statement takes its time."""

    def look() -> int:
        on_step()
        return 0

    connection.set_progress_handler(look, steps)


class DamageGuard:
    """Called with a ledger's path before it is opened: sets a damaged one aside, so that a new one begins."""

    def __init__(self, clock: Clock, *, limit_s: float = CHECK_S) -> None:
        """Looks for `limit_s` seconds at most, but to the end where a run met damage."""
        self._clock = clock
        self._limit_s = limit_s

    def __call__(self, path: Path) -> None:
        """Nothing, or the ledger at `path` is set aside. Its lock has to be held.

        Raises: LedgerUnusable: it cannot be read or moved, for another reason than damage.
        """
        suspicion = suspicion_of(path)
        try:
            if not path.exists():
                set_aside(path, at=self._clock.now())
                return
            problems = self._look(path, to_the_end=suspicion.exists())
            if problems:
                kept = set_aside(path, at=self._clock.now())
                _log.error(
                    f"the ledger was damaged ({problems[0]}); it is kept as {kept}, and a new one begins: "
                    "what is still served is listed again, and what the outputs hold is read from them"
                )
            suspicion.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerUnusable(
                f"the ledger cannot be looked at ({error.strerror or error})",
                where=str(path),
                fix="let this user read and write the state directory",
            ) from error

    def _look(self, path: Path, *, to_the_end: bool) -> list[str]:
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                if to_the_end:
                    return find_damage(connection, thorough=True)
                with within(connection, self._limit_s, self._clock):
                    return find_damage(connection)
        except FAILURES as error:
            if is_damage(error):
                return [str(error)]
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                _log.debug(
                    f"{path}: too large to be looked through at a start; `ledger check` looks at all of it"
                )
                return []
            raise name_failure(error, path) from error


def set_aside(path: Path, *, at: datetime) -> Path:
    """Give the ledger at `path`, and what SQLite keeps beside it, a name with the time; that name.

    Raises: OSError.
    """
    kept = aside_name(path, at=at)
    # The log first: one without its ledger is of no use to another, and would be taken for the new one's.
    for suffix in (*_COMPANIONS, ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    sync_folder(path.parent)
    return kept


def aside_name(path: Path, *, at: datetime, why: str = "damaged") -> Path:
    """A name beside `path` that nothing has yet: ledger-20261124T220000Z.damaged.sqlite."""
    stem = f"{path.stem}-{at:%Y%m%dT%H%M%SZ}"
    number = 1
    kept = path.with_name(f"{stem}.{why}{path.suffix}")
    while kept.exists():
        number += 1
        kept = path.with_name(f"{stem}-{number}.{why}{path.suffix}")
    return kept
