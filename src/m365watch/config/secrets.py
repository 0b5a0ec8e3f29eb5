"""Who may read a file with a secret in it: its owner alone, unless whoever runs the machine saw to it.

Three ways of handing a secret to a service give its file another mode than 0600, and nobody in the
service can change that: systemd's credentials, Docker's secrets, and a Kubernetes volume with an `fsGroup`.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from m365watch.common.file_access import read_with_status
from m365watch.config.config_file import Places
from m365watch.config.document import (
    BOARD,
    BOARD_ENTRA,
    NOTIFICATIONS,
    WEBHOOK,
    Document,
    networks_in,
    section_at,
)
from m365watch.config.models.values import is_guid
from m365watch.config.validation_report import SECRET_KEYS, KeyPath, Report

PREFIX = "keyring:"


def is_reference(value: object) -> bool:
    """Whether the value names a place in the keyring."""
    return isinstance(value, str) and value.startswith(PREFIX)


def read_keyring(reference: str) -> str:
    """The secret that the reference names: what follows the last slash is the name.

    Raises:
        ValueError: the end of a sentence that starts with the reference; no secret is in it.
    """
    service, slash, name = reference.removeprefix(PREFIX).rpartition("/")
    if not (slash and service and name):
        raise ValueError("is not a place in the keyring; write keyring:SERVICE/NAME")
    try:
        library: Any = import_module("keyring")
    except ImportError:
        raise ValueError(
            "needs the package keyring, which is not installed; run: pip install keyring"
        ) from None
    try:
        secret = library.get_password(service, name)
    except Exception as error:  # noqa: BLE001 - each system's keyring has errors of its own
        # Its words are not repeated: nobody knows what is in them.
        raise ValueError(
            f"cannot be had: the keyring failed with {type(error).__name__}; unlock it"
        ) from None
    if not isinstance(secret, str) or not secret:
        raise ValueError(
            f"is not in the keyring; run: keyring set {shlex.quote(service)} {shlex.quote(name)}"
        )
    return secret


CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd names the folder of a service's credentials.

Source: systemd.exec(5), "LoadCredential=".
"""

DOCKER_SECRETS = Path("/run/secrets")
"""Where Docker puts a container's secrets, by default with mode 0444.

Source: Docker's manual, "Manage sensitive data with Docker secrets".
"""

_ANYBODY_ELSE = 0o077
_WORLD = 0o007
_WRITERS_ELSE = 0o022
_GROUP_READS_AT_MOST = 0o037
_OTHERS_READ = 0o044


@dataclass(frozen=True, slots=True)
class FileGuard:
    """Judges the files of secrets."""

    allows_readable: bool = False
    """`globals.allow_readable_secrets`: what others can use is let pass, with a warning."""
    credentials_folder: Path | None = None
    """systemd's, where there is one."""
    docker_folder: Path = DOCKER_SECRETS
    user: int = 0
    """The user that the collector runs as."""

    def check(self, path: Path, status: os.stat_result) -> str | None:
        """None for a file that is nobody else's business; a warning where that is let pass.

        Raises:
            ValueError: others can use it; the end of a sentence that starts with the file's name.
        """
        mode = status.st_mode
        if not mode & _ANYBODY_ELSE or self._is_handed_over(path, status):
            return None
        said = f"can be {'read' if mode & _OTHERS_READ else 'used'} by others (mode {stat.S_IMODE(mode):04o})"
        cure = f"run: chmod 600 {shlex.quote(str(path))}"
        if not self.allows_readable:
            raise ValueError(f"{said}; {cure}")
        return f"UNSAFE: the file {said}, which globals.allow_readable_secrets lets pass; {cure}"

    def judge_token(self, path: Path, status: os.stat_result) -> str | None:
        """What is odd about the mode of a federated token's file; None if nothing is.

        Such a token lives an hour or so. Kubernetes writes it 0644 unless the pod has an `fsGroup` or runs as
        one user; that keeps no collector from starting, and a group is let be.
        """
        if not status.st_mode & _WORLD or self._is_handed_over(path, status):
            return None
        mode = stat.S_IMODE(status.st_mode)
        return (
            f"others can read the token (mode {mode:04o}); in Kubernetes set the pod's fsGroup, "
            f"elsewhere run: chmod o-rwx {shlex.quote(str(path))}"
        )

    def _is_handed_over(self, path: Path, status: os.stat_result) -> bool:
        """Whether the machine's administrator gave the file to this service, with a mode of its own."""
        mode, place = status.st_mode, Path(os.path.realpath(path))
        if self.credentials_folder is not None and place.is_relative_to(self.credentials_folder):
            # The bits of the group stand for the access list by which systemd lets the service read.
            return not mode & _WORLD
        if place.is_relative_to(self.docker_folder):
            # Seen in this container alone; but who could write it, could exchange it.
            return not mode & _WRITERS_ELSE
        # Root's file, read through its group: that is how `fsGroup` lets a container without root read.
        return status.st_uid == 0 != self.user and not mode & _GROUP_READS_AT_MOST


def guard_for(environment: Mapping[str, str], *, allows_readable: bool) -> FileGuard:
    """The guard of this process."""
    folder = environment.get(CREDENTIALS_VARIABLE)
    return FileGuard(
        allows_readable=allows_readable,
        credentials_folder=Path(os.path.realpath(folder)) if folder else None,
        user=os.geteuid(),
    )


