"""Secrets that are kept in files: read with care, and put where the schema expects them."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from m365watch.config.files import read_small_file
from m365watch.config.mistakes import SECRET_KEYS, KeyPath, Report
from m365watch.config.places import Places
from m365watch.config.resolve_network import networks_in
from m365watch.config.sections import Document, section_at
from m365watch.config.values import is_guid

SECRET_BYTES_MAX = 4_096

_OTHERS_CAN_USE = 0o077
_OTHERS_CAN_READ = 0o044


def fill_in_secrets(document: Document, *, places: Places, report: Report, reads: bool = True) -> None:
    """Set every secret that is given as a file, in place: `token` from `token_file` and so on.

    Where `reads` is false the files are left alone, and a mark stands in place of each secret.
    """
    for path in _sections_with_secrets(document):
        section = section_at(document, *path)
        for key in sorted(SECRET_KEYS):
            if section.get(f"{key}_file") is not None:
                _fill_in(section, (*path, key), places.folder_of(path) if reads else None, report)


def warn_of_inline_secrets(document: Document, *, places: Places, report: Report) -> None:
    """Warn of each secret written into a configuration file that others can read.

    Also of a client secret that looks like the ID of one, which Entra shows beside it.
    """
    for path in _sections_with_secrets(document):
        section = section_at(document, *path)
        file = places.file_of(path)
        open_to_others = _mode(file) & _OTHERS_CAN_READ
        for name in sorted(SECRET_KEYS & {*section}):
            key: KeyPath = (*path, name)
            secret = section[name]
            if not isinstance(secret, str):
                continue
            if name == "client_secret" and is_guid(secret):
                report.warn(key, "looks like the secret's ID; Entra wants its value")
            if open_to_others and key not in report.hidden and f"{name}_file" not in section:
                report.warn(key, f"others can read this file; run: chmod 600 {shlex.quote(str(file))}")


def _sections_with_secrets(document: Document) -> list[tuple[str, ...]]:
    ends = {"inputs": "credentials", "outputs": "config"}
    found = [(kind, name, end) for kind, end in ends.items() for name in section_at(document, kind)]
    return [*found, *networks_in(document)]


def _fill_in(section: Document, path: KeyPath, folder: Path | None, report: Report) -> None:
    """Set the secret of `path`; without a `folder` only the mark that stands in its place."""
    key = str(path[-1])
    file = section[f"{key}_file"]
    if section.get(key) is not None:
        report.refuse(path, f"is given beside {key}_file; keep one of the two")
    # What is wrong with the file is told of its own key; the secret is then not missing as well.
    section[key] = "unread"
    file_path: KeyPath = (*path[:-1], f"{key}_file")
    if folder is not None and isinstance(file, str) and file_path not in report.mistakes:
        try:
            section[key] = read_secret_file(folder / file)
        except ValueError as error:
            report.refuse_value(file_path, file, str(error))


def read_secret_file(path: Path) -> str:
    """The secret in the file, without the line break at its end.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    try:
        content, mode = read_small_file(path, bytes_max=SECRET_BYTES_MAX)
    except FileNotFoundError:
        raise ValueError("cannot be read: No such file or directory") from None
    _check_owner_only(mode, path)
    return _parse_secret(content)


def _check_owner_only(mode: int, path: Path) -> None:
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
