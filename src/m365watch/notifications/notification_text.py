"""What a notification says, in words that every form of it uses; values stay as the alert has them."""

from __future__ import annotations

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_text import list_kinds, who
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.notifications.notification import Digest, Notification, Standing, Tiding

SUBJECT_CHARACTERS_MAX = 180
ID_SHOWN = 8
"""Digits of an alert's id that stand for it in commands."""
CHECKS_SHOWN = 6
STEPS_SHOWN = 6
NAMES_SHOWN = 5

_TIDINGS = {
    Tiding.NEW: "",
    Tiding.UPDATED: "update: ",
    Tiding.ACKNOWLEDGED: "acknowledged: ",
    Tiding.CLOSED: "closed: ",
    Tiding.REOPENED: "opened again: ",
    Tiding.WITHDRAWN: "withdrawn: ",
}
_AT_WORK = frozenset({Tiding.NEW, Tiding.UPDATED, Tiding.REOPENED})
"""After these somebody has something to do."""
_WITHDRAWN = (
    "There is no such alert any more: a record that came late has shown that there was nothing, "
    "it belongs to another alert, or an exception holds for it."
)
_TEST = "This is a test of m365watch's notifications; nothing has happened."


def subject_of(notification: Notification) -> str:
    """One line that says how bad it is, what it is, and whom it is about."""
    severity = str(notification.severity).upper()
    if notification.digest is not None:
        count = notification.digest.count
        return f"[{severity}] {count:,} alerts: {counts_of(notification.digest)}"
    if notification.standing is None:
        return f"[{severity}]"
    alert = notification.standing.alert
    about = who(alert)
    test = "TEST: " if notification.is_test else ""
    line = f"[{severity}] {test}{_TIDINGS[notification.tiding]}{alert.title}{f' ({about})' if about else ''}"
    return shortened(line, SUBJECT_CHARACTERS_MAX)


def lead_of(notification: Notification) -> str:
    """What happened, in a sentence or two."""
    if notification.digest is not None:
        return f"{notification.digest.count:,} alerts at once, told together."
    if notification.is_test:
        return _TEST
    standing = notification.standing
    if standing is None:
        return ""
    if notification.tiding is Tiding.WITHDRAWN:
        return _WITHDRAWN
    if standing.is_opened_again and notification.tiding in (Tiding.REOPENED, Tiding.UPDATED):
        return f"{state_of(standing)}. {standing.alert.explanation}"
    return state_of(standing) if _is_of_state(notification.tiding) else standing.alert.explanation


def _is_of_state(tiding: Tiding) -> bool:
    return tiding in (Tiding.ACKNOWLEDGED, Tiding.CLOSED, Tiding.REOPENED)


def state_of(standing: Standing) -> str:
    """Who has put the alert into its state, and why; empty where nobody has."""
    if not standing.changed_at_ms:
        return ""
    words = "opened again" if standing.state is AlertState.OPEN else str(standing.state)
    by = f" by {standing.changed_by}" if standing.changed_by else ""
    return f"{words}{by}" + (f": {standing.reason}" if standing.reason else "")


def facts_of(notification: Notification) -> list[tuple[str, str]]:
    """Names and values, in the order in which somebody who is woken needs them; none is empty."""
    if notification.digest is not None:
        return _facts_of_digest(notification.digest)
    if notification.standing is None:
        return []
    standing, alert = notification.standing, notification.standing.alert
    facts = [
        *list_kinds(alert, most=NAMES_SHOWN),
        ("when", when_of(alert.first_at_ms, alert.last_at_ms)),
        ("records", f"{alert.count:,}"),
        ("ATT&CK", ", ".join(alert.techniques)),
        ("detection", alert.detection or alert.rule_id),
        ("tenant", alert.tenant),
        ("state", "" if _is_of_state(notification.tiding) else state_of(standing)),
        ("alert", alert.id),
    ]
    return [(name, value) for name, value in facts if value]


def _facts_of_digest(digest: Digest) -> list[tuple[str, str]]:
    return [
        ("alerts", counts_of(digest)),
        ("when", when_of(digest.first_at_ms, digest.last_at_ms)),
    ]


def list_lines(notification: Notification) -> list[str]:
    """What is to be looked at next, or the worst of many alerts."""
    if notification.digest is not None:
        return _lines_of_digest(notification.digest)
    if notification.standing is None or notification.tiding not in _AT_WORK:
        return []
    return list(notification.standing.alert.check[:CHECKS_SHOWN])


def _lines_of_digest(digest: Digest) -> list[str]:
    lines = [one_line(standing.alert) for standing in digest.worst]
    named = {standing.alert.title for standing in digest.worst}
    lines += [f"{number:,} x {title}" for title, number in digest.rules if title not in named]
    return lines


def list_title(notification: Notification) -> str:
    """What stands above `list_lines`."""
    return "The worst of them" if notification.digest is not None else "What to look at next"


def command_of(notification: Notification) -> str:
    """What shows more of it, on the collector's machine."""
    if notification.standing is None:
        return "m365watch alerts list"
    return f"m365watch alerts show {notification.standing.alert.id[:ID_SHOWN]}"


def contain_of(notification: Notification) -> str:
    """How it is contained, and the command that plans it; empty where there is nothing to contain."""
    standing = notification.standing
    if standing is None or notification.is_test or notification.tiding not in _AT_WORK:
        return ""
    steps = ", ".join(one.replace("_", " ") for one in standing.alert.contain[:STEPS_SHOWN])
    more = len(standing.alert.contain) - STEPS_SHOWN
    steps += f" and {more} more" if more > 0 else ""
    command = f"m365watch respond {standing.alert.id[:ID_SHOWN]}"
    return f"How to contain it: {steps} ({command})" if steps else f"How to contain it: {command}"


def one_line(alert: Alert) -> str:
    """An alert among many."""
    about = who(alert)
    line = f"{alert.id[:ID_SHOWN]} [{alert.severity}] {alert.title}{f' ({about})' if about else ''}"
    return shortened(line, SUBJECT_CHARACTERS_MAX)


def counts_of(digest: Digest) -> str:
    """How many of each severity."""
    return ", ".join(f"{number:,} {severity}" for severity, number in digest.counts)


def when_of(first_ms: int, last_ms: int) -> str:
    """A time, or from when to when."""
    first, last = shown(first_ms), shown(last_ms)
    return first if first == last else f"{first} to {last}"


def shown(at_ms: int) -> str:
    """The instant for people."""
    return f"{instant_of_ms(at_ms):%Y-%m-%d %H:%M:%SZ}"


def iso_of(at_ms: int) -> str:
    """The instant for machines, to the millisecond."""
    return instant_of_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shortened(text: str, characters_max: int) -> str:
    """At most so many characters; what is left out shows."""
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"
