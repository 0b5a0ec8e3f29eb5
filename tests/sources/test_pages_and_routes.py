"""The pure parts of a recovery: routes, addresses, answers, slices, and pages on disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    QueryGone,
    Throttled,
    TokenRefused,
    Unavailable,
)
from m365watch.common.model import ContentType, Feed, Header, TenantId, Window
from m365watch.http.client import Answer
from m365watch.records.split import split_blob
from m365watch.sources.audit_search.audit_search_client import (
    Asked,
    GraphUrls,
    QueryStatus,
    is_query_id,
    next_query_of,
    parse_page,
    parse_query,
    refusal,
)
from m365watch.sources.audit_search.tenant_recovery import content_type_of, cut_page, halves_of, plan_course
from m365watch.sources.page_spool import KeptPages, recovered_ref
from m365watch_simulator.organization.organization import Organisation

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
FEED = Feed(TENANT, ContentType.EXCHANGE)


def test_a_record_goes_by_the_feed_that_would_have_brought_it() -> None:
    """Of everything that the simulated organisation does in two days."""
    organisation = Organisation(7, TENANT, users=60, records_per_day=3_000)
    made = organisation.records_between(NOW - timedelta(days=2), NOW)
    split = split_blob(b"[" + b",".join(one.body for one in made) + b"]", wide=False)

    pairs = zip(made, split.headers, strict=True)
    wrong = {
        (one.content_type, header.RecordType, header.Workload)
        for one, header in pairs
        if content_type_of(header) is not one.content_type
    }
    assert wrong == set()
    assert {one.content_type for one in made} == set(ContentType)


@pytest.mark.parametrize("record_type", [None, "no number", 99_999])
def test_an_unknown_record_type_goes_by_its_workload(record_type: int | str | None) -> None:
    """And everything else into Audit.General."""
    types = [
        content_type_of(Header(RecordType=record_type, Workload=workload))
        for workload in ("Exchange", "OneDrive", "PowerBI", None)
    ]

    assert types == [ContentType.EXCHANGE, ContentType.SHAREPOINT, ContentType.GENERAL, ContentType.GENERAL]


@guarantee(24)
@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1.0/security/auditLog/queries/q/records?$skiptoken=abc",
        "http://graph.microsoft.com@evil.example/?$skiptoken=abc",
        "//evil.example?$skiptoken=abc",
    ],
)
def test_the_next_page_is_asked_of_the_configured_host(link: str) -> None:
    """Whatever host an answer names, the token does not go there."""
    url = GraphUrls("https://graph.example").records("q", next_query_of(link, where=""))

    assert str(url) == "https://graph.example/v1.0/security/auditLog/queries/q/records?$skiptoken=abc"


@pytest.mark.parametrize("link", ["https://graph.microsoft.com/v1.0", "http://[", "?" + "a" * 9_000])
def test_a_link_that_names_no_page_is_no_answer(link: str) -> None:
    """It is asked for again."""
    with pytest.raises(BadAnswer):
        next_query_of(link, where="")


@pytest.mark.parametrize("query", ["", "../../x", "a/b", "a:b", "-a", "a" * 65, "é"])
def test_an_id_that_could_lead_elsewhere_is_none(query: str) -> None:
    """It becomes part of addresses and of file names."""
    assert not is_query_id(query)


@pytest.mark.parametrize(
    ("status", "asked", "becomes"),
    [
        (429, Asked.PAGE, Throttled),
        (503, Asked.PAGE, Unavailable),
        (401, Asked.QUERY, TokenRefused),
        (403, Asked.NEW_QUERY, AccessRefused),
        (404, Asked.QUERY, QueryGone),
        (400, Asked.PAGE, QueryGone),
        (404, Asked.NEW_QUERY, AccessRefused),
        (302, Asked.PAGE, BadAnswer),
        (799, Asked.PAGE, Unavailable),
    ],
)
def test_a_refusal_says_what_happens_next(status: int, asked: Asked, becomes: type[CollectorError]) -> None:
    """Its class does, and the words are Graph's, without the token."""
    body = b'{"error":{"code":"Oops","message":"token sesame\\u001b[2J"}}'
    error = refusal(Answer(status, {}, body), asked=asked, where="t", now=NOW, hide=("sesame",))

    assert type(error) is becomes
    assert "Oops: token ***" in str(error)
    assert "sesame" not in str(error)
    assert str(error).isprintable()


