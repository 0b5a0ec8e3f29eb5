"""What the tenant's service asks of whoever makes its records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from m365watch.common.model import ContentType


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """One audit record before the service publishes it."""

    content_type: ContentType
    happened_at: datetime
    """Aware, UTC; the record's CreationTime is this cut to seconds."""
    body: bytes
    """Compact UTF-8 JSON of the one record."""


class RecordSource(Protocol):
    """An organisation, or a file of records: where the tenant's records come from."""

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """What happened in [start, end), sorted by `happened_at`.

        Deterministic; slices cut at whole hours give the same union however they are cut.
        """
        ...
