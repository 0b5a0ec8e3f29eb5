from __future__ import annotations

import gzip
import zlib
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_outputs import syslog_to
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.model import RefusedRecord
from m365watch.outputs.devo.devo_output import Gauge, list_compressed, make_compress
from m365watch.outputs.devo.line_format import (
    Framing,
    LineMaker,
    add_fields,
    devo_header,
    join_chunks,
    list_fields,
)
from m365watch.outputs.devo.spec import CompressionKeys
from m365watch.outputs.devo.tags import Tags, is_tag
from m365watch.records.routing import UNION_TABLE
from m365watch_testing.batches import make_part, make_simple_batch
from m365watch_testing.syslog_parser import SyslogParser

OUTPUT = syslog_to("h", 514)
FIELDS = b'"@devo_pulling_id":"17"'

OBJECTS = {
    "plain": (b'{"a":1}', b'{"a":1,"@devo_pulling_id":"17"}'),
    "empty": (b"{}", b'{"@devo_pulling_id":"17"}'),
    "empty with blanks": (b"{ \t}", b'{ \t"@devo_pulling_id":"17"}'),
    "blanks inside": (b'{ "a" : 1 }', b'{ "a" : 1 ,"@devo_pulling_id":"17"}'),
    "blanks behind": (b'{"a":1} \t', b'{"a":1,"@devo_pulling_id":"17"} \t'),
    "an object last": (b'{"a":{}}', b'{"a":{},"@devo_pulling_id":"17"}'),
    "a brace in a text": (b'{"a":"{"}', b'{"a":"{","@devo_pulling_id":"17"}'),
    "the key is there": (b'{"@devo_pulling_id":"1"}', b'{"@devo_pulling_id":"1","@devo_pulling_id":"17"}'),
    "bytes that are no text": (b'{"a":"\xff"}', b'{"a":"\xff","@devo_pulling_id":"17"}'),
    "no object": (b"[1]", b"[1]"),
    "cut off": (b'{"a":{"b":1},', b'{"a":{"b":1},'),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_fields_stand_before_the_closing_brace(kind: str) -> None:
    """Not another byte changes; a second key of the same name is the one that readers of JSON take."""
    record, expected = OBJECTS[kind]

    assert add_fields(record, FIELDS) == expected


@pytest.mark.slow
@given(
    st.dictionaries(
        st.text(), st.none() | st.integers() | st.text() | st.lists(st.dictionaries(st.text(), st.text()))
    )
)
def test_any_object_has_the_fields_and_its_own(members: dict[str, object]) -> None:
    """Whatever is in it: the JSON is what it was, and the fields."""
    members.pop("@devo_pulling_id", None)
    record = msgspec.json.encode(members)

    assert msgspec.json.decode(add_fields(record, FIELDS)) == members | {"@devo_pulling_id": "17"}


def test_fields_that_are_not_known_are_left_out() -> None:
    """A part without pull cycle and environment has none; the environment may be any text."""
    part = make_part([], outputs=["devo"])
    assert list_fields(part) == b""

    part.environment = "prod"
    assert list_fields(part) == b'"@devo_environment":"prod"'
    part.pulling_id = 5
    assert list_fields(part) == b'"@devo_pulling_id":"5","@devo_environment":"prod"'


TAGS = {
    "cloud.office365.management.exchange": True,
    "my.app": True,
    "a.b.c.d.e.f": True,
    "a": False,
    "a.b.c.d.e.f.g": False,
    "a..b": False,
    "a.b c": False,
    "a.b:c": False,
    "a.é": False,
    "": False,
    "a." + "b" * 1022: True,
    "a." + "b" * 1023: False,
}


@pytest.mark.parametrize("text", TAGS)
def test_a_tag_has_two_to_six_levels(text: str) -> None:
    """Of letters that end no header, 1,024 at most."""
    assert is_tag(text) == TAGS[text]


OVERRIDES = {
    "cloud.office365.management.azure_active_directory": {
        "cloud.office365.management.azure_active_directory": True,
        "cloud.office365.management.novel": False,
    },
    "cloud.office365.management.{workload}.{operation}": {
        "cloud.office365.management.novel.do_it": True,
        "cloud.office365.management.novel": False,
    },
    "my.app.{workload}": {"my.app.novel": True, "cloud.office365.management.novel": False},
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_tag_that_somebody_names_is_used_as_it_is(override: str) -> None:
    """Whether Devo is known to have the table or not; others still fall back."""
    tags = Tags(OUTPUT.with_options(fallback_tag="my.app.rest").with_override_tags((override,)))
    with capture_logs():
        for table, is_named in OVERRIDES[override].items():
            assert tags.tag_of(table) == (table if is_named else "my.app.rest")


def test_tables_that_are_told_are_bounded() -> None:
    """Ten thousand invented tables cost no more than that."""
    tags = Tags(OUTPUT)
    with capture_logs():
        for number in range(10_001):
            tags.tag_of(f"cloud.office365.management.w{number}")

    assert len(tags._tags) <= 10_000


def test_the_union_of_all_tables_is_a_table_of_devo_s() -> None:
    """Service health is sent under its name, and nothing is told of it."""
    assert Tags(OUTPUT).tag_of(UNION_TABLE) == UNION_TABLE


def test_a_host_cannot_end_the_header() -> None:
    """A blank or a line break in it is replaced."""
    header = devo_header(Tags(OUTPUT), host="my host\n")

    assert header("my.app", datetime(2026, 11, 17, tzinfo=UTC)).split(b" ")[2] == b"my_host_"


@guarantee(22)
@given(st.lists(st.binary(max_size=300), max_size=30))
def test_no_record_changes_where_a_line_ends(records: list[bytes]) -> None:
    """Whatever bytes a record has: it is one line, or refused, and its neighbours are theirs."""
    header = devo_header(Tags(OUTPUT), host="h")
    maker = LineMaker(header, Framing("newline", line_bytes_max=350), adds_devo_fields=True)
    part = make_part(records, outputs=["devo"], tables=["my.app"] * len(records))
    batch = make_simple_batch(1, [], output="devo")
    batch.parts = [part]
    refused: list[RefusedRecord] = []
    parser = SyslogParser()
    for chunk in join_chunks(maker.lines(batch, refused=refused), chunk_bytes=100):
        parser.feed(chunk)

    received = [line.split(b" h my.app: ", 1)[1] for line in parser.lines]
    assert received == [record for record in records if b"\n" not in record]
    assert [wrong.record for wrong in refused] == [record for record in records if b"\n" in record]


def test_chunks_are_whole_lines() -> None:
    """Each has at least the size asked for, but for the last."""
    lines = [b"%d\n" % number for number in range(1000)]
    chunks = list(join_chunks(iter(lines), chunk_bytes=100))

    assert b"".join(chunks) == b"".join(lines)
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert {100 <= len(chunk) < 105 for chunk in chunks[:-1]} == {True}
    assert list(join_chunks(iter([]))) == []


@pytest.mark.parametrize("level", range(1, 10))
def test_each_level_makes_members_that_stand_alone(level: int) -> None:
    """Every member is complete, and of whole lines."""
    lines = [b"%d %s\n" % (number, b"x" * 50) for number in range(20_000)]
    chunks = list(list_compressed(iter(lines), make_compress(level), member_bytes=50_000))

    assert b"".join(gzip.decompress(chunk) for chunk in chunks) == b"".join(lines)
    members = []
    for chunk in chunks:
        rest = chunk
        while rest:
            inflate = zlib.decompressobj(31)
            members.append(inflate.decompress(rest))
            assert inflate.eof
            rest = inflate.unused_data
    assert all(member.endswith(b"\n") for member in members)
    assert {50_000 <= len(member) < 50_100 for member in members[:-1]} == {True}


@pytest.mark.parametrize(
    ("threshold", "looks", "expected"),
    [
        (-1.0, [0.0, 0.0], [True, True]),
        (1.1, [1.0, 1.0], [False, False]),
        (0.5, [0.2, 0.7, 0.9, 0.0, 0.0], [False, False, True, False, False]),
        (1.0, [1.0, 0.9, 1.0], [True, False, False]),
    ],
)
def test_compression_follows_the_mean_fullness(
    threshold: float, looks: list[float], expected: list[bool]
) -> None:
    """Below 0 always, above 1 never, else from the threshold on."""
    gauge = Gauge(CompressionKeys.model_construct(threshold_for_using_gzip_in_transport_layer=threshold))

    assert [gauge.look(fullness) for fullness in looks] == expected


def test_the_mean_is_of_the_last_thousand_looks() -> None:
    """What was long ago does not count."""
    gauge = Gauge(CompressionKeys.model_construct(threshold_for_using_gzip_in_transport_layer=0.9))
    for _ in range(5_000):
        gauge.look(0.0)

    assert [gauge.look(1.0) for _ in range(1_000)][898:901] == [False, True, True]
