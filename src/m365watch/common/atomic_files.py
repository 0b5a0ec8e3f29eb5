"""Files and names that outlive a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.errors import NeedsOperator

PRIVATE = 0o600
"""For the owner alone."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The numbers of failures that room on the disk cures, and no permission."""


def sync_file(path: Path) -> None:
    """Return once the contents of `path` would outlive a power cut. Raises: OSError."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return once the names in `folder` would: a new file is not durable before that. Raises: OSError."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def put_file(path: Path, pieces: Iterable[bytes], *, mode: int = PRIVATE) -> None:
    """Make `path` of `pieces`, or replace it, durably: after a crash it is as before or whole.

    What a crash leaves behind is called like it, with the suffix `.partial`; the next one takes that over.
    Raises: OSError.
    """
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.writelines(pieces)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """The size of the file in bytes; 0 where somebody has taken it away."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file that is to be written."""

    path: Path
    content: bytes = field(repr=False)
    mode: int = PRIVATE


def require_free(paths: Sequence[Path]) -> None:
    """Nothing, where none of `paths` is there yet, be it as a link that leads nowhere.

    Raises: NeedsOperator: one is.
    """
    for path in paths:
        if os.path.lexists(path):
            raise _taken(path)


def write_new_files(files: Sequence[NewFile], *, replaces: bool = False) -> None:
    """Write all of `files`; where one cannot be written, those before it are taken back.

    Each is written beside its place, with its mode from the first byte on, and gets its name once it is on
    the disk. With `replaces` a file that has the name gives way; what was replaced is not brought back.

    Raises: NeedsOperator: one is there already, or cannot be written.
    """
    made: list[Path] = []
    try:
        _write_all(files, made, replaces=replaces)
    except BaseException as error:
        # Whatever it was, Ctrl-C included: no half of a pair stays, and no draft with a key in it.
        for path in made:
            with suppress(OSError):
                path.unlink()
        if not isinstance(error, OSError):
            raise
        raise _told(error, files) from None


def _write_all(files: Sequence[NewFile], made: list[Path], *, replaces: bool) -> None:
    """Write them; `made` grows by each path that is there because of this."""
    drafts = [_draft_of(file) for file in files]
    for draft, file in zip(drafts, files, strict=True):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        made.append(draft)
        _write(draft, file)
    if not replaces:
        for file in files:
            # Taken first and filled then: a name that is ours cannot be somebody else's any more.
            os.close(os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode))
            made.append(file.path)
    for draft, file in zip(drafts, files, strict=True):
        draft.replace(file.path)
    for folder in {file.path.parent for file in files}:
        sync_folder(folder)


def _write(draft: Path, file: NewFile) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode & PRIVATE)
    with os.fdopen(descriptor, "wb") as opened:
        os.fchmod(opened.fileno(), file.mode)
        opened.write(file.content)
        opened.flush()
        os.fsync(opened.fileno())


def _told(error: OSError, files: Sequence[NewFile]) -> NeedsOperator:
    places = {str(_draft_of(file)): file.path for file in files}
    place = places.get(str(error.filename), Path(error.filename or files[0].path))
    if isinstance(error, FileExistsError) and place in places.values():
        return _taken(place)
    why = error.strerror or "unknown"
    if isinstance(error, FileExistsError | NotADirectoryError):
        why = "there is no such folder, but a file of that name"
    fix = "name another place with --out, or see to the folder's rights and disk"
    return NeedsOperator(f"cannot be written: {why}", where=str(place), fix=fix)


def _draft_of(file: NewFile) -> Path:
    return file.path.with_name(f".{file.path.name}.{os.getpid()}.new")


def _taken(path: Path) -> NeedsOperator:
    fix = "name another place with --out, or replace it with --force"
    return NeedsOperator("is there already", where=str(path), fix=fix)
