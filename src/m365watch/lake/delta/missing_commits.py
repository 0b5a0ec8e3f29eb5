"""Whether a commit is missing from the middle of a table's log: each names what it follows and replaces.

Delta takes a commit that has become empty for one without changes, and says nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import chain

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from m365watch.lake.delta.transaction_log import (
    commit_name,
    is_checkpoint_due,
    is_unmade,
    make_checkpoint,
    newest_checkpoint,
)
from m365watch.lake.schema import AUDIT, COLLECTORS_OUT, PARTITION
from m365watch.lake.store import Store

LAKE_GONE = "the lake is gone: its folder is not where it was"

BATCHES_OF_YOUNG_MAX = 8
"""Batches of one collector whose files may be there before any commit is: one that is committed and one that
is prepared, of four starts that each ended so."""
_OF_BATCH = re.compile(r"([0-9a-f]{12})-[0-9]{12}\.parquet")


class Standing(Enum):
    """How a table stands."""

    THERE = "there"
    NEW = "new"
    """Nothing was ever acknowledged to be in it, as far as is known: a start may make it."""
    LOST = "lost"


class CommitsLost(OSError):
    """The table was there, and its log is no more."""

    def __init__(self, store: Store) -> None:
        """Of that table."""
        super().__init__(said_of(store))
        self.store = store


def standing_of(store: Store, *, is_acknowledged: bool = False) -> Standing:
    """Whether the table is there, for whoever reads or looks; its folders can be entered.

    `is_acknowledged` says that the ledger has delivered a batch there: without it, a lake that is gone with
    all its files is new, and so is one of few batches whose log is gone.
    """
    if are_commits_lost(store, is_acknowledged=is_acknowledged):
        return Standing.LOST
    if store.has_commits():
        return Standing.THERE
    return Standing.LOST if is_acknowledged else Standing.NEW


def require_commits(store: Store, *, is_acknowledged: bool = False) -> None:
    """Nothing, where the table is whole or may be made. Raises: CommitsLost."""
    if standing_of(store, is_acknowledged=is_acknowledged) is Standing.LOST:
        raise CommitsLost(store)


def said_of(store: Store) -> str:
    """What is wrong there."""
    if not any(_files_of_records(store)):
        return LAKE_GONE
    return f"{store.table}/_delta_log has no commit, but files of records lie beside it"


def _files_of_records(store: Store) -> Iterator[str]:
    """The names of the files of records that lie in the table's folders, without the folders."""
    for file in store.list_after(f"{PARTITION}="):
        if file.name.endswith(".parquet"):
            yield file.name.rpartition("/")[2]


def are_commits_lost(store: Store, *, is_acknowledged: bool = False) -> bool:
    """Whether there was a log that told of the files in the table's folder, and is no more.

    Any file says so where a batch `is_acknowledged`, since its commit was on the disk before; and in a table
    besides, which is on the disk before it has any.
    """
    is_made = is_acknowledged or store.table != AUDIT
    return (
        is_unmade(store)
        and _was_filled(store, batches_max=0 if is_made else BATCHES_OF_YOUNG_MAX)
        # Looked at again: another collector may have made and filled it meanwhile.
        and is_unmade(store)
    )


def _was_filled(store: Store, *, batches_max: int) -> bool:
    """Whether the files are more than power cuts leave of a table that is about to begin.

    What is not named like a batch's file was made of committed ones. One name on several days is one batch.
    """
    batches: Counter[str] = Counter()
    for name in set(_files_of_records(store)):
        named = _OF_BATCH.fullmatch(name)
        if named is None:
            return True
        batches[named[1]] += 1
    return any(count > batches_max for count in batches.values())


BEFORE = "/before"
"""Behind an app id: under which number the batch before is kept."""


class _Numbered(msgspec.Struct, frozen=True):
    """One of Delta's app transactions."""

    appId: str  # noqa: N815 - Delta's name
    version: int


class _Named(msgspec.Struct, frozen=True):
    """A file that a commit adds or removes."""

    path: str


class _Line(msgspec.Struct, frozen=True):
    """The part of a commit's lines that counts here."""

    txn: _Numbered | None = None
    add: _Named | None = None
    remove: _Named | None = None


class _Commit:
    """What a commit says of batches and files."""

    def __init__(self, body: bytes) -> None:
        self.numbers: dict[str, int] = {}
        self.added: set[str] = set()
        self.removed: set[str] = set()
        for text in body.splitlines():
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                line = msgspec.json.decode(text, type=_Line)
                if line.txn is not None:
                    self.numbers[line.txn.appId] = line.txn.version
                if line.add is not None:
                    self.added.add(line.add.path)
                if line.remove is not None:
                    self.removed.add(line.remove.path)


