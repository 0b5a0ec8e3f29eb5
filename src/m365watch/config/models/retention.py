"""How long records stay in a lake, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableRetention:
    """How long one of Devo's tables stays in the lake; None: no bound of its own."""

    table: str
    days: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long records stay in a lake; None: for ever."""

    days: int | None = None
    """Of every table without `days` of its own."""
    size_bytes: int | None = None
    """Of all records together."""
    tables: tuple[TableRetention, ...] = ()

    @property
    def is_set(self) -> bool:
        """Whether anything ever goes."""
        return bool(self.days or self.size_bytes or self.tables)
