"""Whether a commit is missing from the middle of a table's log: each names what it follows and replaces.

Delta takes a commit that has become empty for one without changes, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from m365watch.common.atomic_files import size_of
from m365watch.lake.delta.transaction_log import (
    commit_path,
    commits_of,
    is_checkpoint_due,
    make_checkpoint,
    newest_checkpoint,
)
from m365watch.lake.schema import COLLECTORS_OUT

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


def checkpoint_if_due(table: DeltaTable, table_directory: Path, version: int, *, before: int) -> bool:
    """Make a checkpoint of the table at `version`, its log synced, where one is due; whether one was made.

    None is while a batch is missing: it would be without the batch for good, and nobody would know. But of
    notices, which are as many as there is trouble: a log without checkpoints would make each dearer than the
    last, before the records behind it.
    """
    if not is_checkpoint_due(version, before=before):
        return False
    is_held = table_directory.name != COLLECTORS_OUT
    if is_held and any(True for _ in list_lost_batches(table_directory, version)):
        return False
    make_checkpoint(table, table_directory)
    return True


def list_lost_batches(table_directory: Path, version: int) -> Iterator[tuple[str, str]]:
    """Each commit up to `version` that has lost what a later one counts on, and how it is.

    That is a batch that the later one follows, or a file that it replaces: without the commit of a merge, the
    records are there twice once what it made is merged again. From the last checkpoint on: what that holds is
    not read from commits any more. A file is named from the table's folder on; the later one is where none
    between is empty. An empty commit whose batch came again after a power cut has lost nothing.
    Raises: any of WRITE_FAILURES.
    """
    first = newest_checkpoint(table_directory)
    batches, files = _Batches(table_directory, first), _Files(table_directory, first)
    empty: dict[int, str] = {}
    told: set[str] = set()
    for at in range(first + 1, version + 1):
        path = commit_path(table_directory, at)
        name = f"{commits_of(Path()).name}/{path.name}"
        try:
            commit = _Commit(path.read_bytes())
        except FileNotFoundError:
            return  # A newer checkpoint, made meanwhile, stands for it.
        if not size_of(path):
            empty[at] = name
        for gap in chain(batches.gaps(at, commit), files.gaps(commit)):
            lost = [one for place, one in empty.items() if place > gap.since] or [name]
            reason = gap.of_later if lost == [name] else gap.of_lost
            yield from ((one, reason) for one in lost if one not in told)
            told.update(lost)


class _Batches:
    """The batches that a table's commits name, each with the one before it."""

    def __init__(self, table_directory: Path, first: int) -> None:
        """From the checkpoint of version `first` on; -1 for none."""
        self._directory = table_directory
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
        return DeltaTable(self._directory, version=self._first).transaction_version(app_id) or 0


class _Files:
    """The files that a table's commits name."""

    def __init__(self, table_directory: Path, first: int) -> None:
        """From the checkpoint of version `first` on; -1 for none."""
        self._directory = table_directory
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
            table = DeltaTable(self._directory, version=self._first)
            self._held = set(pa.table(table.get_add_actions()).column("path").to_pylist())
        return self._held
