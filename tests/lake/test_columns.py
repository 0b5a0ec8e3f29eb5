"""How a record's fields become columns, whatever they hold."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m365watch.common.model import Header, WideHeader
from m365watch.lake.schema import AUDIT_SCHEMA
from m365watch.lake.writer.record_columns import (
    ROWS_AT_ONCE,
    header_columns,
    header_columns_apart,
    tabulate,
)
from m365watch.records.derived_values import plain_address
from m365watch.records.split import split_blob
from m365watch_testing.batches import RECEIVED_AT, TENANT, make_batch, make_part, make_simple_batch


def row_of(record: bytes, header: Header | None = None) -> dict[str, object]:
    """The one row that `record` becomes; with `header` in place of its own."""
    part = make_part([record], outputs=["lake"])
    if header is not None:
        part.headers = [header]
    [row] = tabulate(make_batch(1, [part])).to_pylist()
    assert isinstance(row, dict)
    return row


def test_every_column_is_filled_from_its_field() -> None:
    """The columns are what the schema says, in its order."""
    record = (
        b'{"CreationTime":"2026-11-16T23:59:59","Id":"9","Operation":"UserLoggedIn","RecordType":15,'
        b'"ResultStatus":"Success","UserType":0,"Workload":"AzureActiveDirectory","ClientIP":"192.0.2.7:443",'
        b'"ObjectId":"o","UserId":"u","SessionId":"s","ApplicationId":"a"}'
    )

    row = row_of(record)

    assert list(row) == AUDIT_SCHEMA.names
    assert row == {
        "day": date(2026, 11, 16),
        "created_at": datetime(2026, 11, 16, 23, 59, 59, tzinfo=UTC),
        "received_at": RECEIVED_AT,
        "tenant_id": TENANT,
        "content_type": "Audit.AzureActiveDirectory",
        "devo_table": "cloud.office365.management.azureactivedirectory",
        "id": "9",
        "workload": "AzureActiveDirectory",
        "record_type": 15,
        "operation": "UserLoggedIn",
        "user_id": "u",
        "actor": "u",
        "user_type": 0,
        "result": "Success",
        "outcome": "success",
        "client_ip": "192.0.2.7",
        "object_id": "o",
        "session_id": "s",
        "app_id": "a",
        "raw_bytes": None,
        "raw": record.decode(),
    }


@pytest.mark.parametrize(
    ("sent", "created_at", "day"),
    [
        ("2021-05-18T21:13:33Z", datetime(2021, 5, 18, 21, 13, 33, tzinfo=UTC), date(2021, 5, 18)),
        ("2021-05-18T23:13:33-02:00", datetime(2021, 5, 19, 1, 13, 33, tzinfo=UTC), date(2021, 5, 19)),
        (
            "2021-05-18T21:13:33.1234567",
            datetime(2021, 5, 18, 21, 13, 33, 123456, tzinfo=UTC),
            date(2021, 5, 18),
        ),
        ("9999-12-31T23:59:59-02:00", None, RECEIVED_AT.date()),
        ("yesterday", None, RECEIVED_AT.date()),
        ("\ud800", None, RECEIVED_AT.date()),
        (None, None, RECEIVED_AT.date()),
    ],
)
def test_an_odd_time_is_read_or_null(sent: str | None, created_at: datetime | None, day: date) -> None:
    """A time in another form is read; what is no time is null, and the day is that of receipt."""
    row = row_of(b"{}", WideHeader(CreationTime=sent))

    assert (row["created_at"], row["day"]) == (created_at, day)


def test_one_odd_value_spoils_no_neighbour() -> None:
    """A number or time of the wrong kind leaves the other records' columns as they are."""
    part = make_part([b"{}"] * 4, outputs=["lake"])
    part.headers = [
        WideHeader(RecordType=15, CreationTime="2026-11-17T09:00:00"),
        WideHeader(RecordType="15", UserType="Admin", CreationTime="soon"),
        WideHeader(RecordType="ExchangeAdmin", CreationTime="2026-11-17T09:00:00"),
        WideHeader(RecordType=2**40, UserType=-1, Operation="a\udc80b"),
    ]

    rows = tabulate(make_batch(1, [part]))

    assert rows["record_type"].to_pylist() == [15, 15, None, None]
    assert rows["user_type"].to_pylist() == [None, None, None, -1]
    assert rows["operation"].to_pylist() == [None, None, None, "a?b"]
    assert [instant is None for instant in rows["created_at"].to_pylist()] == [False, True, False, True]


def test_the_first_address_and_application_that_say_anything_count() -> None:
    """Empty fields are passed over."""
    header = WideHeader(
        ClientIP="", ClientIPAddress="<null>", ActorIpAddress="2001:db8::1", ApplicationId="", ClientAppId="c"
    )

    row = row_of(b"{}", header)

    assert (row["client_ip"], row["app_id"]) == ("2001:db8::1", "c")


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:50321", "192.0.2.1"),
        ("[192.0.2.1]:80", "192.0.2.1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", None),
        ("<null>", None),
        ("localhost", "localhost"),
        ("mail.example:25", "mail.example:25"),
        ("ffff:10.11.0.229", "ffff:10.11.0.229"),
        ("192.0.2.1 (10.9000.0.1)", "192.0.2.1 (10.9000.0.1)"),
    ],
)
def test_an_address_is_bare_or_as_sent(sent: str, address: str | None) -> None:
    """Ports, brackets and IPv6 mapping go; what is no address stays as it is."""
    assert address == plain_address(sent)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_a_record_is_kept_byte_for_byte(records: list[bytes]) -> None:
    """`raw_bytes` where there are any, else `raw`, are the record's own bytes."""
    rows = tabulate(make_simple_batch(1, records, output="lake"))

    kept = [
        raw.encode() if odd is None else odd
        for raw, odd in zip(rows["raw"].to_pylist(), rows["raw_bytes"].to_pylist(), strict=True)
    ]
    assert kept == records


