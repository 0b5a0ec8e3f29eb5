"""Numbers in what records say."""

from __future__ import annotations

from math import inf

_UNITS = 1 << 1_074
"""So many are 1: every finite number of double precision is a whole number of them."""


def read_number(text: str) -> float | None:
    """A finite number; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None


def units_of(number: float) -> int:
    """A finite number without rounding: sums of these depend on no order."""
    above, below = number.as_integer_ratio()
    return above * (_UNITS // below)


def number_of(units: int, *, parts: int = 1) -> float:
    """The number nearest to a part of so many units; infinite where it is too large for one."""
    try:
        return units / (_UNITS * parts)
    except OverflowError:
        return inf if units > 0 else -inf
