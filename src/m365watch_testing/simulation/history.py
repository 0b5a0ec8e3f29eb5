"""What happened in one simulated history, line by line, with the world's time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta

LINES_MAX = 3_000
"""Lines of a history that are kept: the latest."""


class History:
    """Lines as they are told, the latest `LINES_MAX` of them."""

    def __init__(self, elapsed_s: Callable[[], float]) -> None:
        """`elapsed_s` says how long the world has existed."""
        self._elapsed_s = elapsed_s
        self._lines: deque[tuple[float, str]] = deque(maxlen=LINES_MAX)

    def tell(self, text: str) -> None:
        """Note `text` with the present time."""
        self._lines.append((self._elapsed_s(), text))

    def lines(self) -> tuple[str, ...]:
        """Every line, oldest first: days and time since the world began, then what happened."""
        return tuple(f"{_shown(at_s)}  {text}" for at_s, text in self._lines)


def _shown(at_s: float) -> str:
    whole = timedelta(seconds=int(at_s))
    return f"{whole.days}d {timedelta(seconds=whole.seconds)}.{int(at_s * 1000) % 1000:03d}"