BLOBS = st.lists(
    st.tuples(
        st.lists(st.dictionaries(st.text(), st.text(), max_size=2), max_size=4),
        st.sampled_from([",", ",", " , ", ",\r\n"]),  # what stands between two records
        st.booleans(),  # whether all of the blob goes on
    ),
    max_size=6,
)


@given(BLOBS)
def test_a_record_is_lifted_out_of_its_blob_byte_for_byte(
    blobs: list[tuple[list[dict[str, str]], str, bool]],
) -> None:
    """However blobs are laid out, and whatever dedup or the day leaves of them."""
    parts = []
    for values, between, is_whole in blobs:
        body = "[" + between.join(json.dumps(value, ensure_ascii=False) for value in values) + "]"
        split = split_blob(body.encode(), wide=True, views=True)
        part = make_part(split.records, outputs=["lake"])
        part.records = split.records
        parts.append(part if is_whole else part.at(range(0, len(values), 2)))

    rows = tabulate(make_batch(1, parts))

    assert rows["raw"].to_pylist() == [bytes(one).decode() for part in parts for one in part.records]
    assert rows["raw_bytes"].null_count == rows.num_rows


def test_views_beside_bytes_that_are_no_text_stay_as_they_are() -> None:
    """One odd record costs a batch the quick way, and nothing else."""
    views = split_blob(b'[{"a":"\xc3\xa9"},{"b":1}]', wide=True, views=True).records
    seen, odd = make_part(views, outputs=["lake"]), make_part([b'{"a":"\xff"}'], outputs=["lake"])
    seen.records = views

    rows = tabulate(make_batch(1, [seen, odd]))

    assert rows["raw"].to_pylist() == ['{"a":"\xe9"}', '{"b":1}', '{"a":"\ufffd"}']
    assert rows["raw_bytes"].to_pylist() == [None, None, b'{"a":"\xff"}']


def test_a_batch_without_records_has_the_columns() -> None:
    """No rows are no reason to fail."""
    rows = tabulate(make_batch(1, []))

    assert (rows.num_rows, rows.schema) == (0, AUDIT_SCHEMA)
    assert isinstance(rows, pa.Table)


texts = st.none() | st.sampled_from(["", " ", "a", "b", "<null>", "é\U0001f600"]) | st.text(max_size=6)
times = st.sampled_from(
    [
        None,
        "2026-11-16T23:59:59",
        "2026-11-16T23:59:59.1234567",
        "2026-11-16",
        "2026-11-16T23:59:59Z",
        "",
        "soon",
    ]
)
addresses = st.none() | st.sampled_from(
    ["", " ", "<null>", "192.0.2.7:443", "[2001:db8::1]:1", "::ffff:192.0.2.1", "no address", "2001:DB8::2"]
)
numbers = st.none() | st.integers(-(2**33), 2**33) | st.integers(-9, 99) | st.sampled_from(["15", "x", ""])
usual = st.none() | st.integers(0, 400)
names = WideHeader.__struct_fields__
kinds = dict.fromkeys(names, texts) | dict.fromkeys(
    ("ClientIP", "ActorIpAddress", "ClientIPAddress"), addresses
)
usual_headers = st.builds(
    WideHeader, **kinds | {"CreationTime": times, "RecordType": usual, "UserType": usual}
)
odd_headers = st.builds(
    WideHeader, **kinds | {"CreationTime": times, "RecordType": numbers, "UserType": numbers}
)


@given(st.lists(usual_headers, max_size=12) | st.lists(odd_headers, max_size=4), st.booleans())
def test_headers_become_the_same_columns_by_rows_and_one_by_one(
    headers: list[WideHeader], has_half_a_pair: bool
) -> None:
    """Value by value; what no row can hold, such as half of a surrogate pair, is taken one by one."""
    if has_half_a_pair and headers:
        headers[-1].UserId = "\ud800"

    by_rows, apart = header_columns(headers), header_columns_apart(headers)

    assert list(by_rows) == list(apart)
    for name, column in by_rows.items():
        assert column.type == apart[name].type
        assert column.to_pylist() == apart[name].to_pylist()
        column.validate(full=True)


def test_many_headers_become_columns_in_their_order() -> None:
    """More of them than become rows together."""
    headers = [WideHeader(Id=str(place), RecordType=place) for place in range(2 * ROWS_AT_ONCE + 7)]

    columns = header_columns(headers)

    assert columns["id"].to_pylist() == [header.Id for header in headers]
    assert columns["record_type"].to_pylist() == list(range(len(headers)))
