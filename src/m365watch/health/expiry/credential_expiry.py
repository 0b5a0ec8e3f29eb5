"""What is known of a credential's end, and what of it is worth a warning. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

DAYS_AHEAD = (30, 14, 7, 1)
"""So many days before its end a credential is warned of."""
ENDED = 0
"""The threshold of a credential that has ended."""
_DAY = timedelta(days=1)


class CredentialKind(StrEnum):
    """What an application proves itself with."""

    SECRET = "client_secret"
    CERTIFICATE = "certificate"
    FEDERATED = "federated_token"
    MANAGED_IDENTITY = "managed_identity"


class Source(StrEnum):
    """Where an end is known from."""

    CONFIGURATION = "configuration"
    """`client_secret_expires_at`."""
    CERTIFICATE = "certificate"
    """The certificate itself."""
    GRAPH = "graph"
    """What Entra keeps of the application, as Graph tells it."""
    RENEWED = "renewed"
    """Nobody has to know: others renew it before it ends."""
    UNKNOWN = "unknown"


class CredentialEnd(msgspec.Struct, frozen=True):
    """What is known of one credential's end."""

    kind: CredentialKind
    source: Source = Source.UNKNOWN
    ends: tuple[datetime, ...] = ()
    """When it may end, the soonest first: one instant where that is certain, none where nobody knows."""
    note: str = ""
    """Why nothing is known, or why it is not certain."""
    key: str = ""
    """The key below `credentials` that it stands under."""
    mark: str = ""
    """Tells another credential in its place from the same one; no part of it."""

    def ends_at(self, now: datetime) -> datetime | None:
        """Its end: where several are possible, the soonest that has not passed, for it works until then."""
        return next((one for one in self.ends if one > now), self.ends[-1] if self.ends else None)


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
