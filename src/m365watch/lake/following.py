"""Whether a batch is missing from the middle of a table's log: each commit names the batch that it follows.

Delta takes a commit that has become empty for one without changes, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from deltalake import DeltaTable

from m365watch.durable import size_of
from m365watch.lake.commits import (
    commit_path,
    commits_of,
    is_checkpoint_due,
    make_checkpoint,
    newest_checkpoint,
)

BEFORE = "/before"
"""Behind an app id: under which number the batch before is kept."""


class _Numbered(msgspec.Struct, frozen=True):
    """One of Delta's app transactions."""

    appId: str  # noqa: N815 - Delta's name
    version: int


class _Line(msgspec.Struct, frozen=True):
    """The part of a commit's lines that counts here; most have none."""

    txn: _Numbered | None = None


def checkpoint_if_due(table: DeltaTable, table_directory: Path, version: int, *, before: int) -> bool:
    """Make a checkpoint of the table at `version`, its log synced, where one is due; whether one was made.

    None is while a batch is missing: it would be without the batch for good, and nobody would know.
    """
    is_due = is_checkpoint_due(version, before=before)
    if not is_due or any(True for _ in list_lost_batches(table_directory, version)):
        return False
    make_checkpoint(table, table_directory)
    return True


def list_lost_batches(table_directory: Path, version: int) -> Iterator[tuple[str, str]]:
    """Each commit up to `version` that has lost a batch that a later one follows, and how it is.

    From the last checkpoint on: what that holds is not read from commits any more. A file is named from the
    table's folder on; the later one is where none between is empty. An empty commit whose batch came again
    after a power cut has lost nothing.
    Raises: any of WRITE_FAILURES.
    """
    first = newest_checkpoint(table_directory)
    known: dict[str, tuple[int, int]] = {}
    empty: dict[int, str] = {}
    is_sure = True
    for at in range(first + 1, version + 1):
        path = commit_path(table_directory, at)
        name = f"{commits_of(Path()).name}/{path.name}"
        try:
            numbers = _numbers_in(path.read_bytes())
        except FileNotFoundError:
            return  # A newer checkpoint, made meanwhile, stands for it.
        if not size_of(path):
            empty[at] = name
        for app_id in (one for one in numbers if not one.endswith(BEFORE)):
            follows = numbers.get(app_id + BEFORE)
            if follows is None:  # Of another table, or an older version, which did not say.
                known[app_id] = numbers[app_id], at
                continue
            if app_id not in known:
                # To read what the checkpoint holds takes 3 to 20 ms, and every start asks.
                number = follows if is_sure else _number_at(table_directory, first, app_id)
                known[app_id] = number, first
            number, since = known[app_id]
            if follows > number:
                lost = [one for place, one in empty.items() if place > since]
                yield from ((one, f"is empty, and no commit holds batch {follows}") for one in lost)
                if not lost:
                    yield name, f"follows batch {follows}, which no commit holds"
            known[app_id] = numbers[app_id], at
        # Each commit since the checkpoint is some batch's, so that none of them was another's.
        is_sure = is_sure and bool(numbers)


def _numbers_in(body: bytes) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in body.splitlines():
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (txn := msgspec.json.decode(line, type=_Line).txn) is not None:
                found[txn.appId] = txn.version
    return found


def _number_at(table_directory: Path, version: int, app_id: str) -> int:
    """The number that the table has had at that version; 0 before there was one."""
    if version < 0:
        return 0
    return DeltaTable(table_directory, version=version).transaction_version(app_id) or 0
