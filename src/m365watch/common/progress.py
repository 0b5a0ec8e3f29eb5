"""How a run stands, as plain numbers: what `run`, `demo` and `status` show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from m365watch.common.missing_files import MissingFiles
from m365watch.common.model import Feed

RETRIED = "m365watch keeps trying"
"""What is said of an error about which nobody can do anything yet."""


@dataclass(slots=True)
class FeedProgress:
    """One feed's figures. Counts of blobs and records are those of the ledger: durable, never estimated."""

    feed: Feed
    watermark: datetime | None = None
    """Every blob created before this instant is known; None before the first listing."""
    listed_at: datetime | None = None
    blobs_waiting: int = 0
    """Known and not yet in a final state."""
    blobs_delivered: int = 0
    blobs_quarantined: int = 0
    blobs_lost: int = 0
    records_delivered: int = 0
    records_duplicate: int = 0
    records_quarantined: int = 0
    """Pieces that were ever put into quarantine."""
    pieces_dropped: int = 0
    """Those of them that an operator has removed, as far as the ledger said when it was opened."""
    unlisted_s: float = 0.0
    """Seconds of contentCreated that were never listed and that the service no longer lists."""
    windows_planned: int = 0
    """Of this run, not of the ledger: windows still to be listed."""
    last_error: str | None = None
    last_error_at: datetime | None = None
    fix: str | None = None
    """What ends `last_error`, where anything does."""
    needs_operator: bool = False
    """Whether it stays until a person has done `fix`; otherwise it is tried again and may pass by itself."""
    error_code: str | None = None
    """The stable name of the kind of `last_error`, as `errors` has it."""

    @property
    def blobs_listed(self) -> int:
        """Every blob ever listed: each is in exactly one state."""
        return self.blobs_waiting + self.blobs_delivered + self.blobs_quarantined + self.blobs_lost

    def lag_s(self, now: datetime) -> float | None:
        """Seconds from the watermark to now; None before the first listing."""
        return None if self.watermark is None else (now - self.watermark).total_seconds()


@dataclass(frozen=True, slots=True)
class OutputProgress:
    """What is wrong with one output, and what it lacks of the blobs that were fetched for all."""

    name: str
    blobs_missing: int
    """Blobs that other outputs have, or that wait in its queue on disk."""
    blobs_queued: int
    """Those of them that wait in its queue on disk; the others are fetched again for it."""
    last_error: str | None = None
    last_error_at: datetime | None = None
    fix: str | None = None
    """What ends it, where anything does."""
    needs_operator: bool = False
    """Whether it stays until a person has done `fix`; otherwise it is tried again and may pass by itself."""
    missing_files: MissingFiles | None = None
    """Of a lake: the data files that are gone from it, as the collector last saw."""
    safe_until: datetime | None = None
    """With an error: when the service may first drop a record that the output lacks; None without one."""

    def next_step(self, now: datetime) -> str:
        """What ends its error, and until when that costs no record."""
        fix = self.fix or RETRIED
        if self.safe_until is None:
            return fix
        at = f"{self.safe_until:%Y-%m-%d %H:%M} UTC"
        if self.safe_until <= now:
            return f"{fix}; records may be lost since {at}"
        return f"{fix}; no record is lost before {at}"


@dataclass(slots=True)
class RunProgress:
    """All feeds of a run."""

    started_at: datetime
    feeds: list[FeedProgress] = field(default_factory=list)
    caught_up: bool = False
    """Every feed has listed up to the start of its last poll and no known blob waits for its first try."""
    before: list[FeedProgress] = field(default_factory=list)
    """The same feeds as they stood when the run began, so that what the run did can be told apart."""
    outputs: list[OutputProgress] = field(default_factory=list)
    """The outputs that have an error or lack something."""
    pieces_dropped: int = 0
    """Pieces that an operator has removed from quarantine, of all feeds there ever were."""
