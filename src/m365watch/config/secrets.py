"""Secrets that are kept in files: read with care, and put where the schema expects them."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from m365watch.config.mistakes import KeyPath, Report
from m365watch.config.sections import Document, section_at
from m365watch.config.values import is_guid

SECRET_BYTES_MAX = 4_096

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_OTHERS_CAN_USE = 0o077
_OTHERS_CAN_READ = 0o044


def fill_in_secrets(document: Document, *, folder: Path, report: Report) -> None:
    """Set `client_secret` of every input that names a `client_secret_file`, in place."""
    for name in section_at(document, "inputs"):
        credentials = section_at(document, "inputs", name, "credentials")
        path: KeyPath = ("inputs", name, "credentials")
        file = credentials.get("client_secret_file")
        if file is None:
            continue
        if credentials.get("client_secret") is not None:
            report.refuse((*path, "client_secret"), "is given beside client_secret_file; keep one of the two")
        # What is wrong with the file is told of its own key; the secret is then not missing as well.
        credentials["client_secret"] = "unread"
        file_path: KeyPath = (*path, "client_secret_file")
        if isinstance(file, str) and file_path not in report.mistakes:
            try:
                credentials["client_secret"] = read_secret_file(folder / file)
            except ValueError as error:
                report.refuse_value(file_path, file, str(error))


def warn_of_inline_secrets(document: Document, *, path: Path, report: Report) -> None:
    """Warn of each secret written into a configuration file that others can read.

    Also of a secret that looks like the ID of one, which Entra shows beside it.
    """
    open_to_others = _mode(path) & _OTHERS_CAN_READ
    for name in section_at(document, "inputs"):
        credentials = section_at(document, "inputs", name, "credentials")
        key: KeyPath = ("inputs", name, "credentials", "client_secret")
        secret = credentials.get("client_secret")
        if not isinstance(secret, str):
            continue
        if is_guid(secret):
            report.warn(key, "looks like the secret's ID; Entra wants its value")
        if open_to_others and key not in report.hidden and "client_secret_file" not in credentials:
            report.warn(key, f"others can read this file; run: chmod 600 {shlex.quote(str(path))}")


def read_secret_file(path: Path) -> str:
    """The secret in the file, without the line break at its end.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read: {_reason(error)}") from None
    with os.fdopen(descriptor, "rb") as file:
        _check_owner_only(os.fstat(descriptor).st_mode, path)
        content = file.read(SECRET_BYTES_MAX + 1)
    return _parse_secret(content)


def _reason(error: Exception) -> str:
    return error.strerror or "unknown" if isinstance(error, OSError) else "not a path"


def _check_owner_only(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError("is not a regular file")
    if mode & _OTHERS_CAN_USE:
        raise ValueError(
            f"can be read by others (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {shlex.quote(str(path))}"
        )


def _parse_secret(content: bytes) -> str:
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; write the secret's value and nothing else") from None
    if not secret.strip():
        raise ValueError("is empty; write the secret's value into it")
    if len(content) > SECRET_BYTES_MAX or not secret.isprintable():
        raise ValueError("holds more than one line of text; write the secret's value and nothing else")
    return secret


def _mode(path: Path) -> int:
    """The file's mode; 0 where there is no file, as for a document that was built in memory."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0
