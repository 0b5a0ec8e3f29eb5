"""What stands before a record in a line of syslog, and how one line is told from the next; pure.

Source: RFC 5424 section 6 (header), RFC 3164 section 4.1 (header), RFC 6587 section 3.4 (framing).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from m365watch.config.settings import SyslogSettings
from m365watch.model import Batch, BlobKey, RefusedRecord
from m365watch.outputs.devo.fields import add_fields, list_fields
from m365watch.outputs.devo.framing import Framer
from m365watch.outputs.devo.tags import Tags
from m365watch.records.routing import TABLE_PREFIX

HeaderOf = Callable[[str, datetime], bytes]
"""What stands before a record of a table that was received at an instant."""

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
    tags = Tags(settings.tags, where=f"output {settings.name}")
    framer = Framer(
        tags, host=settings.host, line_bytes_max=settings.wire.line_bytes_max, adds_devo_fields=False
    )

    def header(table: str, at: datetime) -> bytes:
        return framer.make_line(tags.tag_of(table), at, b"").removesuffix(b"\n")

    return header


_HEADERS: dict[str, Callable[[SyslogSettings], HeaderOf]] = {
    "rfc5424": rfc5424_header,
    "rfc3164": rfc3164_header,
    "devo": devo_header,
}


class Line(NamedTuple):
    """One record and what is sent for it."""

    blob: BlobKey
    record: bytes
    sent: bytes


class LineMaker:
    """Makes the lines of batches, as the settings want them."""

    def __init__(self, settings: SyslogSettings, framing: Framing) -> None:
        """`framing` is what tells the lines apart on the way that they go."""
        self._header = _HEADERS[settings.format](settings)
        self._framing = framing
        self._adds_devo_fields = settings.adds_devo_fields

    def lines(self, batch: Batch, *, refused: list[RefusedRecord]) -> Iterator[Line]:
        """The batch's lines in order; `refused` grows by the records that cannot be one."""
        for part in batch.parts:
            headers: dict[str, bytes] = {}
            fields = list_fields(part) if self._adds_devo_fields else b""
            for record, table in zip(part.records, part.tables, strict=True):
                header = headers.get(table)
                if header is None:
                    header = headers[table] = self._header(table, part.received_at)
                sent = self._framing.line(header, add_fields(record, fields) if fields else record)
                reason = self._framing.refusal(sent, record)
                if reason is None:
                    yield Line(part.blob, record, sent)
                else:
                    refused.append(RefusedRecord(part.blob, record, reason))

    def line(self, tag: str, body: bytes, *, at: datetime) -> bytes:
        """One line that is no record; `body` has no line break, and `tag` stands where a table would."""
        return self._framing.line(self._header(tag, at), body)


class Framing:
    """Tells one line from the next: by a newline, by its length, or by nothing (one line a datagram)."""

    def __init__(self, kind: str, *, line_bytes_max: int) -> None:
        """`kind` is newline, octet-counting or datagram; `line_bytes_max` counts what goes on the wire."""
        self._counts = kind == "octet-counting"
        self._end = b"\n" if kind == "newline" else b""
        self._line_bytes_max = line_bytes_max

    def line(self, header: bytes, record: bytes) -> bytes:
        """What goes on the wire for `record`."""
        if self._counts:
            return b"%d %b%b" % (len(header) + len(record), header, record)
        return header + record + self._end

    def refusal(self, line: bytes, record: bytes) -> str | None:
        """Why `record` cannot go out as `line`; None where it can."""
        if b"\n" in record:
            return "a line break inside the record"
        if len(line) > self._line_bytes_max:
            return f"a line of {len(line):,} bytes, more than the {self._line_bytes_max:,} that are sent"
        return None


def _priority(settings: SyslogSettings) -> int:
    return settings.facility * 8 + settings.severity


def _shortened(name: str, characters_max: int, *, not_in: re.Pattern[str] = _NOT_PRINTABLE) -> str:
    """`name` as one word of a header; where it is too long, its end stays, which tells most of a table."""
    return not_in.sub("_", name)[-characters_max:] or NIL
