"""The file, or the two files, that a configuration stands in."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.atomic_files import sync_folder
from m365watch.common.errors import NeedsOperator, SettingsRefused
from m365watch.common.file_access import is_file, why_closed, why_denied
from m365watch.config.document import TEXT_BYTES_MAX

JOB_FILE = Path("/etc/devo/job/job_config.json")
COLLECTOR_FILE = Path("/etc/devo/collector/collector_config.json")
"""Where Devo's collector server puts its two."""


_OF_PROCESSES = ("/dev/fd/", "/dev/std", "/proc/")


def is_of_a_process(path: Path) -> bool:
    """Whether the name means something else, or nothing, to another process, as that of a pipe does."""
    return str(path.absolute()).startswith(_OF_PROCESSES)


def folder_of(path: Path) -> Path:
    """Where relative paths start that stand in the file; where it comes by a pipe, the working directory."""
    return Path.cwd() if is_of_a_process(path) else path.parent


def absolute(folder: Path, path: Path) -> Path:
    """The path, relative ones starting at `folder`."""
    return Path(os.path.normpath(folder / path))


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute paths; on Devo's collector server inputs have a file of their own."""

    path: Path
    inputs_path: Path

    @property
    def folder(self) -> Path:
        """Where relative paths of `globals` and `outputs` start."""
        return folder_of(self.path)

    def file_of(self, path: tuple[str, ...]) -> Path:
        """The file that holds what is at the path."""
        return self.inputs_path if path[0] == "inputs" else self.path

    def folder_of(self, path: tuple[str, ...]) -> Path:
        """Where a relative path that is written at `path` starts."""
        return folder_of(self.file_of(path))

    def __str__(self) -> str:
        """Both files, as mistakes name them."""
        return str(self.path) if self.inputs_path == self.path else f"{self.inputs_path} and {self.path}"


def one_place(path: Path) -> Places:
    """A configuration in one file."""
    return Places(path.absolute(), path.absolute())


_BOM = b"\xef\xbb\xbf"
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class FileText:
    """A file as it was read."""

    path: Path
    """The file itself, whatever links lead to it."""
    content: bytes
    text: str
    """The content without its byte order mark."""

    @property
    def suffix(self) -> str:
        """The ending of the file's name, by which YAML that starts with a bracket is told from JSON."""
        return self.path.suffix.lower()


def read_whole(path: Path) -> FileText:
    """The file at `path`.

    Raises: SettingsRefused: it cannot be read, or is no configuration's text.
    """
    if is_of_a_process(path) and not is_file(path):
        what = "comes by a pipe, into which no change can be written"
        raise SettingsRefused([what], where=str(path), fix="name the file itself")
    try:
        real = path.resolve(strict=True)
        with real.open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        if closed := why_closed(path) or why_denied(path):
            raise SettingsRefused([closed], where=str(path), fix="run as its owner") from None
        fix = f"write one with: m365watch init --out {shlex.quote(str(path))}"
        raise SettingsRefused([f"cannot be read: {reason}"], where=str(path), fix=fix) from None
    if len(content) > TEXT_BYTES_MAX:
        raise SettingsRefused([f"is larger than {TEXT_BYTES_MAX:,} bytes"], where=str(path))
    try:
        text = content.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise SettingsRefused(["is not UTF-8 text; save it as UTF-8"], where=str(path)) from None
    return FileText(real, content, text)


def replace_whole(old: FileText, text: str) -> None:
    """Put `text` in the place of `old`, with the same mode and owner, at once; nothing is left beside it.

    Raises: NeedsOperator: the file was changed meanwhile, or cannot be replaced; it is as it was then.
    """
    content = (_BOM if old.content.startswith(_BOM) else b"") + text.encode()
    if read_whole(old.path).content != old.content:
        raise NeedsOperator(
            "was changed by somebody else meanwhile", fix="start this command again", where=str(old.path)
        )
    try:
        _replace(old.path, content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = "run as the file's owner where its folder can be written, or make the change by hand"
        raise NeedsOperator(f"cannot be replaced: {reason}", fix=fix, where=str(old.path)) from None


def _replace(path: Path, content: bytes) -> None:
    found = path.stat()
    temporary = _temporary(path)
    try:
        _write(temporary, content, mode=_PRIVATE)
        if (found.st_uid, found.st_gid) != (os.geteuid(), temporary.stat().st_gid):
            os.chown(temporary, found.st_uid, found.st_gid)
        # Labels and access lists as well; its times are those of today.
        shutil.copystat(path, temporary)
        temporary.chmod(stat.S_IMODE(found.st_mode))
        os.utime(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # A file system that cannot do it keeps its own promises about names.
    with suppress(OSError):
        sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.new")


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """A new file, on the disk before it is anything's."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
