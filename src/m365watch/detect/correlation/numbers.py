"""Numbers in what records say."""

from __future__ import annotations


def read_number(text: str) -> float | None:
    """A finite number; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None
