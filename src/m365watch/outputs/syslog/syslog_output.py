"""What stands before a record in a line of syslog; pure.

Source: RFC 5424 section 6, RFC 3164 section 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.outputs.devo import line_format_framing as framing
from m365watch.outputs.devo.lines import HeaderOf
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.syslog.spec import SyslogSettings

NIL = "-"
"""How syslog says nothing."""

HOST_CHARACTERS_MAX = 255
APP_NAME_CHARACTERS_MAX = 48
MSGID_CHARACTERS_MAX = 32
TAG_CHARACTERS_MAX = 64
"""RFC 3164 allows 32; the receivers of today read on to the colon, and a table's name may be longer."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_PRINTABLE = re.compile(r"[^!-~]+")
_NOT_IN_TAG = re.compile(r"[^!-9;-Z\\^-~]+")
"""A colon or a bracket ends the TAG of RFC 3164."""
_TABLE = "{table}"


def rfc5424_header(settings: SyslogSettings) -> HeaderOf:
    """Headers such as `<14>1 2026-11-17T09:30:00.000Z host m365watch - exchange - `.

    MSGID is the table without `cloud.office365.management.`, so that a receiver can filter on it.
    There is no structured data, whose names would need a number of our own at IANA. There is no byte order
    mark before the record, which few receivers take off: RFC 5424 calls what comes without it MSG-ANY.
    """
    start = f"<{_priority(settings)}>1 "
    host = _shortened(settings.host, HOST_CHARACTERS_MAX)

    def header(table: str, at: datetime) -> bytes:
        app_name = _shortened(settings.app_name.replace(_TABLE, table), APP_NAME_CHARACTERS_MAX)
        kind = _shortened(table.removeprefix(TABLE_PREFIX), MSGID_CHARACTERS_MAX)
        instant = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
        return f"{start}{instant} {host} {app_name} {NIL} {kind} {NIL} ".encode()

    return header


def rfc3164_header(settings: SyslogSettings) -> HeaderOf:
    """Headers such as `<14>Nov 17 09:30:00 host m365watch: `, in UTC.

    A host that is not known is left out, since `-` is none there; receivers then take the sender's address.
    """
    start = f"<{_priority(settings)}>"
    host = "" if settings.host == NIL else f" {_shortened(settings.host, HOST_CHARACTERS_MAX)}"

    def header(table: str, at: datetime) -> bytes:
        tag = _shortened(settings.app_name.replace(_TABLE, table), TAG_CHARACTERS_MAX, not_in=_NOT_IN_TAG)
        return f"{start}{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}{host} {tag}: ".encode()

    return header


def devo_header(settings: SyslogSettings) -> HeaderOf:
    """Headers as `devo_platform` has them, such as `<14>2026-11-17 09:30:00.000 host table: `.

    A table that Devo lacks becomes the fallback tag; facility and severity are those of Devo's senders.
    """
    return framing.devo_header(Tags(settings.tags, where=f"output {settings.name}"), host=settings.host)


def make_header(settings: SyslogSettings) -> HeaderOf:
    """Headers of the format that the settings name."""
    return _HEADERS[settings.format](settings)


_HEADERS: dict[str, Callable[[SyslogSettings], HeaderOf]] = {
    "rfc5424": rfc5424_header,
    "rfc3164": rfc3164_header,
    "devo": devo_header,
}


def _priority(settings: SyslogSettings) -> int:
    return settings.facility * 8 + settings.severity


def _shortened(name: str, characters_max: int, *, not_in: re.Pattern[str] = _NOT_PRINTABLE) -> str:
    """`name` as one word of a header; where it is too long, its end stays, which tells most of a table."""
    return not_in.sub("_", name)[-characters_max:] or NIL
