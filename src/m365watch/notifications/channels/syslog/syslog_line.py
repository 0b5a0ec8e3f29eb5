"""A notification as a line of syslog: RFC 5424 with the alert's fields as structured data, or CEF behind it.

Source: RFC 5424 section 6 (header, structured data, escapes); "Implementing ArcSight Common Event Format",
version 25 (header, extension, escapes).
"""

from __future__ import annotations

import ipaddress

from m365watch import __version__
from m365watch.common.text import plain
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_text import iso_of, lead_of, shortened, subject_of

ENTERPRISE = 32_473
"""The number behind the name of the structured data: that which IANA keeps for documentation (RFC 5612)."""
VALUE_CHARACTERS_MAX = 1_000
KIND_VALUES_MAX = 10
"""Entities of one kind that a line names."""

_PRIORITIES = {
    Severity.CRITICAL: 2,
    Severity.HIGH: 3,
    Severity.MEDIUM: 4,
    Severity.LOW: 5,
    Severity.INFORMATIONAL: 6,
}
_CEF = {
    Severity.CRITICAL: 10,
    Severity.HIGH: 8,
    Severity.MEDIUM: 5,
    Severity.LOW: 3,
    Severity.INFORMATIONAL: 1,
}


def syslog_line(
    notification: Notification, *, facility: int, host: str, collector: str, is_cef: bool
) -> bytes:
    """The line, without what tells it from the next; it has no line break."""
    priority = facility * 8 + _PRIORITIES[notification.severity]
    at = iso_of(notification.made_at_ms)
    head = f"<{priority}>1 {at} {host} m365watch - {notification.tiding}"
    fields = _fields_of(notification, collector)
    if is_cef:
        return f"{head} - {_cef_of(notification, fields)}".encode("utf-8", "replace")
    parameters = "".join(f' {name}="{escape_parameter(value)}"' for name, value in fields)
    line = f"{head} [alert@{ENTERPRISE}{parameters}] {plain(_text_of(notification))}"
    return line.encode("utf-8", "replace")


def _text_of(notification: Notification) -> str:
    return f"{subject_of(notification)} {lead_of(notification)}".strip()


def _fields_of(notification: Notification, collector: str) -> list[tuple[str, str]]:
    """Names and values; none is empty."""
    fields = [("key", notification.key), ("tiding", str(notification.tiding)), ("collector", collector)]
    fields.append(("severity", str(notification.severity)))
    if notification.is_test:
        fields.append(("test", "true"))
    if notification.digest is not None:
        return [*fields, ("count", str(notification.digest.count))]
    if notification.standing is None:
        return fields
    standing, alert = notification.standing, notification.standing.alert
    fields += [
        ("id", alert.id),
        ("title", alert.title),
        ("rule", alert.rule_id),
        ("detection", alert.detection),
        ("tenant", alert.tenant),
        ("state", str(standing.state)),
        ("changed_by", standing.changed_by),
        ("reason", standing.reason),
        ("first", iso_of(alert.first_at_ms)),
        ("last", iso_of(alert.last_at_ms)),
        ("count", str(alert.count)),
        ("techniques", ",".join(alert.techniques)),
    ]
    # RFC 5424 allows a name to come more than once, as a kind of entity may.
    for kind in dict.fromkeys(kind for kind, _ in alert.entities):
        fields += [(_name_of(kind), value) for value in alert.named(kind)[:KIND_VALUES_MAX]]
    return [(name, value) for name, value in fields if value]


def _name_of(kind: str) -> str:
    """A name of structured data: printable ASCII without blanks, equals sign, bracket and quotation mark."""
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in kind)[:32] or "_"


def escape_parameter(value: str) -> str:
    """A value of structured data: nothing in it ends it, or the line."""
    return (
        shortened(plain(value), VALUE_CHARACTERS_MAX)
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        .replace("]", "\\]")
    )


def _cef_of(notification: Notification, fields: list[tuple[str, str]]) -> str:
    standing = notification.standing
    kind = "digest" if standing is None else standing.alert.detection or standing.alert.rule_id
    name = subject_of(notification) if standing is None else standing.alert.title
    head = ["m365watch", "m365watch", __version__, kind, name, str(_CEF[notification.severity])]
    extension = [*_known_to_cef(notification), ("msg", _text_of(notification))]
    joined: dict[str, str] = {}
    for field, value in fields:
        # CEF reads the last one where a key comes twice.
        joined[field] = f"{joined[field]}, {value}" if field in joined else value
    extension += [(f"m365watch_{field}", value) for field, value in joined.items()]
    return "|".join(["CEF:0", *map(escape_cef_header, head), ""]) + " ".join(
        f"{field}={escape_cef_value(value)}" for field, value in extension
    )


def _known_to_cef(notification: Notification) -> list[tuple[str, str]]:
    """What CEF has keys of its own for."""
    known = [("rt", str(notification.made_at_ms)), ("act", str(notification.tiding))]
    if notification.standing is None:
        return known
    alert = notification.standing.alert
    known += [
        ("externalId", alert.id),
        ("start", str(alert.first_at_ms)),
        ("end", str(alert.last_at_ms)),
        ("cnt", str(alert.count)),
    ]
    if user := alert.entity("user"):
        known.append(("suser", user))
    if (address := _address_of(alert.entity("ip") or alert.entity("address"))) is not None:
        known.append(("src" if address.version == 4 else "c6a2", str(address)))
    return known


def _address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def escape_cef_header(value: str) -> str:
    """A field of CEF's header."""
    return shortened(plain(value), VALUE_CHARACTERS_MAX).replace("\\", "\\\\").replace("|", "\\|")


def escape_cef_value(value: str) -> str:
    """A value of CEF's extension: no other key can begin in it."""
    return shortened(plain(value), VALUE_CHARACTERS_MAX).replace("\\", "\\\\").replace("=", "\\=")
