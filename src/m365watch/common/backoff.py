"""When an output that fails is tried again, and for how long."""

from __future__ import annotations

import math

PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 60.0
_LATER = frozenset({408, 425, 429})


def is_for_later(status: int) -> bool:
    """Whether an HTTP status says that the same may be taken another time."""
    return status in _LATER or status >= 500


class Tries:
    """Pauses that double from failure to failure, until one succeeds or the patience is over."""

    def __init__(self, patience_s: float | None) -> None:
        """With `patience_s` of None they go on for ever."""
        self._patience_s = patience_s
        self._failed_since_s: float | None = None
        self._pause_s = PAUSE_FIRST_S

    def succeeded(self) -> None:
        """The next failure is the first of its row."""
        self._failed_since_s, self._pause_s = None, PAUSE_FIRST_S

    def lose_patience(self) -> None:
        """The next failure is the last one."""
        self._failed_since_s = -math.inf

    def failed(self, now_s: float, *, after_s: float | None) -> float | None:
        """Seconds to the next try, at least `after_s` if there is time for that; None: there is no other."""
        if self._failed_since_s is None:
            self._failed_since_s = now_s
        pause_s = max(after_s or 0.0, self._pause_s)
        if self._patience_s is not None:
            left_s = self._failed_since_s + self._patience_s - now_s
            if left_s <= 0:
                return None
            pause_s = min(pause_s, left_s)
        self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
        return pause_s
