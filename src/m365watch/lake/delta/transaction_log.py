"""How the log of a table comes to the disk, and what a power cut may have left at its end.

Delta syncs nothing. A commit counts for us when its file and its name are on the disk; a checkpoint before
old commits go for its sake. What a cut leaves is at the log's end and was acknowledged to nobody: the name
of a file whose contents never came.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from m365watch.lake.store import Store, StoredFile

COMMITS_PER_CHECKPOINT = 50
LOG = "_delta_log"
TORN_SUFFIX = ".torn"
_SYNCED = "m365watchSynced"
_NOTE = f"{LOG}/_last_checkpoint"
_LOCK = "mending.lock"
_REMOVAL = ["remove.path", "remove.deletionTimestamp"]
_CHECKPOINT = re.compile(LOG + r"/(\d{20})\.checkpoint\.(?:.*\.)?(?:parquet|json)")
_COMMIT = re.compile(LOG + r"/(\d{20})\.json")
_COPY = re.compile(LOG + r"/\.(\d{20})\.json\.[0-9a-f]+\.tmp")


class _Info(msgspec.Struct, frozen=True):
    """The part of a commit's `commitInfo` that counts here; other engines write none."""

    synced: str = msgspec.field(name=_SYNCED, default="")


class _Line(msgspec.Struct, frozen=True):
    """The part of a commit's lines that counts here."""

    commitInfo: _Info = _Info()  # noqa: N815 - Delta's name


class _Removal(msgspec.Struct, frozen=True):
    """One of Delta's `remove` actions."""

    path: str
    deletionTimestamp: int | None = None  # noqa: N815 - Delta's name


class _RemovalLine(msgspec.Struct, frozen=True):
    """The part of a commit's lines that says what was replaced."""

    remove: _Removal | None = None


class _LastCheckpoint(msgspec.Struct, frozen=True):
    """The part of Delta's `_last_checkpoint` that counts here."""

    version: int


def commit_name(version: int) -> str:
    """The name of the commit that made this version, in the table's store."""
    return f"{LOG}/{version:020}.json"


def newest_checkpoint(store: Store) -> int:
    """The version of the newest checkpoint's files, whatever the note says; -1 where there is none."""
    return max(read_commits(store)[1], default=-1)


def last_checkpoint(store: Store) -> int | None:
    """The version of the newest checkpoint; None where there is none, or its note cannot be read."""
    note = store.get(_NOTE)
    try:
        return None if note is None else msgspec.json.decode(note, type=_LastCheckpoint).version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def sync_commits(store: Store, version: int, *, after: int) -> int:
    """`version`, once every commit past `after` up to it would outlive a power cut.

    A single one is the caller's own, just made. Of several some are another process's: without them Delta
    cannot read past the hole, and what became of their syncs is not known.
    """
    store.sync(map(commit_name, range(after + 1, version + 1)), is_own=version == after + 1)
    return version


def sync_found(store: Store, version: int) -> int:
    """`version`, once every commit up to it would outlive a power cut, whoever made them.

    For a table that another process may have left, killed before it synced its last commit, or the checkpoint
    that came with that. What each commit notes of those before it spares syncing them all: 50 took 0.2 s.
    """
    checkpoint = last_checkpoint(store)
    first = -1 if checkpoint is None else checkpoint
    synced = next(_notes(store, range(version, first, -1)), first)
    if checkpoint is not None and synced <= checkpoint:
        _sync_checkpoint(store, checkpoint)
    # One that is gone has a checkpoint that stands for it.
    store.sync(map(commit_name, range(synced + 1, version + 1)))
    return version


def noted(synced_version: int) -> dict[str, str]:
    """For a commit's own metadata: up to which version its writer had synced the log before it."""
    return {_SYNCED: str(synced_version)}


def _notes(store: Store, versions: Iterable[int]) -> Iterator[int]:
    """What the commits of these versions note."""
    for version in versions:
        for line in (store.get(commit_name(version)) or b"").splitlines():
            with suppress(msgspec.DecodeError, ValueError, RecursionError):
                yield min(int(msgspec.json.decode(line, type=_Line).commitInfo.synced), version - 1)


def make_checkpoint(table: DeltaTable, store: Store) -> None:
    """Spare readers the commits before the version that `table` has seen, and let the old ones go.

    They go when the checkpoint is on the disk, and not before: it is all that is left of them.
    """
    table.create_checkpoint()
    _sync_checkpoint(store, table.version())
    table.cleanup_metadata()
    # Left by processes that were killed; of one at work just now, the checkpoint stands for the commit.
    for file in store.list_after(f"{LOG}/."):
        if (found := _COPY.fullmatch(file.name)) and int(found[1]) <= table.version():
            store.delete(file.name)


