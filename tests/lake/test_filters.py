"""The filter language: what is written finds what is meant, and what cannot be read says where."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.errors import FilterRefused
from m365watch.lake.search.filter_fields import FIELDS
from m365watch.lake.search.filter_parser import DEPTH_MAX, LENGTH_MAX, TERMS_MAX, read_filter
from m365watch.lake.search.filter_sql import condition_of, in_network
from m365watch.lake.writer.record_columns import tabulate
from m365watch.records.derived_values import plain_address
from m365watch_testing.batches import make_batch, make_part


def record(number: int, **fields: object) -> bytes:
    plain = {"Id": str(number), "CreationTime": "2026-11-16T10:00:00", "RecordType": 1, "UserType": 0}
    return json.dumps(plain | fields, ensure_ascii=False).encode()


RECORDS = [
    record(
        0,
        Operation="New-InboxRule",
        UserId="Alice@Contoso.example",
        ClientIP="10.1.2.3:443",
        Workload="Exchange",
        ResultStatus="True",
        Parameters=[{"Name": "ForwardTo", "Value": "mallory@evil.example"}],
    ),
    record(
        1,
        Operation="UserLoginFailed",
        UserId="bob@contoso.example",
        ClientIP="2001:db8::5",
        Workload="AzureActiveDirectory",
        RecordType=15,
        ApplicationId="AA-1",
    ),
    record(
        2,
        Operation="FileDownloaded",
        UserId="alice.smith@contoso.example",
        ClientIP="192.0.2.200",
        Workload="SharePoint",
        RecordType=6,
        ObjectId="https://contoso.example/sites/hr/Rechnung Größe 7.xlsx",
        Note='a "quoted" word, 100% (sure)',
    ),
    record(3, Operation="UserLoggedIn", UserId="", UserType=2, Workload="AzureActiveDirectory"),
    record(4, Operation="Send", UserId="NT AUTHORITY\\SYSTEM", ResultStatus="Failed", ClientIP="<null>"),
]


@pytest.fixture(scope="module")
def audit() -> Iterator[duckdb.DuckDBPyConnection]:
    """The records as rows."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.register("arrived", tabulate(make_batch(1, [make_part(RECORDS, outputs=["lake"])])))
    connection.execute("CREATE TABLE audit AS FROM arrived")
    yield connection
    connection.close()


def found(audit: duckdb.DuckDBPyConnection, text: str) -> list[int]:
    condition = condition_of(read_filter(text))
    rows = audit.execute(
        f"SELECT id FROM audit WHERE {condition.sql} ORDER BY id", condition.bound
    ).fetchall()
    return [int(one) for (one,) in rows]


MEANT = [
    ("", [0, 1, 2, 3, 4]),
    ("   ", [0, 1, 2, 3, 4]),
    ("user:alice", [0]),
    ("user:ALICE@contoso.example", [0]),
    ("user:alice*", [0, 2]),
    ("user:*@contoso.example", [0, 1, 2]),
    ("user~smith", [2]),
    ("user:*", [0, 1, 2, 4]),
    ("-user:*", [3]),
    ('user:"NT AUTHORITY\\\\SYSTEM"', [4]),
    ('user:"alice*"', []),
    ("op:new-inboxrule", [0]),
    ("Operation:New-InboxRule", [0]),
    ("op:Send,FileDownloaded", [2, 4]),
    ("op:(Send OR FileDownloaded)", [2, 4]),
    ("op:( Send , FileDownloaded )", [2, 4]),
    ("ip:10.1.2.3", [0]),
    ("ip:10.0.0.0/8", [0]),
    ("ip:10.1.2.99/28", []),
    ("ip:192.0.2.128/25", [2]),
    ("ip:0.0.0.0/0", [0, 2]),
    ("ip:2001:db8::/32", [1]),
    ("ip:2001:0DB8:0::5", [1]),
    ("ip:[2001:db8::5]:443", [1]),
    ("ip:10.1.*", [0]),
    ("-ip:*", [3, 4]),
    ("result:ok", [0, 2, 3]),
    ("result:failed", [1, 4]),
    ("-result:ok", [1, 4]),
    ("NOT result:ok", [1, 4]),
    ("--result:ok", [0, 2, 3]),
    ("result:true", [0]),
    ("workload:exchange", [0]),
    ("type:15", [1]),
    ("-type:15", [0, 2, 3, 4]),
    ("usertype:2", [3]),
    ("app:aa-1", [1]),
    ("id:3", [3]),
    ("object:*rechnung*", [2]),
    ("object~GRÖSSE", []),
    ("object~größe", [2]),
    ("raw.Parameters.ForwardTo:mallory@evil.example", [0]),
    ("raw.Parameters.ForwardTo:*", [0]),
    ("raw.parameters.forwardto:*", []),
    ("raw.Note~quoted", [2]),
    ("raw.Parameters~mallory", [0]),
    ("mallory", [0]),
    ("MALLORY", [0]),
    ("-mallory", [1, 2, 3, 4]),
    ('"a \\"quoted\\" word"', [2]),
    ('"100% (sure)"', [2]),
    ("größe", [2]),
    ('"NT AUTHORITY\\\\SYSTEM"', [4]),
    ("alice mallory", [0]),
    ("alice AND mallory", [0]),
    ("mallory or bob", [0, 1]),
    ("alice (mallory OR rechnung)", [0, 2]),
    ("alice -(mallory OR rechnung)", []),
    ("user:bob or user:alice result:ok", [0, 1]),
    ("for*to", [0]),
    ('"or"', [0, 1, 2, 3, 4]),
    ("evil.example", [0]),
    ("evil?example", []),
    ("feed:Audit.Exchange", [0, 1, 2, 3, 4]),
    ('user:alice op:New-InboxRule ip:10.0.0.0/8 -result:failed "forwardto"', [0]),
]


