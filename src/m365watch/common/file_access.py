"""Small files that a configuration names, read without waiting for what is no file."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import NamedTuple

from m365watch.common.atomic_files import FULL
from m365watch.common.errors import OutputUnusable

NO_FILE = "there is no such file"
NO_TEXT = "\ufffd"
"""In a text: something stood there that is none."""
UNREAD_LINE = "is no text in UTF-8 and matches nothing; save the list as UTF-8"
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def read_small_file(path: Path, *, bytes_max: int) -> tuple[bytes, int]:
    """The file's content, cut one byte behind `bytes_max`, and its mode; raises like `read_with_status`."""
    content, status = read_with_status(path, bytes_max=bytes_max)
    return content, status.st_mode


def read_with_status(path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """The file's content, cut one byte behind `bytes_max`, and what the system says of the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read; the end of a sentence that starts with the file's name.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError from None
    except (OSError, ValueError) as error:
        reason = _refusal(path, error) if isinstance(error, OSError) else "not a path"
        raise ValueError(f"cannot be read: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        return os.read(descriptor, bytes_max + 1), status
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or 'unknown'}") from None
    finally:
        os.close(descriptor)


def is_there(path: Path) -> bool:
    """Whether there is anything that this user may see; where he may not look, there is nothing for him."""
    return _seen(path) is not None


def is_file(path: Path) -> bool:
    """The same of a file."""
    status = _seen(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    status = _seen(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


class Below(NamedTuple):
    """What lies in a folder at any depth."""

    files: list[Path]
    """In order."""
    closed: list[Path]
    """The folders that this user may not look into, the outermost of each."""


def list_below(folder: Path) -> Below:
    """Every file in it at any depth that this user may see; nothing where it is not there.

    What is hidden below it is left out: a repository has its own settings there, and Kubernetes the folders
    of what it mounts, to which links lead. Links to folders are followed where they stay in it, and each
    folder is looked into once.
    """
    found = Below([], [])
    whole, seen, left = os.path.realpath(folder), set[str](), [folder]

    def note_closed(error: OSError) -> None:
        if isinstance(error, PermissionError):
            found.closed.append(Path(error.filename))

    while left:
        for place, folders, names in os.walk(left.pop(0), onerror=note_closed):
            real = os.path.realpath(place)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            if real in seen or os.path.commonpath((real, whole)) != whole:
                folders.clear()
                continue
            seen.add(real)
            if not _is_open(place, os.X_OK):
                found.closed.append(Path(place))
                continue
            left += [path for name in folders if (path := Path(place, name)).is_symlink()]
            shown = (Path(place, name) for name in names if not is_hidden(name))
            found.files.extend(path for path in shown if is_file(path))
    return Below(sorted(found.files), sorted(found.closed))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is one that is not shown."""
    return name.startswith(".")


def text_of_list(content: bytes) -> str:
    """A list as text, out of UTF-8, or UTF-16 where a mark at its head says so; U+FFFD for what is neither.

    Raises: ValueError: it has signs that no text has; the end of a sentence that starts with its name.
    """
    is_marked = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    text = content.decode("utf-16" if is_marked else "utf-8-sig", "replace")
    if "\0" in text:
        raise ValueError("is no text in UTF-8, nor in UTF-16 with its mark; save it as UTF-8")
    return text


def closed_to() -> str:
    """What to say of a folder that this user may not look into."""
    return f"it is closed to user {os.geteuid()}, who runs this"


def why_shut(folder: Path) -> str:
    """Why this user may not look into the folder, or even see it; empty where he may, or there is none."""
    if closed := why_closed(folder):
        return closed
    is_shut = is_folder(folder) and not _is_open(folder, os.R_OK | os.X_OK)
    return closed_to() if is_shut else ""


def _is_open(path: str | Path, rights: int) -> bool:
    return os.access(path, rights, effective_ids=os.access in os.supports_effective_ids)


def why_unread(path: Path) -> str:
    """Why this user cannot read a file that is there, or may be; empty where he can, or nothing is there."""
    try:
        read_with_status(path, bytes_max=0)
    except FileNotFoundError:
        return ""
    except ValueError as error:
        return str(error)
    return ""


def why_denied(path: Path) -> str:
    """The same, where it is the rights that are lacking."""
    return "" if _is_open(path, os.R_OK) else why_unread(path)


def why_closed(path: Path) -> str:
    """Why this user cannot even see whether something is there; empty where he can."""
    try:
        path.stat()
    except PermissionError:
        return f"a folder above it is closed to user {os.geteuid()}, who runs this"
    except (OSError, ValueError):
        return ""
    return ""


class Unwritable(NamedTuple):
    """What keeps a file from being made in a folder."""

    why: str
    fix: str


def why_unwritable(folder: Path) -> Unwritable | None:
    """Why no file can be made in `folder`, or where it will be made; None if one can. Nothing is left."""
    place = nearest_folder(folder)
    fix = f"let this user write to {place}"
    if closed := why_closed(folder):
        return Unwritable(closed, fix)
    if not is_folder(place):
        return Unwritable(f"{place} is no directory", fix)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"m365watch")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fix = f"make room on the disk of {place}" if error.errno in FULL else fix
        return Unwritable((error.strerror or "unknown").lower(), fix)
    return None


def disk_fix(number: int | None, place: Path | str) -> str:
    """What lets a file be written in `place` where the system refused with that errno; empty if unknown."""
    if number in FULL:
        return f"make room on the disk of {place}"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"let user {os.geteuid()}, who runs this, write to {place}"
    return f"check the disk of {place}: it reports a failure" if number == errno.EIO else ""


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    return next((one for one in (path, *path.parents) if is_there(one)), path)


def require_writable(directory: Path) -> None:
    """Raises: OutputUnusable: no file can be made in an output's directory."""
    failure = why_unwritable(directory)
    if failure is not None:
        fix = f"{failure.fix}, or set another `directory`"
        raise OutputUnusable(f"{directory} cannot be written: {failure.why}", fix=fix)


def _seen(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _refusal(path: Path, error: OSError) -> str:
    """What the system said, and whose file it is where that is what is wrong."""
    reason, user = error.strerror or "unknown", os.geteuid()
    if not isinstance(error, PermissionError):
        return reason
    try:
        status = path.stat()
    except OSError:
        return f"{reason}: {why_closed(path)}" if why_closed(path) else reason
    return f"{reason}: {denied(path, status, user=user)}"


def denied(path: Path, status: os.stat_result, *, user: int) -> str:
    """Whose file it is that `user` may not read, and the command that cures it."""
    said = f"it is a file of user {status.st_uid} (mode {stat.S_IMODE(status.st_mode):04o})"
    name = shlex.quote(str(path))
    if status.st_uid == user:
        return f"{said}, who runs this; run: chmod 400 {name}"
    return f"{said}, and user {user} runs this; run: chown {user} {name}"