@dataclass(frozen=True, slots=True)
class _Gap:
    """What a commit counts on, and none holds."""

    since: int
    """The version that still held what came before."""
    of_lost: str
    of_later: str


def checkpoint_if_due(table: DeltaTable, store: Store, version: int, *, before: int) -> bool:
    """Make a checkpoint of the table at `version`, its log synced, where one is due; whether one was made.

    None is while a batch is missing: it would be without the batch for good, and nobody would know. But of
    notices, which are as many as there is trouble: a log without checkpoints would make each dearer than the
    last, before the records behind it.
    """
    if not is_checkpoint_due(version, before=before):
        return False
    is_held = store.table != COLLECTORS_OUT
    if is_held and any(True for _ in list_lost_batches(store, version)):
        return False
    make_checkpoint(table, store)
    return True


def list_lost_batches(store: Store, version: int) -> Iterator[tuple[str, str]]:
    """Each commit up to `version` that has lost what a later one counts on, and how it is.

    That is a batch that the later one follows, or a file that it replaces: without the commit of a merge, the
    records are there twice once what it made is merged again. From the last checkpoint on: what that holds is
    not read from commits any more. A file is named from the table's folder on; the later one is where none
    between is empty. An empty commit whose batch came again after a power cut has lost nothing.
    Raises: any of WRITE_FAILURES.
    """
    first = newest_checkpoint(store)
    batches, files = _Batches(store, first), _Files(store, first)
    empty: dict[int, str] = {}
    told: set[str] = set()
    for at in range(first + 1, version + 1):
        name = commit_name(at)
        body = store.get(name)
        if body is None:
            return  # A newer checkpoint, made meanwhile, stands for it.
        if not body:
            empty[at] = name
        commit = _Commit(body)
        for gap in chain(batches.gaps(at, commit), files.gaps(commit)):
            lost = [one for place, one in empty.items() if place > gap.since] or [name]
            reason = gap.of_later if lost == [name] else gap.of_lost
            yield from ((one, reason) for one in lost if one not in told)
            told.update(lost)


class _Batches:
    """The batches that a table's commits name, each with the one before it."""

    def __init__(self, store: Store, first: int) -> None:
        """From the checkpoint of version `first` on; -1 for none."""
        self._store = store
        self._first = first
        self._known: dict[str, tuple[int, int]] = {}
        self._is_sure = True
        """Each commit since the checkpoint is some batch's, so that none of them was another's."""

    def gaps(self, at: int, commit: _Commit) -> Iterator[_Gap]:
        """The batches that this commit follows and none before it holds."""
        numbers = commit.numbers
        for app_id in (one for one in numbers if not one.endswith(BEFORE)):
            follows = numbers.get(app_id + BEFORE)
            if follows is not None:  # Else of an older version, which did not say, or of an erasure.
                number, since = self._known.get(app_id) or (self._number_held(app_id, follows), self._first)
                if follows > number:
                    yield _Gap(
                        since,
                        f"is empty, and no commit holds batch {follows}",
                        f"follows batch {follows}, which no commit holds",
                    )
            self._known[app_id] = numbers[app_id], at
        self._is_sure = self._is_sure and bool(numbers)

    def _number_held(self, app_id: str, follows: int) -> int:
        """The number that the checkpoint holds; 0 before there was one.

        To read it takes 3 to 20 ms, and every start asks: not where nothing can have been lost since.
        """
        if self._is_sure:
            return follows
        if self._first < 0:
            return 0
        return self._store.open(self._first).transaction_version(app_id) or 0


class _Files:
    """The files that a table's commits name."""

    def __init__(self, store: Store, first: int) -> None:
        """From the checkpoint of version `first` on; -1 for none."""
        self._store = store
        self._first = first
        self._added: set[str] = set()
        self._held: set[str] | None = None if first >= 0 else set()
        self._is_sure = True
        """Each commit since the checkpoint says something of files or batches, so that nothing was lost."""

    def gaps(self, commit: _Commit) -> Iterator[_Gap]:
        """Whether this commit replaces a file that none before it holds."""
        replaced = commit.removed - self._added
        if replaced and not self._is_sure and not replaced <= self._files_held():
            yield _Gap(
                self._first,
                "is empty, and no commit holds files that a later one replaces",
                "replaces files that no commit holds",
            )
        self._added |= commit.added
        self._is_sure = self._is_sure and bool(commit.numbers or commit.added or commit.removed)

    def _files_held(self) -> set[str]:
        """Those that the checkpoint holds, as a commit names them."""
        if self._held is None:
            table = self._store.open(self._first)
            self._held = set(pa.table(table.get_add_actions()).column("path").to_pylist())
        return self._held