@guarantee(45)
@pytest.mark.parametrize(("text", "meant"), MEANT)
def test_a_filter_finds_what_is_meant(audit: duckdb.DuckDBPyConnection, text: str, meant: list[int]) -> None:
    """Every way to write one, over a few records of which each is different."""
    assert found(audit, text) == meant


REFUSED = [
    ("usr:alice", 0, "did you mean user"),
    ("alice usre:bob", 6, "did you mean user"),
    ("https://contoso.example", 0, "quotation marks"),
    ("user:", 5, "the value of user is missing"),
    ("user: alice", 5, "the value of user is missing"),
    ("user:a,", 7, "the value of user is missing"),
    ("user:(a", 5, "not closed"),
    ("user:()", 6, "the value of user is missing"),
    ("(a OR b", 0, "not closed"),
    ("a)", 1, "too many"),
    ("a OR", 4, "missing at the end"),
    ("OR a", 0, "missing before OR"),
    ("a AND OR b", 6, "missing before OR"),
    ("()", 1, "missing before )"),
    ('a "b', 2, "not closed"),
    ('""', 0, "nothing between"),
    ("NOT", 3, "missing at the end"),
    ("type:exchange", 5, "whole number"),
    ("type:99999999999", 5, "whole number"),
    ("ip:10.0.0.0/99", 3, "no network"),
    ("ip:x/y", 3, "no network"),
    ("raw.:x", 0, "no field"),
    ("raw.a..b:x", 0, "no field"),
    ("(" * (DEPTH_MAX + 2) + "a", DEPTH_MAX + 1, "deep"),
    (" ".join(["a"] * (TERMS_MAX + 1)), 2 * TERMS_MAX, "at most"),
    ("a" * (LENGTH_MAX + 1), LENGTH_MAX, "characters"),
]


@guarantee(45)
@pytest.mark.parametrize(("text", "at", "words"), REFUSED)
def test_what_cannot_be_read_says_where_and_why(text: str, at: int, words: str) -> None:
    """One error, at the character where it goes wrong, and what to do."""
    with pytest.raises(FilterRefused) as refused:
        condition_of(read_filter(text))

    assert refused.value.at == at
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"character {at + 1}: ")


NAMES = [f"{one.name}:" for one in FIELDS]
SIGNS = [*' ()",-*/\\:~.%_', "\x00", "'", "\ud800", "é", "\u202e", "$1", "?"]
WORDS = ["raw.A.B:", "user~", "OR", "AND", "NOT", "alice", "10.0.0.0/8", "2001:db8::/33", "15", "ok"]
PIECES = st.sampled_from([*NAMES, *SIGNS, *WORDS])


@guarantee(45)
@given(st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=40)))
def test_any_text_is_read_or_refused(audit: duckdb.DuckDBPyConnection, text: str) -> None:
    """Nothing that somebody types is a defect: it is a condition that runs, or an error at a place in it."""
    refusal = None
    numbers = list[int]()
    try:
        numbers = found(audit, text)
    except FilterRefused as refused:
        refusal = refused

    assert set(numbers) <= set(range(len(RECORDS)))
    assert refusal is None or (0 <= refusal.at <= len(text) and refusal.fix)


@guarantee(45)
@given(st.integers(0, 2**128 - 1), st.integers(0, 128), st.integers(0, 2**128 - 1), st.booleans())
def test_a_network_holds_what_python_says(
    audit: duckdb.DuckDBPyConnection,
    base: int,
    prefix: int,
    other: int,
    is_near: bool,
) -> None:
    """Addresses of both kinds, as texts, against the standard library."""
    number = base ^ (other >> 100) if is_near else other
    pairs = [
        (ipaddress.ip_network((base, prefix), strict=False), ipaddress.ip_address(number)),
        (
            ipaddress.ip_network((base >> 96, prefix // 4), strict=False),
            ipaddress.IPv4Address(number >> 96 if not is_near else (base >> 96) ^ (other >> 120)),
        ),
    ]
    for network, address in pairs:
        text = plain_address(str(address))
        assert text is not None
        sql = f"SELECT {in_network('address', network)} FROM (SELECT $text AS address)"
        row = audit.execute(sql, {"text": text.lower()}).fetchone()

        expected = ipaddress.ip_address(text) in network
        assert (row or (None,))[0] is expected, (network, text)
