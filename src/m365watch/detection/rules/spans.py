"""A span of time as both languages write it."""

from __future__ import annotations

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def span_text(seconds: int) -> str:
    """5m, 1h, 1d: in the largest unit of which it is a whole number."""
    return next(f"{seconds // size}{unit}" for size, unit in _UNITS if seconds % size == 0)
