"""What there is to tell, as values: how an alert stands, what a target was told, and what it is told next."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.reopen_policy import BY as REOPENED_BY
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, rank_alerts
from m365watch.detection.rules.extension import Severity


class Tiding(StrEnum):
    """What a target is told of an alert."""

    NEW = "new"
    UPDATED = "updated"
    """It has grown, or become more severe."""
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"
    REOPENED = "reopened"
    WITHDRAWN = "withdrawn"
    """A record that came late has shown that there was nothing, or that it is part of another alert."""


GROWTH = frozenset({Tiding.NEW, Tiding.UPDATED})
"""What a digest may stand for; what becomes of an alert is told one by one."""
OVER = frozenset({Tiding.CLOSED, Tiding.WITHDRAWN})
"""After these there is nothing more to do."""


class Manner(StrEnum):
    """How a target was told of an alert last."""

    ALONE = "alone"
    IN_DIGEST = "digest"


class Standing(msgspec.Struct, frozen=True):
    """How an alert stands."""

    alert: Alert
    state: AlertState = AlertState.OPEN
    reason: str = ""
    changed_by: str = ""
    changed_at_ms: int = 0
    is_gone: bool = False
    """Whether it was withdrawn, or has become part of another."""

    @property
    def is_opened_again(self) -> bool:
        """Whether somebody had closed it, and more has come since."""
        return self.state is AlertState.OPEN and self.changed_by == REOPENED_BY

    @property
    def mark(self) -> str:
        """The same for the same alert, whatever an analyst makes of it; 16 hexadecimal digits."""
        return _digest(msgspec.json.encode(self.alert))


class Told(msgspec.Struct, frozen=True):
    """What a target has last been told of an alert."""

    thread: AlertId
    """The id under which the target knows the alert: that which it had when it was first told."""
    manner: Manner
    at_ms: int
    state: AlertState
    severity: Severity
    mark: str


class Covered(msgspec.Struct, frozen=True):
    """An alert that something is told of."""

    alert_id: AlertId
    tiding: Tiding
    severity: Severity
    state: AlertState
    mark: str


class Digest(msgspec.Struct, frozen=True):
    """Many alerts told as one."""

    covered: tuple[Covered, ...]
    worst: tuple[Standing, ...]
    """The worst of them, in this order, at most `NAMED_MAX`."""
    counts: tuple[tuple[Severity, int], ...]
    """How many of each severity, the worst first."""
    rules: tuple[tuple[str, int], ...]
    """How many of each title, the most frequent first, at most `NAMED_MAX`."""
    first_at_ms: int
    last_at_ms: int

    @property
    def count(self) -> int:
        """How many alerts it stands for."""
        return sum(number for _, number in self.counts)

    @property
    def severity(self) -> Severity:
        """That of the worst."""
        return next((severity for severity, _ in self.counts), Severity.INFORMATIONAL)


NAMED_MAX = 20
"""Alerts, and titles of rules, that a digest names."""


class Notification(msgspec.Struct, frozen=True):
    """One thing that is told: the same in every try."""

    key: str
    """Tells it from any other: a receiver that knows the key has had it before."""
    thread: str
    """The same for all that is told of one alert."""
    tiding: Tiding
    made_at_ms: int
    standing: Standing | None = None
    digest: Digest | None = None
    """In place of `standing`."""
    is_test: bool = False

    @property
    def severity(self) -> Severity:
        """That of the alert, or of the worst in the digest."""
        if self.standing is not None:
            return self.standing.alert.severity
        return self.digest.severity if self.digest is not None else Severity.INFORMATIONAL


def standing_of(kept: KeptAlert) -> Standing:
    """How an alert stands that is kept."""
    return Standing(kept.alert, kept.state, kept.reason, kept.changed_by, kept.changed_at_ms)


def cover(tiding: Tiding, standing: Standing) -> Covered:
    """What telling so of an alert comes to."""
    alert = standing.alert
    return Covered(alert.id, tiding, alert.severity, standing.state, standing.mark)


def make_notification(
    tiding: Tiding, standing: Standing, *, thread: str, made_at_ms: int, is_test: bool = False
) -> Notification:
    """What is told of one alert; its key is made of what it says and when, for an alert may come back."""
    said = _digest(msgspec.json.encode((tiding, standing, made_at_ms)))
    return Notification(
        f"{standing.alert.id}-{said}", thread, tiding, made_at_ms, standing=standing, is_test=is_test
    )


def make_digest(
    due: list[tuple[Tiding, Standing]], folded: list[tuple[Severity, str, int, int, int]], *, made_at_ms: int
) -> Notification:
    """What is told of many alerts; `folded` are severity, title, count, first and last time of others."""
    alerts = [standing.alert for _, standing in due]
    severities: dict[Severity, int] = {}
    titles: dict[str, int] = {}
    for severity, title, number in [
        *((alert.severity, alert.title, 1) for alert in alerts),
        *((severity, title, number) for severity, title, number, _, _ in folded),
    ]:
        severities[severity] = severities.get(severity, 0) + number
        titles[title] = titles.get(title, 0) + number
    ranks = rank_alerts(alerts)
    worst = sorted(due, key=lambda one: one[1].alert.first_at_ms)
    worst.sort(key=lambda one: ranks[one[1].alert.id], reverse=True)
    digest = Digest(
        covered=tuple(cover(tiding, one) for tiding, one in due),
        worst=tuple(one for _, one in worst[:NAMED_MAX]),
        counts=tuple(sorted(severities.items(), key=lambda one: -one[0].rank)),
        rules=tuple(sorted(titles.items(), key=lambda one: (-one[1], one[0]))[:NAMED_MAX]),
        first_at_ms=min(
            [*(alert.first_at_ms for alert in alerts), *(first for *_, first, _ in folded)], default=0
        ),
        last_at_ms=max([*(alert.last_at_ms for alert in alerts), *(last for *_, last in folded)], default=0),
    )
    key = f"digest-{_digest(msgspec.json.encode((digest, made_at_ms)))}"
    return Notification(key, key, Tiding.NEW, made_at_ms, digest=digest)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
