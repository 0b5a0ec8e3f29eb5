"""Cutting a blob: every record verbatim, nothing vanishes, nothing raises."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import WideHeader
from m365watch.records.split import split_blob

RECORD = b'{"Id":"a","RecordType":6,"CreationTime":"2026-11-17T09:00:00","Operation":"FileAccessed"}'
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@guarantee(9)
@given(st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=6), max_size=6), st.sampled_from([None, 1]))
def test_every_record_comes_out_verbatim(values: list[dict[str, object]], indent: int | None) -> None:
    """Joined again, the records are the blob; in a pretty-printed one, line breaks became spaces."""
    texts = [json.dumps(value, indent=indent) for value in values]

    found = split_blob(("[" + ",".join(texts) + "]").encode(), wide=False)

    assert (found.complete, found.fragments) == (True, [])
    assert found.records == [text.replace("\n", " ").encode() for text in texts]
    assert len(found.headers) == len(values)


@guarantee(9)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ntru0 \n').map(str.encode))
def test_whatever_the_body_says_nothing_is_raised_and_nothing_vanishes(body: bytes) -> None:
    """A record, a fragment or the array's own punctuation: every other byte is in one of them."""
    found = split_blob(body, wide=True)

    kept = b"".join([*found.records, *(fragment.body for fragment in found.fragments)])
    punctuation = b"[],\xef\xbb\xbf \t\r\n\0"
    assert sorted(kept.translate(None, punctuation)) == sorted(body.translate(None, punctuation))
    assert len(found.records) == len(found.headers)


@guarantee(9)
@pytest.mark.parametrize(
    "record",
    [
        rb'{"a":"\ud800"}',
        b'{"a":NaN}',
        b'{"a":"\xff\xfe"}',
        b'{"a":"tab\there"}',
        b'{"a":-Infinity,"b":1e999}',
        b'{"n":' + b"9" * 400 + b"}",
    ],
)
def test_what_fast_decoders_refuse_still_comes_out_verbatim(record: bytes) -> None:
    """A lone surrogate, NaN, bad UTF-8, a control character: odd, but a record."""
    found = split_blob(b"[" + RECORD + b", " + record + b"]", wide=True)

    assert found.records == [RECORD, record]
    assert found.fragments == []


@guarantee(9)
def test_a_byte_order_mark_is_not_part_of_the_first_record() -> None:
    """Some proxies add one."""
    assert split_blob(b"\xef\xbb\xbf[" + RECORD + b"]", wide=False).records == [RECORD]


def test_a_view_shows_the_records_own_bytes() -> None:
    """It takes no copy, and its header is the same; what a blob's layout changes is no view."""
    other = RECORD.replace(b'"a"', b'"b"')
    body = b"[" + RECORD + b" ,\t" + other + b"]"

    seen, copied = split_blob(body, wide=True, views=True), split_blob(body, wide=True)
    pretty = split_blob(b"[\n" + RECORD + b",\n" + other + b"]", wide=True, views=True)

    assert [type(record) for record in seen.records] == [msgspec.Raw, msgspec.Raw]
    assert list(map(bytes, seen.records)) == copied.records == pretty.records == [RECORD, other]
    assert list(map(len, seen.records)) == [len(RECORD), len(other)]
    assert seen.headers == copied.headers
    assert {type(record) for record in pretty.records} == {bytes}


