"""The ledger's file: how it is opened, when its transactions are durable, and what its failures mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import ENOSPC
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import LedgerUnavailable, LedgerUnusable
from m365watch.common.file_access import disk_fix, why_denied
from m365watch.ledger.schema import LEDGER
from m365watch.storage.damage import CHECK_S, set_aside, set_aside_damaged
from m365watch.storage.database import (
    FAILURES,
    Database,
    DatabaseError,
    Failure,
    OtherVersion,
    failure_of,
    has_no_room,
    open_database,
    suspect,
)

sync_content: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""As SQLite itself does it; not every system can leave out a file's times."""
_PASSING = {Failure.BUSY, Failure.FULL, Failure.WRITE, Failure.IO}
_LARGE = ("identity_page", "held", "number")
_log = structlog.get_logger(__name__)


class Durability:
    """Syncs the write-ahead log of a connection: all transactions before are durable then.

    A log counts up to its first frame that is not whole, so that a power cut before the sync takes away the
    last transactions and none from among them (https://sqlite.org/walformat.html, "The WAL File Format").
    """

    def __init__(
        self, connection: Database, path: Path, *, sync: Callable[[int], None] = sync_content
    ) -> None:
        """Leave transactions as they are, durable one by one, until `defer`; `path` is the database's."""
        self._connection = connection
        self._path = path
        self._sync = sync
        self._synced_changes = -1

    def defer(self) -> Callable[[], None]:
        """Let transactions from here on be durable with `settle` only, which is returned."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        return self.settle

    def settle(self) -> None:
        """Make durable what was committed since the last time; nothing where nothing was.

        Raises: LedgerUnusable: what has happened since then may be lost.
        """
        changes = self._connection.total_changes
        if changes == self._synced_changes:
            return
        try:
            if self._synced_changes < 0:
                self._sync_file(self._path.parent)  # The log's name, which is there from now on.
            self._sync_file(Path(f"{self._path}-wal"))
        except OSError as error:
            raise LedgerUnusable(
                f"the ledger's log cannot be brought to the disk ({error.strerror or error})",
                where=str(self._path),
                fix="look at the disk, then start `m365watch run` again: it goes on with what the disk has",
            ) from error
        self._synced_changes = changes

    def _sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)


def open_ledger(path: Path) -> Database:
    """The ledger's file, made if there is none. Raises: LedgerUnusable; LedgerUnavailable."""
    try:
        database = open_database(path, LEDGER)
    except FAILURES as error:
        raise name_failure(error, path) from error
    path.chmod(0o600)
    return database


P = ParamSpec("P")
T = TypeVar("T")


class HasPath(Protocol):
    """What names its file in an error."""

    path: Path


Named = TypeVar("Named", bound=HasPath)


def failures_named(method: Callable[Concatenate[Named, P], T]) -> Callable[Concatenate[Named, P], T]:
    """The method, its failures at the database in words that the collector knows."""

    @wraps(method)
    def named(self: Named, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except FAILURES as error:
            raise name_failure(error, self.path) from error

    return named


def name_failure(error: DatabaseError | UnicodeDecodeError, path: Path) -> LedgerUnavailable | LedgerUnusable:
    """A full disk or a lock passes; damage is mended by the next start; anything else needs a person."""
    if isinstance(error, OtherVersion):
        return other_version(error, path)
    failure = failure_of(error)
    if failure is Failure.DAMAGE:
        suspect(path)
        return LedgerUnusable(
            f"the ledger is damaged ({error})",
            where=str(path),
            fix="look at the disk, then start `m365watch run` again: it sets a damaged ledger aside, "
            "and reads what the outputs hold",
        )
    if failure in _PASSING:
        why, fix = str(error), ""
        if has_no_room(path):
            why, fix = "its disk is full", disk_fix(ENOSPC, path.parent)
        return LedgerUnavailable(f"the ledger cannot be written ({why})", where=str(path), fix=fix)
    if closed := why_denied(path):
        fix = "run the collector as the user whose it is, or let this one read and write it"
        return LedgerUnusable(f"the ledger {closed}", where=str(path), fix=fix)
    why = "it holds bytes that are no text" if isinstance(error, UnicodeDecodeError) else str(error)
    return LedgerUnusable(
        f"the ledger cannot be used ({why})",
        where=str(path),
        fix="check the disk; where the file is moved aside, the next run begins a new one",
    )


def other_version(error: OtherVersion, path: Path) -> LedgerUnusable:
    """What to say of a ledger of another schema than this version's."""
    fix = "use the m365watch that wrote it"
    if error.version < error.known:
        fix += ", or move it aside: the next run begins a new ledger and reads what the outputs hold"
    what = f"the ledger has schema {error.version}, this version knows {error.known}"
    return LedgerUnusable(what, where=str(path), fix=fix)


def directory_unusable(directory: Path, error: OSError) -> LedgerUnusable:
    """What to say of a state directory that fails before the ledger is opened."""
    return LedgerUnusable(
        f"the state directory cannot be used ({error.strerror or error})",
        where=str(directory),
        fix="make it a directory that this user can write",
    )


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
        try:
            if not path.exists():
                set_aside(path, at=self._clock.now())  # A log without its ledger.
                return
            found = set_aside_damaged(path, self._clock, limit_s=self._limit_s, large=_LARGE)
        except OSError as error:
            raise LedgerUnusable(
                f"the ledger cannot be looked at ({error.strerror or error})",
                where=str(path),
                fix="let this user read and write the state directory",
            ) from error
        except FAILURES as error:
            raise name_failure(error, path) from error
        if found is not None:
            _log.error(
                f"the ledger was damaged ({found.problem}); it is kept as {found.kept}, and a new one "
                "begins: what is still served is listed again, and what the outputs hold is read from them"
            )
