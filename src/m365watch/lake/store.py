"""Where the files of a table lie, and all that the lake asks of that place.

Names are relative to the table, with forward slashes. A file of records never changes under its name, and a
commit is made by putting it where none is: what holds these two promises can hold a lake.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deltalake import DeltaTable

from m365watch.common.atomic_files import FULL, sync_file, sync_folder


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the table, as a listing tells of it."""

    name: str
    size_bytes: int
    modified_ms: float


class Store(Protocol):
    """The place of one table. Each method raises OSError where the place refuses."""

    @property
    def table(self) -> str:
        """The table's name."""
        ...

    @property
    def lake(self) -> Path:
        """The lake that it is a table of."""
        ...

    def has_commits(self) -> bool:
        """Whether there is a table to open."""
        ...

    def open(self, version: int | None = None) -> DeltaTable:
        """The table as its newest commit leaves it, or as that version was. Raises: DeltaError."""
        ...

    def get(self, name: str) -> bytes | None:
        """The contents; None where there is no such file."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Make the file, whole or not at all; False where there is one, or that cannot be ruled out.

        It need not outlive a power cut before `sync`.
        """
        ...

    def path(self, name: str) -> Path:
        """Where this process reads the file, and writes one for `put` to bring there; of "", their folder."""
        ...

    def put(self, name: str) -> None:
        """Return once the file that was written at its `path` would outlive a power cut; else it is gone."""
        ...

    def list_after(self, prefix: str, start: str = "") -> Iterator[StoredFile]:
        """The files whose names begin with `prefix` and come after `start`, by name."""
        ...

    def delete(self, name: str) -> None:
        """Remove the file, if it is there."""
        ...

    def sync(self, names: Iterable[str], *, is_own: bool = False) -> None:
        """Return once the files and their names would outlive a power cut, whoever made them.

        One that is gone is passed over. `is_own` says that this process has just made them: then none is
        gone, and none of their syncs has failed unseen.
        """
        ...

    def sync_folder(self, name: str = "") -> None:
        """Return once the names in the folder would: of the table's own, or `..`, the lake's."""
        ...


class LocalStore:
    """A table in a folder of a local disk: a commit is a link, and what is durable was synced."""

    def __init__(self, directory: Path) -> None:
        """Nothing is made before the first file."""
        self._directory = directory

    @property
    def table(self) -> str:
        return self._directory.name

    @property
    def lake(self) -> Path:
        return self._directory.parent

    def has_commits(self) -> bool:
        return DeltaTable.is_deltatable(str(self._directory))

    def open(self, version: int | None = None) -> DeltaTable:
        return DeltaTable(self._directory, version=version)

    def path(self, name: str) -> Path:
        return self._directory / name

    def get(self, name: str) -> bytes | None:
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def put_if_absent(self, name: str, content: bytes) -> bool:
        path = self.path(name)
        fresh = _copy_of(path)
        try:
            with fresh.open("xb") as file:
                file.write(content)
            try:
                os.link(fresh, path)
            except (FileExistsError, FileNotFoundError):
                # Another's stands there, or another process has swept up what it took for a leftover.
                return False
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def put(self, name: str) -> None:
        path = self.path(name)
        try:
            sync_file(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def list_after(self, prefix: str, start: str = "") -> Iterator[StoredFile]:
        folder, _, stem = prefix.rpartition("/")
        for name in sorted(self._names(folder, stem)):
            if name > start:
                with suppress(FileNotFoundError):
                    about = self.path(name).stat()
                    yield StoredFile(name, about.st_size, about.st_mtime * 1000)

    def _names(self, folder: str, stem: str = "") -> Iterator[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as found:
            for one in found:
                if one.name.startswith(stem):
                    name = f"{folder}/{one.name}" if folder else one.name
                    yield from self._names(name) if one.is_dir() else (name,)

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def sync(self, names: Iterable[str], *, is_own: bool = False) -> None:
        folders: set[Path] = set()
        for path in map(self.path, names):
            folders.add(path.parent)
            if is_own:
                sync_file(path)
            else:
                with suppress(FileNotFoundError):
                    _put_anew(path)
        for folder in folders:
            sync_folder(folder)

    def sync_folder(self, name: str = "") -> None:
        sync_folder(self.path(name))


def table_store(lake: Path, table: str) -> Store:
    """The place of one of the lake's tables."""
    return LocalStore(lake / table)


def _put_anew(path: Path) -> None:
    """Put a durable copy in the place of the file.

    Where a sync has failed, Linux takes for written what is nowhere, and the next sync says yes: after a
    power cut ext4 shows zeros.
    """
    fresh = _copy_of(path)
    try:
        copied = _copy(path, fresh)
        sync_file(fresh if copied else path)
        if copied:
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _copy(path: Path, fresh: Path) -> bool:
    """Whether there is a copy now: not on a full disk, nor of somebody else's, who could not read it."""
    if path.stat().st_uid != os.geteuid():
        return False
    try:
        fresh.write_bytes(path.read_bytes())
        shutil.copymode(path, fresh)
    except OSError as failure:
        if failure.errno in FULL:
            return False
        raise
    return True


def _copy_of(path: Path) -> Path:
    """Where a copy of the file is made; one that a killed process left is swept up with a checkpoint."""
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
