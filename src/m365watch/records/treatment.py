"""What is done to a feed's records between the service and the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch.records.masking_masking import Masker


@dataclass(frozen=True, slots=True)
class Treatment:
    """What the settings ask for; by default nothing."""

    override_tag: str | None = None
    """The table of every record, in place of the one that its Workload names."""
    environment: str | None = None
    """Devo's `@devo_environment`."""
    masker: Masker | None = None
    """What masks the records, before any output sees them."""
