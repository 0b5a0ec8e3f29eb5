"""The local users of the board, in a file of the state directory that only its owner may read."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from m365watch.board.access.roles import Access, Role
from m365watch.common.atomic_files import put_file
from m365watch.common.errors import NeedsOperator

FILE = "board-users.json"
USERS_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_MODE = 0o600
_OTHERS = 0o077


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user, as the file has them."""

    name: str
    role: str
    """viewer, analyst or admin."""
    hash: str
    stamp: str
    """Drawn anew with every change: sessions from before it are over."""
    tenants: tuple[str, ...] = ()
    """Ids in lower case; empty: all."""
    contents: bool = True

    @property
    def access(self) -> Access:
        """What they may do and see."""
        return Access(
            self.name,
            Role[self.role.upper()],
            tenants=frozenset(self.tenants) or None,
            sees_contents=self.contents,
        )


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    users: tuple[User, ...]


def fault_of_name(name: str) -> str | None:
    """Why nobody can be called that; None for a name that will do."""
    if _NAME.fullmatch(name):
        return None
    return "a name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit"


def new_stamp() -> str:
    """A stamp that nobody has had."""
    return secrets.token_hex(8)


class Users:
    """The users of one state directory; a change by another process is seen at the next look."""

    def __init__(self, state_directory: Path) -> None:
        """Nothing is read yet."""
        self.path = state_directory / FILE
        self._signs: object = None
        self._users: dict[str, User] = {}

    def find(self, name: str) -> User | None:
        """The user of that name, written in any case; None where there is none. Raises: NeedsOperator."""
        return self._read().get(name.casefold())

    def list(self) -> list[User]:
        """All of them, by name. Raises: NeedsOperator."""
        return sorted(self._read().values(), key=lambda one: one.name.casefold())

    def put(self, user: User) -> None:
        """Add the user, or replace the one of that name. Raises: NeedsOperator."""
        with self._changing() as users:
            if len(users) >= USERS_MAX and user.name.casefold() not in users:
                raise NeedsOperator(
                    f"there are {USERS_MAX:,} users already", fix="sign in with Entra instead"
                )
            users[user.name.casefold()] = user

    def remove(self, name: str) -> bool:
        """Take the user out; False where there is none. Raises: NeedsOperator."""
        with self._changing() as users:
            return users.pop(name.casefold(), None) is not None

    def _read(self) -> dict[str, User]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._signs, self._users = None, {}
            return {}
        except OSError as error:
            raise self._unreadable(error.strerror or "unknown") from None
        signs = (status.st_ino, status.st_size, status.st_mtime_ns)
        if signs != self._signs:
            if status.st_mode & _OTHERS:
                raise NeedsOperator(
                    f"the board's users can be read by others (mode {status.st_mode & 0o777:04o})",
                    fix=f"run: chmod 600 {self.path}; then give each of them another password",
                    where=str(self.path),
                )
            self._users = self._parse()
            self._signs = signs
        return self._users

    def _parse(self) -> dict[str, User]:
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=_File)
            users = {one.name.casefold(): one for one in found.users}
            for one in found.users:
                _ = one.access
        except OSError as error:
            raise self._unreadable(error.strerror or "unknown") from None
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, RecursionError):
            raise self._unreadable("it is not as m365watch wrote it") from None
        return users

    def _unreadable(self, why: str) -> NeedsOperator:
        return NeedsOperator(
            f"the board's users cannot be read: {why}",
            fix="put the file back, or remove it and add the users again: m365watch board user add NAME",
            where=str(self.path),
        )

    @contextmanager
    def _changing(self) -> Iterator[dict[str, User]]:
        """The users to be changed; they are written when the block ends, in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = self.path.with_suffix(".lock")
        with os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT, _MODE), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = dict(self._read())
            yield users
            content = msgspec.json.format(msgspec.json.encode(_File(1, tuple(users.values()))))
            put_file(self.path, (content,))
