"""The points that alerts have put on an entity, where they say more together than each by itself."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.rules.severity import Severity

SIGNS_MIN = 3
"""So many detections have to agree."""
REPEATED = 4
"""Of one detection each alert counts so many times less than the one before."""
MORE_SIGNS = 0.1
"""What each detection beyond `SIGNS_MIN` adds to an account's sum, as a share of it."""
TOLD_ALREADY = Severity.HIGH
"""An entity with an alert of this severity has been told of: the sum would only say it once more."""
SHARED_FACTOR = 2
"""So many times the points are asked of what many people share."""
SIGN = "sign"
"""Among an alert's values, its detection, or its rule where that is none of the catalogue."""
ACTOR = "actor"
"""Among an alert's values, the account that is behind it."""
ACCOUNT = "user"
"""The kind of entity that is an account itself."""


@dataclass(slots=True)
class RiskWindow:
    """Points by detection: of each the largest in full, the next a quarter, then a sixteenth."""

    asked: float
    """Points at which there is an alert."""
    points: dict[str, list[float]] = field(default_factory=dict)
    strong: int = 0
    """Alerts that are as bad as the sum would be."""
    actors: Counter[str] = field(default_factory=Counter)
    is_account: bool = True

    def add(self, match: Match) -> None:
        """An alert comes in."""
        self.is_account = match.group[0] == ACCOUNT
        insort(self.points.setdefault(_sign_of(match), []), read_number(match.counted) or 0)
        self.strong += match.severity.rank >= TOLD_ALREADY.rank
        self.actors[match.values.get(ACTOR, "").lower()] += 1

    def drop(self, match: Match) -> None:
        """The oldest goes."""
        sign = _sign_of(match)
        known = self.points[sign]
        known.remove(read_number(match.counted) or 0)
        if not known:
            del self.points[sign]
        self.strong -= match.severity.rank >= TOLD_ALREADY.rank
        actor = match.values.get(ACTOR, "").lower()
        self.actors[actor] -= 1
        if not self.actors[actor]:
            del self.actors[actor]

    def value(self) -> float | None:
        """The sum; None where it would say nothing new.

        That is where one alert is as bad as the sum, where fewer than `SIGNS_MIN` detections agree, and where
        one account is behind all that an address, an application or a site has: its own sum says so.
        """
        if self.strong or len(self.points) < SIGNS_MIN:
            return None
        if not self.is_account and len(self.actors) == 1 and "" not in self.actors:
            return None
        total = 0.0
        for known in self.points.values():
            for place, points in enumerate(reversed(known)):
                total += points / REPEATED**place
        if self.is_account:
            return total * (1 + MORE_SIGNS * (len(self.points) - SIGNS_MIN))
        # An office's address has a little of all who sit there.
        return total if total >= SHARED_FACTOR * self.asked else None


def _sign_of(match: Match) -> str:
    return match.values.get(SIGN) or match.source_id