def test_throttling_says_for_how_long() -> None:
    """Retry-After in seconds, under 429 and 503."""
    for status in (429, 503):
        error = refusal(Answer(status, {"Retry-After": "7"}, b""), asked=Asked.PAGE, where="", now=NOW)
        assert isinstance(error, Throttled)
        assert error.after_s == 7


def test_a_page_gives_each_record_verbatim() -> None:
    """The bytes of `auditData`, spaces and all."""
    page = parse_page(
        b'{"value":[{"id":"1","auditData":{"Id" : "a"}},{"id":"2"}],'
        b'"@odata.nextLink":"https://x/y?$skiptoken=2"}',
        where="",
    )

    assert page.records == [b'{"Id" : "a"}', b"null"]
    assert page.next_query == "$skiptoken=2"


def test_a_page_that_fast_decoders_refuse_is_spelt_anew() -> None:
    """A lone surrogate costs no record."""
    page = parse_page(b'{"value":[{"auditData":{"Id":"a","x":"\\ud800","n":NaN}}]}', where="")

    assert page.records == [b'{"Id":"a","x":"\\ud800","n":NaN}']


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"value":[1]}', b'{"value":{}}'])
def test_what_is_no_page_is_asked_for_again(body: bytes) -> None:
    """It is not taken for an empty one."""
    with pytest.raises(BadAnswer):
        parse_page(body, where="")


def test_a_status_that_nobody_knows_is_waited_for() -> None:
    """Graph's enumerations grow."""
    assert parse_query(b'{"id":"q","status":"unknownFutureValue"}', where="").status is QueryStatus.RUNNING
    assert parse_query(b'{"id":"q","status":"Succeeded"}', where="").status is QueryStatus.SUCCEEDED


def test_the_slices_of_a_period_leave_no_hole() -> None:
    """None is longer than a day, and halves cover what they halve."""
    period = Window(NOW - timedelta(days=3, hours=5), NOW)
    spans = [one.span for one in plan_course(period, ContentType, now=NOW).slices]

    assert [spans[0].start, *(one.end for one in spans)] == [*(one.start for one in spans), period.end]
    assert max(one.end - one.start for one in spans) == timedelta(days=1)
    first, second = halves_of(plan_course(period, ContentType, now=NOW).slices[0])
    assert (first.span.start, first.end_s, second.span.end) == (spans[0].start, second.start_s, spans[0].end)


def test_what_is_no_record_goes_to_quarantine_and_costs_no_neighbour() -> None:
    """It travels with the first service, whose splitter sets it aside."""
    records = [b"null", b'{"Id":"a","RecordType":4}', b'{"Id":"b","RecordType":15}']
    parts, other = cut_page(records, {ContentType.SHAREPOINT: FEED})

    assert (parts, other) == ({ContentType.SHAREPOINT: [0, 1]}, 1)


def test_a_kept_page_is_there_until_it_is_swept(tmp_path: Path) -> None:
    """What the ledger still wants stays; what is gone is lost by name."""
    pages = KeptPages(tmp_path)
    one, two = (recovered_ref(FEED, query="q", place=f"1:{page}", created_at=NOW) for page in (1, 2))
    assert pages.count(one) is None
    for ref in (one, two):
        pages.put(ref, [b'{"Id":"a"}', b'{"Id":"b"}'])

    pages.sweep(TENANT, wanted={(FEED.content_type, two.content_id)})

    assert pages.body(two) == b'[{"Id":"a"},{"Id":"b"}]'
    assert pages.count(two) == 2
    with pytest.raises(ContentLost, match=r"expired: .*m365watch recover"):
        pages.body(one)
