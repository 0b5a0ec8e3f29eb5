"""How bad it is."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How bad an alert is; Sigma's levels."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 to 4."""
        return _RANKS[self]


_RANKS = {severity.value: rank for rank, severity in enumerate(Severity)}
