"""Who is signed in: random ids of which the board keeps the hashes, each with two limits of time."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from m365watch.board.access import Access

SESSIONS_MAX = 5_000
EACH_MAX = 20
"""Sessions of one person; the one that was used longest ago gives way."""
_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that somebody has signed in with."""

    access: Access
    stamp: str
    """The user's stamp at that time; empty for people of Entra."""
    opened_at_s: float
    used_at_s: float


class Sessions:
    """The sessions of one board; they end with it."""

    def __init__(self, *, idle_s: float, life_s: float, stamp_of: Callable[[str], str | None]) -> None:
        """A session is over `idle_s` after its last use, and `life_s` after its beginning.

        And once the user's stamp (`stamp_of` their name) is another one, or None: they are no more.
        """
        self._idle_s = idle_s
        self._life_s = life_s
        self._stamp_of = stamp_of
        self._open: OrderedDict[str, Session] = OrderedDict()

    def open(self, access: Access, *, stamp: str, now_s: float) -> str:
        """A new session; what comes back is for the browser alone."""
        drawn = secrets.token_urlsafe(_ID_BYTES)
        key = _hashed(drawn)
        theirs = [one for one, session in self._open.items() if session.access.name == access.name]
        for one in theirs[: max(0, len(theirs) - EACH_MAX + 1)]:
            del self._open[one]
        self._open[key] = Session(replace(access, session=key[:16]), stamp, now_s, now_s)
        while len(self._open) > SESSIONS_MAX:
            self._open.popitem(last=False)
        return drawn

    def find(self, drawn: str, *, now_s: float, is_use: bool = True) -> Access | None:
        """Whose session it is; None where it is none, or none any more. A use puts off its end."""
        key = _hashed(drawn)
        session = self._open.get(key)
        if session is None:
            return None
        is_over = now_s - session.used_at_s >= self._idle_s or now_s - session.opened_at_s >= self._life_s
        if is_over or (session.stamp and self._stamp_of(session.access.name) != session.stamp):
            del self._open[key]
            return None
        if is_use:
            self._open[key] = replace(session, used_at_s=now_s)
            self._open.move_to_end(key)
        return session.access

    def close(self, drawn: str) -> None:
        """End it, if there is one."""
        self._open.pop(_hashed(drawn), None)


def _hashed(drawn: str) -> str:
    return hashlib.sha256(drawn.encode()).hexdigest()
