"""What the service serves: bodies, records, fields, on their way to lines and columns."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random

from made_outputs import syslog_to
from masks_written import mask_of

from fuzz_contract import Attempt, Broken, Loop, Target, allowed
from fuzz_values import json_text
from m365watch.common.model import (
    Batch,
    BatchPart,
    BlobKey,
    ContentType,
    Feed,
    Header,
    RefusedRecord,
    TenantId,
)
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.http.client import inflate
from m365watch.lake.writer.record_columns import tabulate
from m365watch.outputs.devo.line_format import Framing, HeaderOf, LineMaker, devo_header
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.syslog.syslog_output import rfc3164_header, rfc5424_header
from m365watch.records.identity import IdentityMaker
from m365watch.records.masking import Masker
from m365watch.records.split import SplitBlob, split_blob
from m365watch_testing.syslog_parser import SyslogParser

TENANT = TenantId("6b0d8a4e-2f3c-4b5d-8e7f-0a1b2c3d4e5f")
FEED = Feed(TENANT, ContentType.EXCHANGE)
AT = datetime(2026, 11, 17, 9, 30, tzinfo=UTC)
NAMES = (
    "Id", "CreationTime", "Operation", "RecordType", "Workload", "UserId", "UserType", "ClientIP", "ObjectId",
    "ResultStatus", "OrganizationId", "ExtendedProperties", "Parameters", "ModifiedProperties", "DeviceProperties",
    "Actor", "Target", "Name", "Value", "NewValue", "OldValue", "Data", "AppId", "SessionId", "ActorIpAddress",
)  # fmt: skip
WORDS = (
    *(f'"{name}":'.encode() for name in NAMES), b'"2026-11-17T09:00:00"', b"[{", b"}]", b"},{", b'"[{\\"Name\\":\\"x\\"}]"',
    b'"CreationTime":"2026-11-17T09:00:00","Operation":"x","RecordType":1', b"\\u0041", b"\r\n",
)  # fmt: skip
_PUNCTUATION = b"[],\xef\xbb\xbf \t\r\n\0"


@cache
def simulated_records() -> tuple[bytes, ...]:
    """One record of each kind that the simulated tenant has."""
    from fuzz_corpus import one_of_each_kind

    return one_of_each_kind()


def blobs() -> list[bytes]:
    records = simulated_records()
    few = [b"[" + b",".join(records[start : start + 3]) + b"]" for start in range(0, len(records), 3)]
    pretty = json.dumps(json.loads(few[0]), indent=1).encode()
    return [*few, pretty, b"[]", b"", b'{"error":{"code":"AF429"}}']


def grow_blob(random: Random) -> bytes:
    return json_text(random, [[json_value_of_record(random) for _ in range(random.randrange(4))]])


def json_value_of_record(random: Random) -> object:
    from fuzz_values import value

    return {random.choice(NAMES): value(random, NAMES) for _ in range(random.randrange(12))}


def _prepare_split(_: Path) -> Attempt:
    maker = IdentityMaker(7)

    def attempt(given: bytes) -> None:
        for wide in (True, False):
            found = split_blob(given, wide=wide)
            kept = b"".join([*found.records, *(fragment.body for fragment in found.fragments)])
            if sorted(kept.translate(None, _PUNCTUATION)) != sorted(given.translate(None, _PUNCTUATION)):
                raise Broken("bytes of the body are in no record and no fragment")
            if len(found.records) != len(found.headers):
                raise Broken("a record without its header")
            if any(b"\n" in record or b"\r" in record for record in found.records):
                raise Broken("a record of several lines")
            for header in found.headers:
                _check_header(header)
            maker.identities(TENANT, found.headers)

    return attempt


def _check_header(header: Header) -> None:
    for name in header.__struct_fields__:
        value = getattr(header, name)
        if isinstance(value, str):
            value.encode()


_MASKS = (
    mask_of(("UserId",), "***", ()),
    mask_of(("ExtendedProperties", "*", "Value"), "?", (r"[a-z]+@[a-z.]+", r"(\d+)+$")),
    mask_of(("*", "Name"), "-", ("(a|a)*b", "^(.+)+$")),
    mask_of(("Parameters", "0", "Value"), "~", ("all",)),
)


def _prepare_masks(_: Path) -> Attempt:
    masker = Masker(_MASKS, spent_s=time.thread_time)

    def attempt(given: bytes) -> None:
        split = split_blob(given, wide=True)
        masked = masker.mask(split, wide=True)
        if len(masked.records) + len(masked.fragments) != len(split.records) + len(split.fragments):
            raise Broken("masking loses or makes records")
        again = masker.mask(SplitBlob(masked.records, masked.headers), wide=True)
        if len(again.records) != len(masked.records):
            raise Broken("what masking makes cannot be read")

    return attempt


def _prepare_inflate(_: Path) -> Attempt:
    loop = Loop()
    bytes_max = 4 << 20

    def attempt(given: bytes) -> None:
        for coding in ("gzip", "deflate", given[:8].decode("latin-1")):
            with allowed():
                whole = loop.run(inflate(given, coding, bytes_max=bytes_max, where="contoso"))
                if len(whole) > bytes_max:
                    raise Broken("more than the bound")

    return attempt


def compressed() -> list[bytes]:
    body = blobs()[0]
    return [
        gzip.compress(body),
        zlib.compress(body),
        gzip.compress(b"") * 40,
        gzip.compress(body) + gzip.compress(body),
        gzip.compress(bytes(8 << 20)),
        zlib.compress(bytes(40 << 20), 9),
    ]


def batch_of(given: bytes, *, views: bool = False) -> Batch:
    """What the splitter makes of it, in tables of the records' own naming."""
    split = split_blob(given, wide=True, views=views)
    tables = [TABLE_PREFIX + (header.Workload or "general").lower() for header in split.headers]
    part = BatchPart(
        blob=BlobKey(1), feed=FEED, received_at=AT, records=split.records, headers=split.headers, tables=tables,
        missing_outputs=frozenset({"out"}),
    )  # fmt: skip
    return Batch(number=1, parts=[part])


