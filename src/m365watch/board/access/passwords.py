"""Passwords of local users: hashed by argon2id, compared in the same time whoever it is."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from string import digits, punctuation

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

CHARACTERS_MIN = 12
CHARACTERS_MAX = 256
CHARACTERS_DIFFERENT_MIN = 5
KEYS_MIN = 4
"""So many neighbouring keys are a row of them."""
_COMMON = (
    "password passwort passphrase secret login logon welcome willkommen letmein changeme default admin"
    " administrator root guest test demo analyst viewer board watch microsoft office exchange azure entra"
    " security company corporate spring summer autumn fall winter monday friday january october november"
    " december iloveyou love hello hallo dragon monkey master football baseball sunshine princess super"
    " my the your is it new now this please one"
)
COMMON = frozenset(_COMMON.split())
"""Words of which, alone or together, no password is made."""
_KEYS = ("qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm", "abcdefghijklmnopqrstuvwxyz")
_ROWS = (*_KEYS, *(row[::-1] for row in _KEYS), "qwertyuiopasdfghjklzxcvbnm")
_IN_PLACE = str.maketrans("@0$5317!", "aosseiti")
"""Signs that people write for letters."""
_LETTERS = re.compile(r"[^\W\d_]+")
AT_ONCE_MAX = 2
"""Passwords that are compared at the same time, beside one of known addresses: 64 MiB for some 0.1 s each."""
WAITING_MAX = 20
"""People who wait for that; further ones are told to come again."""


class Crowded(Exception):
    """Too many sign in at the same time."""


class _Lane:
    """People who take turns with each other alone."""

    def __init__(self, at_once: int) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one. Raises: Crowded."""
        if self._waiting >= WAITING_MAX:
            raise Crowded
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1


class Passwords:
    """Makes hashes, and compares with them."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """`hasher` decides what a guess costs; by default as RFC 9106 recommends where memory is scarce."""
        self._hasher = hasher or PasswordHasher()
        self._nobodys = ""
        self._strangers = _Lane(AT_ONCE_MAX)
        self._known = _Lane(1)

    def hashed(self, password: str) -> str:
        """What is kept of the password: salt, parameters and hash."""
        return self._hasher.hash(password)

    async def is_right(self, password: str, kept: str | None, *, is_known: bool = False) -> bool:
        """Whether it is the password of that hash; takes as long where there is none (None).

        `is_known` says that the name signed in from this address lately: a place is kept for these.

        Raises: Crowded.
        """
        async with (self._known if is_known else self._strangers).turn():
            return await asyncio.to_thread(self._compare, password[:CHARACTERS_MAX], kept)

    def _compare(self, password: str, kept: str | None) -> bool:
        if not self._nobodys:
            self._nobodys = self.hashed(secrets.token_hex(16))
        try:
            return self._hasher.verify(kept or self._nobodys, password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def fault_of(password: str, *, name: str) -> str | None:
    """Why this is no password to be used; None for one that will do."""
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        return f"a password has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters"
    if name.casefold() in password.casefold():
        return f"this password has the name {name} in it, which is among the first things that are guessed"
    if len(set(password)) < CHARACTERS_DIFFERENT_MIN or _is_common(password):
        return "this password is easy to guess: several words that have nothing in common are best"
    return None


def _is_common(password: str) -> bool:
    """Whether it is made of nothing but what everybody tries first, and of digits and signs around it."""
    plain = password.casefold()
    core = plain.strip(digits + punctuation + " ").translate(_IN_PLACE)
    return any(all(_is_of_common(word) for word in _LETTERS.findall(one)) for one in (plain, core))


def _is_of_common(word: str) -> bool:
    """Whether the word is one, or several in a row, that everybody tries; or a row of keys."""
    if len(word) >= KEYS_MIN and any(word in row for row in _ROWS):
        return True
    starts = {0}
    for end in range(1, len(word) + 1):
        if any(word[start:end] in COMMON for start in tuple(starts)):
            starts.add(end)
    return len(word) in starts
