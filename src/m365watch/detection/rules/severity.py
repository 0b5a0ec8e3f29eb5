"""How bad it is."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property


class Severity(StrEnum):
    """How bad an alert is; Sigma's levels."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @cached_property
    def rank(self) -> int:
        """0 to 4."""
        return list(Severity).index(self)