def _prepare_columns(_: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        batch = batch_of(given)
        if not batch.parts[0].records:
            return
        rows = tabulate(batch)
        rows.validate(full=True)
        if rows.num_rows != len(batch.parts[0].records):
            raise Broken("not a row for each record")
        if not tabulate(batch_of(given, views=True)).equals(rows):
            raise Broken("other rows of views than of bytes")

    return attempt


_SYSLOG = syslog_to("127.0.0.1", 514, hostname="collector.example")
_RFC5424 = re.compile(
    rb"<\d{1,3}>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [!-~]{1,255} [!-~]{1,48} - [!-~]{1,32} - "
)
_RFC3164 = re.compile(rb"<\d{1,3}>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d collector\.example [!-~]{1,64}?: ")
_DEVO = re.compile(rb"<14>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} collector [A-Za-z0-9_.-]+: ")


def _prepare_lines(_: Path) -> Attempt:

    forms: list[tuple[HeaderOf, re.Pattern[bytes]]] = [
        (rfc5424_header(_SYSLOG), _RFC5424),
        (rfc3164_header(_SYSLOG), _RFC3164),
        (devo_header(Tags(_SYSLOG), host="collector"), _DEVO),
    ]

    def attempt(given: bytes) -> None:
        batch = batch_of(given)
        for header, form in forms:
            for kind in ("newline", "octet-counting"):
                refused: list[RefusedRecord] = []
                maker = LineMaker(header, Framing(kind, line_bytes_max=64 << 10), adds_devo_fields=False)
                sent = b"".join(maker.lines(batch, refused=refused))
                _check_lines(sent, form, batch, refused)

    return attempt


def _check_lines(sent: bytes, form: re.Pattern[bytes], batch: Batch, refused: list[RefusedRecord]) -> None:
    """A reader of another hand sees each record, in its own line."""
    reader = SyslogParser()
    reader.feed(sent)
    gone = [one.record for one in refused]
    expected = [record for record in batch.parts[0].records if record not in gone]
    read = []
    for line in reader.lines:
        head = form.match(line)
        if head is None:
            raise Broken(f"a line without its header: {line[:120]!r}")
        read.append(line[head.end() :])
    if read != expected:
        raise Broken("the lines read are not the records sent")


def _prepare_shown(_: Path) -> Attempt:
    from m365watch.board.widgets.record_text import text_of
    from m365watch.detection.alerts.alert_text import details_of, failure_of
    from m365watch.records.headers import object_of

    def attempt(given: bytes) -> None:
        raw = given.decode("utf-8", "replace")
        for text in (details_of(raw), failure_of(raw), *map(text_of, object_of(raw).values())):
            text.encode()
            if len(text) > 16_384:
                raise Broken(f"shows {len(text):,} characters of a record")

    return attempt


def single_records() -> list[bytes]:
    deep = b"[" * 4_000 + b"]" * 4_000
    named = b'{"Parameters":[{"Name":"ForwardTo","Value":"%b"}],"ResultStatus":"Failed","LogonError":%b}'
    return [*simulated_records(), named % (deep, deep), named % (b"x", b'"y"')]


def grow_record(random: Random) -> bytes:
    return json_text(random, [json_value_of_record(random)])


TARGETS = (
    Target("shown", _prepare_shown, single_records, grow_record, WORDS),
    Target("split", _prepare_split, blobs, grow_blob, WORDS),
    Target("masks", _prepare_masks, blobs, grow_blob, WORDS, input_bytes_max=32 << 10, free_cpu_s=3.0),
    Target("inflate", _prepare_inflate, compressed),
    Target("columns", _prepare_columns, blobs, grow_blob, WORDS),
    Target("lines", _prepare_lines, blobs, grow_blob, WORDS),
)
