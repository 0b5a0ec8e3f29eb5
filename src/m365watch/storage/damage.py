"""Whether a database file is sound, and what becomes of one that is not: it is set aside, never removed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from m365watch.common.atomic_files import sync_folder
from m365watch.common.clock import Clock
from m365watch.storage.database import (
    FAILURES,
    Database,
    DatabaseError,
    Failure,
    connect,
    failure_of,
    is_damage,
    suspicion_of,
)

CHECK_S = 1.0
"""How long a start may look for damage; 3 million identities take 0.3 s in memory, 10 s on a slow disk."""
_STEPS = 1_000
"""SQLite's steps between two looks at the clock."""
_PROBLEMS_MAX = 20
_HEADING = "***"
"""How a line of SQLite's begins that names the database and no problem."""
_COMPANIONS = ("-wal", "-shm")
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
_log = structlog.get_logger(__name__)


def find_damage(database: Database, *, thorough: bool = False, large: Collection[str] = ()) -> list[str]:
    """What SQLite says is wrong with the file, in its own words, at most 20 of them; empty: nothing.

    A thorough look reads every index against its table as well. Any other begins with the tables that are
    not `large`: one that is cut short has seen the few pages that matter most.

    Raises: DatabaseError: interrupted.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    try:
        if not thorough:
            for (table,) in database.execute(_TABLES).fetchall():
                if table not in large and (problems := _ask(database, f'PRAGMA {pragma}("{table}")')):
                    return problems
        return _ask(database, f"PRAGMA {pragma}({_PROBLEMS_MAX})")
    except DatabaseError as error:
        if not is_damage(error):
            raise
        return [str(error)]


def _ask(database: Database, question: str) -> list[str]:
    said = [str(row[0]) for row in database.execute(question).fetchmany(_PROBLEMS_MAX)]
    lines = [line for text in said for line in text.splitlines() if not line.startswith(_HEADING)]
    return [] if lines == ["ok"] else lines[:_PROBLEMS_MAX] or said


@contextmanager
def within(database: Database, limit_s: float, clock: Clock) -> Iterator[None]:
    """In the block a statement that is not done after `limit_s` seconds is interrupted."""
    end_s = clock.monotonic_s() + limit_s
    database.set_progress_handler(lambda: clock.monotonic_s() > end_s, _STEPS)
    try:
        yield
    finally:
        database.set_progress_handler(None, 0)


def watched(database: Database, on_step: Callable[[], None], *, steps: int = 100_000) -> None:
    """Call `on_step` now and then while a statement takes its time."""

    def look() -> int:
        on_step()
        return 0

    database.set_progress_handler(look, steps)


def problem_of(
    path: Path,
    clock: Clock,
    *,
    limit_s: float = CHECK_S,
    large: Collection[str] = (),
    open_file: Callable[[Path], Database] = connect,
) -> str:
    """What is wrong with the file, in SQLite's words; empty for nothing that was found.

    All of it is looked through where a run met damage, else for `limit_s` seconds. Raises: DatabaseError.
    """
    try:
        with closing(open_file(path)) as database:
            if suspicion_of(path).exists():
                return "".join(find_damage(database, thorough=True)[:1])
            with within(database, limit_s, clock):
                return "".join(find_damage(database, large=large)[:1])
    except FAILURES as error:
        if is_damage(error):
            return str(error)
        if failure_of(error) is not Failure.INTERRUPTED:
            raise
        _log.debug(f"{path}: too large to be looked through at a start")
        return ""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A damaged file that has another name now."""

    problem: str
    kept: Path


def set_aside_damaged(
    path: Path, clock: Clock, *, limit_s: float = CHECK_S, large: Collection[str] = ()
) -> SetAside | None:
    """Give the file another name if it is damaged; None if it stays. Whoever writes it has to hold its lock.

    Raises: OSError: it cannot be looked at or moved; DatabaseError: it cannot be opened.
    """
    problem = problem_of(path, clock, limit_s=limit_s, large=large)
    found = SetAside(problem, set_aside(path, at=clock.now())) if problem else None
    suspicion_of(path).unlink(missing_ok=True)
    return found


def set_aside(path: Path, *, at: datetime) -> Path:
    """Give the file at `path`, and what SQLite keeps beside it, a name with the time; that name.

    Raises: OSError.
    """
    kept = aside_name(path, at=at)
    # The log first: one without its file is of no use to another, and would be taken for the new one's.
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