def test_a_broken_element_is_a_fragment_and_its_neighbours_are_records() -> None:
    """The next record is found by its mandatory fields, not by the next brace."""
    broken = b'{"Id":"b","Parameters":[{"Name":"x"},{"Name":tru'

    found = split_blob(b"[" + RECORD + b"," + broken + b"," + RECORD + b"]", wide=False)

    assert found.records == [RECORD, RECORD]
    assert [(fragment.body, fragment.reason) for fragment in found.fragments] == [(broken, "not valid JSON")]
    assert found.complete


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":{}}', b"[" + RECORD, b"[" + RECORD + b',{"Id'])
def test_a_body_without_its_end_is_not_complete(body: bytes) -> None:
    """Cut short or no array at all: the caller fetches it again."""
    assert not split_blob(body, wide=False).complete


@guarantee(9)
@pytest.mark.parametrize(("tail", "left"), [(b"", b""), (b",", b","), (b", \n", b",")])
def test_a_cut_between_two_records_is_named(tail: bytes, left: bytes) -> None:
    """Nothing broken is left there to see, and yet records are missing behind it."""
    found = split_blob(b"[" + RECORD + tail, wide=False)

    assert found.records == [RECORD]
    assert [(one.body.strip(), one.reason) for one in found.fragments] == [
        (left, "the body ends before its array does")
    ]


def test_a_cut_inside_a_record_is_named_once() -> None:
    """The broken record tells of it; a body of an opening bracket alone is kept as well."""
    inside = split_blob(b"[" + RECORD + b"," + RECORD[:-9], wide=False)
    opening = split_blob(b"[", wide=False)

    assert [fragment.body for fragment in inside.fragments] == [RECORD[:-9]]
    assert [fragment.body for fragment in opening.fragments] == [b"["]


@pytest.mark.parametrize(
    ("body", "records", "fragments"),
    [
        (RECORD, [RECORD], []),
        (RECORD + b"\r\n" + RECORD + b"\n", [RECORD, RECORD], []),
        (
            b'{"Message":"Authorization has been denied"}',
            [],
            [b'{"Message":"Authorization has been denied"}'],
        ),
        (b"{[" + RECORD + b"," + RECORD + b"]", [RECORD], [b"{[" + RECORD]),
        (b"no backend", [], [b"no backend"]),
        (b"]", [], [b"]"]),
    ],
    ids=["an object", "lines", "another object", "a false start", "text", "an end"],
)
def test_outside_an_array_only_what_is_plainly_a_record_is_one(
    body: bytes, records: list[bytes], fragments: list[bytes]
) -> None:
    """By its mandatory fields; the rest is kept aside, and the body never counts as complete."""
    found = split_blob(body, wide=False)

    assert (found.records, [fragment.body for fragment in found.fragments]) == (records, fragments)
    assert not found.complete


@pytest.mark.parametrize("element", [b"1", b"null", b'"text"', b"[]", b"true"])
def test_an_element_that_is_no_object_is_a_fragment(element: bytes) -> None:
    """It is no record, and it is kept."""
    found = split_blob(b"[" + element + b"," + RECORD + b"]", wide=True)

    assert found.records == [RECORD]
    assert [fragment.body for fragment in found.fragments] == [element]


def test_a_line_break_inside_a_string_is_not_smoothed_over() -> None:
    """It cannot be one line and verbatim at once, so it is kept aside whole."""
    record = b'{"a":"x\ny"}'

    found = split_blob(b"[" + record + b"]", wide=False)

    assert found.records == []
    assert [fragment.body for fragment in found.fragments] == [record]


def test_a_field_of_another_type_costs_the_field_and_not_the_record() -> None:
    """A number as Id is read as text, an object as UserId is left out."""
    found = split_blob(b'[{"Id":5,"RecordType":"15","UserId":{},"UserType":null}]', wide=True)

    header = found.headers[0]
    assert isinstance(header, WideHeader)
    assert (header.Id, header.RecordType, header.UserId, header.UserType) == ("5", "15", None, None)


@pytest.mark.parametrize("depth", [900, 1_000, 5_000, 100_000])
def test_a_record_nested_too_deep_costs_itself_at_most(depth: int) -> None:
    """Decoders recurse; what they cannot follow is a fragment, and its neighbours are records."""
    deep = b'{"n":' + b"[" * depth + b"]" * depth + b"}"

    found = split_blob(b"[" + RECORD + b"," + deep + b"," + RECORD + b"]", wide=True)

    kept = [*found.records, *(fragment.body for fragment in found.fragments)]
    assert sorted(kept) == sorted([RECORD, deep, RECORD])