def _sync_checkpoint(store: Store, version: int) -> None:
    """Return once the note of the last checkpoint, and its files, would outlive a power cut."""
    files = [file.name for file in store.list_after(f"{LOG}/{version:020}.checkpoint")]
    store.sync([_NOTE, *files], is_own=True)


def is_checkpoint_due(version: int, *, before: int) -> bool:
    """Whether so many commits were made up to `version` that the one after `before` was still without."""
    return version // COMMITS_PER_CHECKPOINT > max(before, 0) // COMMITS_PER_CHECKPOINT


def set_torn_aside(store: Store) -> list[str]:
    """The names of `list_torn`, which now have `.torn` behind them."""
    if not list_torn(store):
        return []
    # Two collectors of one lake start together: what one has made anew in the meantime is not for the other.
    with (store.lake / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        torn = list_torn(store)
        for name in torn:
            store.path(name).replace(store.path(name + TORN_SUFFIX))
        store.sync_folder(LOG)
    return torn


def is_unmade(store: Store) -> bool:
    """Whether a start makes the table: nothing of its log came to the disk, but for names of commits."""
    return not any(
        _CHECKPOINT.fullmatch(file.name) or (_COMMIT.fullmatch(file.name) and file.size_bytes)
        for file in store.list_after(f"{LOG}/")
    )


def list_torn(store: Store) -> list[str]:
    """The files of the log that a power cut has kept from the disk, and with which nothing is lost.

    That is a checkpoint, while all commits that it stands for are there, and the commits of a table that has
    none with contents. A later commit that is empty needs nothing: Delta takes it for one without changes,
    and its batch, which was acknowledged to nobody, comes again. Whatever else is not whole is damage.
    """
    commits, checkpoints = read_commits(store)
    if not checkpoints and not any(file.size_bytes for file in commits.values()):
        return [file.name for file in commits.values()]
    return _torn_checkpoint(store, commits, checkpoints)


def read_commits(store: Store) -> tuple[dict[int, StoredFile], dict[int, list[StoredFile]]]:
    """The commits, and each checkpoint's files, by version; nothing where there is no log."""
    commits: dict[int, StoredFile] = {}
    checkpoints: dict[int, list[StoredFile]] = {}
    for file in store.list_after(f"{LOG}/"):
        if found := _COMMIT.fullmatch(file.name):
            commits[int(found[1])] = file
        elif found := _CHECKPOINT.fullmatch(file.name):
            checkpoints.setdefault(int(found[1]), []).append(file)
    return commits, checkpoints


def read_removals(store: Store) -> dict[str, int]:
    """When each file was replaced that the log still names as such, in milliseconds since 1970.

    A checkpoint keeps those of the last two hours, or whatever another engine has set the table to keep.
    Raises: any of WRITE_FAILURES.
    """
    version = last_checkpoint(store) or 0
    lines: list[_RemovalLine] = []
    for file in store.list_after(f"{LOG}/", f"{LOG}/{version:020}"):
        if file.name.endswith(".parquet"):
            rows = pq.ParquetFile(store.path(file.name)).read(columns=_REMOVAL)
            lines += [msgspec.convert(row, _RemovalLine) for row in rows.to_pylist()]
        elif file.name.endswith(".json") and file.name != commit_name(version):
            for text in (store.get(file.name) or b"").splitlines():
                with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    lines.append(msgspec.json.decode(text, type=_RemovalLine))
    return {one.path: one.deletionTimestamp or 0 for line in lines if (one := line.remove) is not None}


def _torn_checkpoint(
    store: Store, commits: Mapping[int, StoredFile], checkpoints: Mapping[int, list[StoredFile]]
) -> list[str]:
    """What is not whole of the newest checkpoints, and the note that names one; nothing that is needed."""
    broken: list[str] = []
    whole = -1
    for version in sorted(checkpoints, reverse=True):
        parts = [file.name for file in checkpoints[version] if not is_whole(store, file.name)]
        if not parts:
            whole = version
            break
        broken += parts
    # The note goes first: without it a checkpoint that is left counts for nothing, or is found by its name.
    noted_version = last_checkpoint(store)
    is_misled = noted_version is not None and (noted_version not in checkpoints or noted_version > whole)
    torn = [_NOTE, *broken] if is_misled else broken
    is_covered = all(version in commits for version in range(whole + 1, max((*commits, *checkpoints)) + 1))
    return torn if is_covered else []


def is_whole(store: Store, checkpoint: str) -> bool:
    """Whether the file of a checkpoint is; one that is no Parquet is taken for it. Raises: OSError."""
    if not checkpoint.endswith(".parquet"):
        return True
    try:
        with pq.ParquetFile(store.path(checkpoint)):
            return True
    except pa.ArrowException:
        return False
    except OSError as failure:
        # What the system refuses says nothing of the file; of a damaged end Arrow says it without a number.
        if failure.errno is not None:
            raise
        return False
