"""What is known of a credential's end, and what of it is worth a warning. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from m365watch.registry.credential_specs import CredentialEnd, Source

DAYS_AHEAD = (30, 14, 7, 1)
"""So many days before its end a credential is warned of."""
ENDED = 0
"""The threshold of a credential that has ended."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Judged:
    """How one credential of an application stands."""

    number: int
    """Its place among the application's credentials, from 1."""
    end: CredentialEnd
    ends_at: datetime | None
    left: timedelta | None
    """Until then; below zero where it has passed."""
    threshold: int | None
    """The number of `DAYS_AHEAD` that it has come to, or `ENDED`; None: nothing to warn of."""
    others: int
    """How many other credentials of the application go on for longer than any warning reaches."""

    @property
    def days_left(self) -> float | None:
        """Days until the end, below zero where it has passed."""
        return None if self.left is None else self.left / _DAY

    @property
    def stops_collecting(self) -> bool:
        """Whether it has ended and no other credential is known to stand in."""
        return self.threshold == ENDED and not self.others


def threshold_of(left: timedelta) -> int | None:
    """The number of `DAYS_AHEAD` that a credential with so much time left has come to; `ENDED` at its end."""
    if left <= timedelta():
        return ENDED
    return min((days for days in DAYS_AHEAD if left <= days * _DAY), default=None)


def judge(ends: Sequence[CredentialEnd], now: datetime) -> list[Judged]:
    """How each credential of one application stands at `now`."""
    ends_at = [one.ends_at(now) for one in ends]
    left = [None if at is None else at - now for at in ends_at]
    thresholds = [None if span is None else threshold_of(span) for span in left]
    lasting = [
        one.source is Source.RENEWED or (span is not None and threshold is None)
        for one, span, threshold in zip(ends, left, thresholds, strict=True)
    ]
    return [
        Judged(
            place + 1,
            one,
            ends_at[place],
            left[place],
            thresholds[place],
            others=sum(lasting) - lasting[place],
        )
        for place, one in enumerate(ends)
    ]
