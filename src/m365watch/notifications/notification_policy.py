"""What a target is to be told of an alert, and when; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from m365watch.config.models.notifications import ChannelSection
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import Manner, Standing, Tiding, Told

MINUTE_MS = 60_000
GATHER_MS = 2_000
"""How long what comes after a silence is gathered, so that the worst of it is told first."""
CRITICAL_FACTOR = 2
"""How many times the rate may be told in a minute where what is told beyond it is critical."""
FORGOTTEN_MS = 89 * 86_400_000
"""An alert that ended so long ago and is no more was forgotten, and not withdrawn."""

_BECAME = {
    AlertState.ACKNOWLEDGED: Tiding.ACKNOWLEDGED,
    AlertState.CLOSED: Tiding.CLOSED,
    AlertState.OPEN: Tiding.REOPENED,
}


class Due(NamedTuple):
    """What is to be told, and from when on."""

    tiding: Tiding
    at_ms: int


def wants(section: ChannelSection, alert: Alert) -> bool:
    """Whether the target wants to hear of the alert at all."""
    return (
        alert.severity.rank >= Severity(section.min_severity).rank
        and (not section.tenants or alert.tenant.lower() in section.tenants)
        and (not section.rules or any(map(alert.is_of_rule, section.rules)))
    )


def decide(told: Told | None, now: Standing, section: ChannelSection, *, now_ms: int) -> Due | None:
    """What is to be told of an alert as it stands `now`; None for nothing.

    It depends on nothing but what was told and what is: whatever happened in between, and however often this
    is asked, the target ends up with what is.
    """
    if told is None:
        return _decide_first(now, section, now_ms)
    worse = now.alert.severity.rank > told.severity.rank
    if not now.is_gone and now.is_opened_again and now.changed_at_ms > told.at_ms:
        # Somebody has closed it and more has come: it is nobody's until somebody is told.
        return Due(Tiding.REOPENED if section.resolved else Tiding.UPDATED, now_ms)
    if told.manner is Manner.IN_DIGEST:
        is_urgent = worse and not now.is_gone and now.state is AlertState.OPEN
        return Due(Tiding.NEW, now_ms) if is_urgent and wants(section, now.alert) else None
    if now.is_gone:
        is_over = told.state is AlertState.CLOSED or now.alert.last_at_ms < now_ms - FORGOTTEN_MS
        return None if is_over or not section.resolved else Due(Tiding.WITHDRAWN, now_ms)
    if now.state is not told.state and section.resolved:
        return Due(_BECAME[now.state], now_ms)
    if now.state is AlertState.CLOSED or not section.update_interval_secs or now.mark == told.mark:
        return Due(Tiding.UPDATED, now_ms) if worse and now.state is not AlertState.CLOSED else None
    return Due(
        Tiding.UPDATED, now_ms if worse else max(now_ms, told.at_ms + section.update_interval_secs * 1000)
    )


def _decide_first(now: Standing, section: ChannelSection, now_ms: int) -> Due | None:
    if now.is_gone or not wants(section, now.alert):
        return None
    if now.state is AlertState.CLOSED and not section.tells_closed:
        return None
    return Due(Tiding.NEW, now_ms)


def told_state(tiding: Tiding, state: AlertState) -> AlertState:
    """The state that a target takes an alert to be in once it was told so.

    What is new is open to it: that somebody has it in hand already is told next.
    """
    return AlertState.OPEN if tiding is Tiding.NEW else state


class Move(Enum):
    """What a target's next notification is."""

    NOTHING = auto()
    ALONE = auto()
    """The worst one that waits, alone."""
    DIGEST = auto()
    """All that wait together."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a target."""

    due: int
    """Alerts whose time has come."""
    growth_due: int
    """Those of them that a digest may stand for."""
    folded: int
    """Alerts for which there was no room, and that are only counted."""
    critical_due: int = 0
    """Those whose time has come that are critical."""
    oldest_ms: int = 0
    """Since when the first of those whose time has come has waited; 0: not known."""


def choose(
    waiting: Waiting, sent_ms: Sequence[int], section: ChannelSection, *, now_ms: int
) -> tuple[Move, int]:
    """The next move, and for `NOTHING` when to ask again (0: when something has changed).

    The worst come first, alone. Where more wait than are to be told alone, a minute's last turn is for a
    digest of all of them; what is only counted comes once nothing else is due. What is critical does not wait
    for the minute to pass: it may be as many again. What comes after a silence is gathered for `GATHER_MS`
    where the rate would be spent on the first to come, unless it is critical.
    `sent_ms` are the times of what was sent in the last minute, in order.
    """
    if not waiting.due and not waiting.folded:
        return Move.NOTHING, 0
    rate = section.rate_limit_per_minute
    if rate is None:
        return (Move.ALONE if waiting.due else Move.DIGEST), 0
    lately = [at_ms for at_ms in sent_ms if at_ms > now_ms - MINUTE_MS]
    most = rate * (CRITICAL_FACTOR if waiting.critical_due else 1)
    if len(lately) >= most:
        return Move.NOTHING, lately[len(lately) - most] + MINUTE_MS
    if not waiting.due:
        return Move.DIGEST, 0
    gathered_ms = waiting.oldest_ms + GATHER_MS
    if not lately and not waiting.critical_due and now_ms < gathered_ms:
        return Move.NOTHING, gathered_ms
    is_too_much = waiting.growth_due > section.digest_after
    is_last = len(lately) + 1 in (rate, most)
    return (Move.DIGEST if is_last and is_too_much else Move.ALONE), 0
