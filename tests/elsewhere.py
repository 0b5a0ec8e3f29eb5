"""CPU time that tests cause in processes which are no children of theirs."""

from __future__ import annotations

_spent_s: list[float] = []


def count_cpu_s(spent_s: float) -> None:
    """Add what such a process has taken."""
    _spent_s.append(spent_s)


def counted_cpu_s() -> float:
    """What all of them have taken so far."""
    return sum(_spent_s)
