"""When a process that has ended is started again: a few times, each after a longer wait. Pure.

One that is killed for its memory would be killed again at once; one that met bad luck is worth another try.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

WAITS_S = (30, 120, 600, 3_600)
"""After the first end, the second and so on; after one more it stays ended."""
STEADY_S = 3_600
"""Who has run for so long before the end has made up for the ends before."""


@dataclass(slots=True)
class Restarts:
    """The ends so far, and when the next start may be."""

    waits_s: tuple[int, ...] = WAITS_S
    ends: int = 0
    began_at: datetime | None = None
    not_before: datetime | None = None
    is_over: bool = field(default=False)
    """Whether it is not started again."""

    def may_start(self, now: datetime) -> bool:
        """Whether it may be started now."""
        return not self.is_over and (self.not_before is None or now >= self.not_before)

    def note_start(self, now: datetime) -> None:
        """It runs."""
        self.began_at, self.not_before = now, None

    def note_end(self, now: datetime) -> None:
        """It has ended by itself, or could not be started."""
        if self.began_at is not None and now - self.began_at >= timedelta(seconds=STEADY_S):
            self.ends = 0
        self.began_at = None
        self.ends += 1
        if self.ends > len(self.waits_s):
            self.is_over = True
        else:
            self.not_before = now + timedelta(seconds=self.waits_s[self.ends - 1])

    def give_up(self) -> None:
        """It cannot be started at all."""
        self.ends, self.is_over = self.ends + 1, True

    @property
    def told(self) -> str:
        """What comes next, for who reads that it has ended."""
        if self.is_over:
            times = "once" if self.ends == 1 else f"{self.ends} times"
            return f"{times} now, and is started again with the collector or when rules are read again"
        return f"and is started again when much is to be done after {self.not_before:%H:%M:%S}Z"