SECRET_BYTES_MAX = 4_096
RESPONSE = ("detections", "response", "credentials")
"""Where the application stands that responds to alerts."""

_OTHERS_CAN_READ = 0o044
UNREAD = "unread"
"""Stands for a secret that could not be, or was not to be, read."""
_LOOKS_LIKE_ID = "looks like the secret's ID; Entra wants its value"
READ_ANEW = "private_key"
"""Its file is not read here, but when the key is used, and again when it changes."""


def fill_in_secrets(
    document: Document,
    *,
    places: Places,
    guard: FileGuard,
    report: Report,
    reads: bool = True,
    reads_board: bool = True,
) -> None:
    """Set every secret that is in a file or the keyring, in place: `token` from `token_file` and so on.

    Where `reads` is false (`reads_board` for those of the section `board`) both are left alone, and a mark
    stands in place of each secret.
    """
    for path in _sections_with_secrets(document):
        does_read = reads_board if path[:1] == BOARD else reads
        section = section_at(document, *path)
        for key in sorted(SECRET_KEYS):
            if is_reference(section.get(key)):
                _fill_in_from_keyring(section, (*path, key), report, reads=does_read)
            if key != READ_ANEW and section.get(f"{key}_file") is not None:
                _fill_in(
                    section, (*path, key), _Files(places.folder_of(path), guard, reads=does_read), report
                )


def allows_readable_secrets(document: Document, report: Report) -> bool:
    """`globals.allow_readable_secrets`, which each start warns of; what is no switch the schema refuses."""
    given = section_at(document, "globals").get("allow_readable_secrets")
    is_on = given is True or (isinstance(given, str) and given.strip().lower() == "true")
    if is_on:
        report.warn(
            ("globals", "allow_readable_secrets"),
            "UNSAFE: secrets in files that others can read are let pass; remove the key once none is left",
        )
    return is_on


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
            if not isinstance(secret, str) or is_reference(secret):
                continue
            if name == "client_secret" and is_guid(secret):
                report.warn(key, _LOOKS_LIKE_ID)
            if open_to_others and key not in report.hidden and f"{name}_file" not in section:
                report.warn(key, f"others can read this file; run: chmod 600 {shlex.quote(str(file))}")


def secret_in(options: Mapping[str, object], key: str) -> str:
    """The secret under `key`; empty where there is none, or it was not read."""
    value = options.get(key)
    return value if isinstance(value, str) and value != UNREAD and "${" not in value else ""


def _sections_with_secrets(document: Document) -> list[tuple[str, ...]]:
    inputs, outputs = section_at(document, "inputs"), section_at(document, "outputs")
    return [
        *(("inputs", name, "credentials") for name in inputs),
        *(("inputs", name, "credentials", "second") for name in inputs),
        *(("outputs", name, "config") for name in outputs),
        *networks_in(document),
        WEBHOOK,
        BOARD,
        BOARD_ENTRA,
        RESPONSE,
        (*RESPONSE, "second"),
        *((*NOTIFICATIONS, name) for name in section_at(document, *NOTIFICATIONS)),
    ]


class _Files:
    """Where the files of secrets are, and who may read them."""

    def __init__(self, folder: Path, guard: FileGuard, *, reads: bool) -> None:
        self.folder = folder
        self.guard = guard
        self.reads = reads


def _fill_in_from_keyring(section: Document, path: KeyPath, report: Report, *, reads: bool) -> None:
    key = str(path[-1])
    reference = str(section[key])
    section[key] = UNREAD
    if reads and path not in report.mistakes:
        try:
            section[key] = read_keyring(reference)
        except ValueError as error:
            report.refuse(path, f'"{reference[:60]}" {error}')


def _fill_in(section: Document, path: KeyPath, files: _Files, report: Report) -> None:
    """Set the secret of `path`; where files are not read, only the mark that stands in its place."""
    key = str(path[-1])
    file = section[f"{key}_file"]
    if section.get(key) is not None:
        report.refuse(path, f"is given beside {key}_file; keep one of the two")
    # What is wrong with the file is told of its own key; the secret is then not missing as well.
    section[key] = UNREAD
    file_path: KeyPath = (*path[:-1], f"{key}_file")
    if files.reads and isinstance(file, str) and file_path not in report.mistakes:
        place = Path(os.path.normpath(files.folder / file))
        section[f"{key}_file"] = str(place)
        try:
            section[key], warning = read_guarded_secret(place, files.guard)
        except ValueError as error:
            report.refuse_value(file_path, file, str(error))
        else:
            if warning is not None:
                report.warn(file_path, warning)
            if key == "client_secret" and is_guid(str(section[key])):
                report.warn(file_path, _LOOKS_LIKE_ID)


def read_secret_file(path: Path) -> str:
    """The secret in a file that is its owner's alone; raises as `read_guarded_secret` does."""
    return read_guarded_secret(path, FileGuard(user=os.geteuid()))[0]


def read_guarded_secret(path: Path, guard: FileGuard) -> tuple[str, str | None]:
    """The secret in the file, without the line break at its end, and a warning where others can read it.

    Raises:
        ValueError: the end of a sentence that starts with the file's name.
    """
    try:
        content, status = read_with_status(path, bytes_max=SECRET_BYTES_MAX)
    except FileNotFoundError:
        raise ValueError("cannot be read: No such file or directory") from None
    warning = guard.check(path, status)
    return _parse_secret(content), warning


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
