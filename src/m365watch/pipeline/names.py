"""What schema drift is told of: kinds of names, and what was seen of each name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What a name is the name of."""

    RECORD_TYPE = "record_type"
    OPERATION = "operation"
    FIELD = "field"
    """A key at the top of a record."""


@dataclass(slots=True)
class Sighting:
    """What was seen of one name in one tenant."""

    kind: Kind
    name: str
    first_seen_at: datetime
    content_id: str
    """The blob that brought it first."""
    is_new: bool
    """Whether it came after the days of learning, when the tenant's vocabulary was thought known."""
    count: int = 0
    """Records that have it; of a field, records among those that were looked at."""
