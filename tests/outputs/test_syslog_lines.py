"""What stands before a record, and how lines are told apart."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from made_outputs import syslog_to
from promises import guarantee

from m365watch.common.model import RefusedRecord
from m365watch.outputs.devo.line_format import Framing, LineMaker, Source
from m365watch.outputs.syslog.syslog_output import rfc3164_header, rfc5424_header
from m365watch.records.split import split_blob
from m365watch_testing.batches import make_simple_batch

SETTINGS = syslog_to("127.0.0.1", 514, hostname="collector.example")
EXCHANGE = "cloud.office365.management.exchange"
AT = datetime(2026, 11, 7, 9, 5, 3, 98_765, tzinfo=UTC)
RFC5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) - ([!-~]{1,32}) - "
)
HOSTILE_TABLES = ["", " ", "é", "a b", "a\nb", "a\x00b", "]: <14>", "x" * 400, "../../etc/passwd", "%{table}"]


def test_a_line_of_rfc_5424_carries_the_table_as_msgid() -> None:
    """Priority, version, UTC with milliseconds, host, application, no process, table, no structured data."""
    header = rfc5424_header(SETTINGS)(EXCHANGE, AT)

    assert header == b"<14>1 2026-11-07T09:05:03.098Z collector.example m365watch - exchange - "


def test_a_line_of_rfc_3164_has_its_day_padded() -> None:
    """The month in English whatever the locale, the day in two places, the tag up to its colon."""
    header = rfc3164_header(SETTINGS)(EXCHANGE, AT)

    assert header == b"<14>Nov  7 09:05:03 collector.example m365watch: "


@pytest.mark.parametrize(
    ("facility", "severity", "priority"), [(0, 0, 0), (1, 6, 14), (16, 5, 133), (23, 7, 191)]
)
def test_facility_and_severity_make_the_priority(facility: int, severity: int, priority: int) -> None:
    """Eight times the facility and the severity."""
    settings = SETTINGS.with_options(facility=facility, severity=severity)

    for header in (rfc5424_header(settings), rfc3164_header(settings)):
        assert header(EXCHANGE, AT).startswith(b"<%d>" % priority)


def test_the_application_may_carry_the_table() -> None:
    """`{table}` stands for the whole table; the longest one of Devo's fits into RFC 3164's tag.

    A host that is not known is `-` in RFC 5424 and left out in RFC 3164, where rsyslog takes `-` for none.
    """
    settings = SETTINGS.with_options(app_name="{table}", hostname="-")
    longest = "cloud.office365.management.dlpsensitiveinformationtype"

    assert rfc5424_header(settings)(EXCHANGE, AT).split(b" ")[3] == EXCHANGE.encode()
    assert rfc3164_header(settings)(longest, AT) == b"<14>Nov  7 09:05:03 " + longest.encode() + b": "


@pytest.mark.parametrize("table", HOSTILE_TABLES)
def test_no_table_breaks_the_header_of_rfc_5424(table: str) -> None:
    """Each field stays one printable word within its length, and none is empty."""
    header = rfc5424_header(SETTINGS.with_options(app_name="{table}", hostname="a b"))(table, AT)

    assert RFC5424.fullmatch(header)


@pytest.mark.parametrize("table", HOSTILE_TABLES)
def test_no_table_breaks_the_header_of_rfc_3164(table: str) -> None:
    """The tag ends where its colon is."""
    header = rfc3164_header(SETTINGS.with_options(app_name="{table}"))(table, AT)

    assert re.fullmatch(rb"<14>Nov  7 09:05:03 collector\.example [!-9;-Z\\^-~]{1,64}: ", header)


def test_octets_are_counted_in_bytes() -> None:
    """The number before a line is the length of the line in bytes, not in characters."""
    framing = Framing("octet-counting", line_bytes_max=1000)

    assert framing.line(b"<14>1 ", "é漢".encode()) == b"11 <14>1 \xc3\xa9\xe6\xbc\xa2"


def test_a_datagram_ends_where_its_line_ends() -> None:
    """Nothing tells lines apart that travel alone."""
    assert Framing("datagram", line_bytes_max=1000).line(b"<14>", b"{}") == b"<14>{}"


def test_what_makes_no_line_is_refused_with_the_reason() -> None:
    """Beyond the bound, which counts every byte on the wire, or with a second line in it."""
    records = [b"{....}", b"{...}", b"{\n}"]
    maker = LineMaker(lambda _, __: b"<14>", Framing("newline", line_bytes_max=10), adds_devo_fields=False)
    refused: list[RefusedRecord] = []
    sources: list[Source] = []

    lines = list(maker.lines(make_simple_batch(1, records, output="x"), refused=refused, sources=sources))

    assert lines == [b"<14>{...}\n"]
    assert [source.record for source in sources] == [b"{...}"]
    assert [(one.record, one.reason) for one in refused] == [
        (b"{....}", "a line of 11 bytes, more than the 10 that are sent"),
        (b"{\n}", "a line break inside the record"),
    ]


@guarantee(22)
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x00\x0b\x0c\x1b\x7f\u2028", "\n<14>1 - - - - - - forged"]
)
def test_whatever_a_record_says_it_is_one_line(text: str) -> None:
    """A line break inside a value is escaped in JSON, one between the tokens of a blob becomes a space."""
    written = {"Id": "1", "Operation": "x", "ObjectId": text}
    blob = json.dumps([written, {"Id": "2"}], indent=2).replace("\n", "\r\n").encode()

    records = split_blob(blob, wide=False).records

    framing = Framing("newline", line_bytes_max=10_000)
    lines = b"".join(framing.line(b"<14>1 ", record) for record in records)
    assert [json.loads(line.removeprefix(b"<14>1 ")) for line in lines.split(b"\n")[:-1]] == [
        written,
        {"Id": "2"},
    ]
