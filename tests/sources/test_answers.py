from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed_tenant import FEED
from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    NeedsOperator,
    Throttled,
    TokenRefused,
    Unavailable,
)
from m365watch.common.model import ContentType, Feed
from m365watch.http.client import Answer
from m365watch.sources.management_api.responses import (
    CODES,
    EMPTY,
    AfCode,
    Call,
    ListedPage,
    check_blob,
    check_start,
    loss_reason,
    parse_instant,
    parse_listing,
    parse_subscription_list,
    refusal,
)
from m365watch_testing.clock import START

AUDIT_OFF = {
    "error": {
        "code": "StartSubscription [CorrId=4][TenantId=1,ContentType=Audit.General][AppId",
        "message": "9b] failed. Exception: X.DataException: Tenant 10d8221e does not exist.\r\n   at X",
    }
}


def error_body(code: object, message: str = "No.") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def error_of(
    status: int, body: bytes, *, call: Call = Call.LISTING, hide: tuple[str, ...] = (), **headers: str
) -> CollectorError | None:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(status, given_headers, body)
    return refusal(answer, call=call, where="here", now=START, hide=hide)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("known", CODES.values(), ids=lambda known: str(known.code))
def test_the_code_decides_under_every_status(known: AfCode, status: int) -> None:
    """Throttling is documented as 403, and an error may come with 200."""
    error = error_of(status, error_body(known.code), call=Call.BLOB)

    assert type(error) is known.becomes
    assert f"{known.code}: {known.cause}" in str(error)
    assert isinstance(error, NeedsOperator) == bool(known.fix)


@pytest.mark.parametrize(
    ("status", "body", "call", "kind"),
    [
        (401, b'{"Message":"Authorization has been denied for this request."}', Call.LISTING, TokenRefused),
        (401, b"<html>", Call.BLOB, TokenRefused),
        (403, b"<html>", Call.LISTING, BadAnswer),
        (404, b"<html>", Call.BLOB, ContentLost),
        (410, b"", Call.BLOB, ContentLost),
        (404, b"", Call.LISTING, BadAnswer),
        (408, b"", Call.LISTING, Unavailable),
        (429, b"<html>", Call.START, Throttled),
        (500, b"<html>", Call.BLOB, Unavailable),
        (503, b"", Call.LISTING, Unavailable),
        (302, b"", Call.LISTING, BadAnswer),
        (400, error_body("AF99999"), Call.LISTING, BadAnswer),
        (503, error_body("AF50099"), Call.LISTING, Unavailable),
        (400, error_body(429), Call.LISTING, BadAnswer),
        (200, error_body(None), Call.BLOB, BadAnswer),
        (400, b'{"error":"no"}', Call.LISTING, BadAnswer),
        (400, b'\xef\xbb\xbf{"error":{"code":"af429"}}', Call.LISTING, Throttled),
        (400, error_body("AF20051"), Call.LISTING, BadAnswer),
        (400, error_body("AF20024"), Call.LISTING, BadAnswer),
        (400, json.dumps(AUDIT_OFF).encode(), Call.START, AccessRefused),
    ],
)
def test_without_a_known_code_the_status_decides(
    status: int, body: bytes, call: Call, kind: type[CollectorError]
) -> None:
    """HTML, nothing, and errors that nobody has seen yet."""
    assert type(error_of(status, body, call=call)) is kind


def test_a_tenant_without_audit_is_told_the_cure() -> None:
    """The service cuts its own words in two there, and no code is in them."""
    error = error_of(400, json.dumps(AUDIT_OFF).encode(), call=Call.START)

    assert str(error).startswith(
        "here: auditing was never enabled in the tenant (HTTP 400); turn auditing on"
    )


def test_a_start_of_an_enabled_subscription_is_success() -> None:
    """AF20024 is the normal answer to it."""
    assert error_of(400, error_body("AF20024"), call=Call.START) is None


@pytest.mark.parametrize(
    ("code", "reason"), [("AF20050", "unknown"), ("AF20051", "expired"), ("AF20052", "invalid")]
)
def test_a_loss_says_why(code: str, reason: str) -> None:
    """Unknown and invalid may pass, so that the caller may try again."""
    error = error_of(400, error_body(code), call=Call.BLOB)

    assert isinstance(error, ContentLost)
    assert loss_reason(error) == reason


@pytest.mark.parametrize(
    ("status", "body", "kind", "after_s"),
    [
        (403, error_body("AF429"), Throttled, 30),
        (429, b"", Throttled, 30),
        (503, b"<html>", Throttled, 30),
        (500, error_body("AF50000"), Unavailable, 30),
    ],
)
def test_what_the_service_asks_for_is_passed_on(
    status: int, body: bytes, kind: type[CollectorError], after_s: float
) -> None:
    """As seconds or as a date."""
    error = error_of(status, body, Retry_After="30")

    assert (type(error), getattr(error, "after_s", None)) == (kind, after_s)


def test_a_token_that_is_said_back_is_not_shown() -> None:
    """No error text holds one."""
    error = error_of(400, error_body("AF9", "Bearer t0ken was sent"), hide=("t0ken",))

    assert "t0ken" not in str(error)
    assert "Bearer *** was sent" in str(error)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2020-07-02T02:06:21.634Z", datetime(2020, 7, 2, 2, 6, 21, 634_000, UTC)),
        ("2020-07-02T02:06:21", datetime(2020, 7, 2, 2, 6, 21, 0, UTC)),
        ("2020-07-02t02:06:21.1234567z", datetime(2020, 7, 2, 2, 6, 21, 123_456, UTC)),
        ("2020-07-02 02:06:21.5+02:00", datetime(2020, 7, 2, 0, 6, 21, 500_000, UTC)),
        ("2020-07-02T02:06:21-0130", datetime(2020, 7, 2, 3, 36, 21, 0, UTC)),
    ],
)
def test_an_instant_is_read_however_it_is_written(said: str, expected: datetime) -> None:
    """Any number of decimals, with a zone or without."""
    assert parse_instant(said) == expected
    assert parse_instant(said).tzinfo is UTC


@pytest.mark.parametrize(
    "said", ["", "2020-07-02", "2020-13-02T02:06:21Z", "0001-01-01T00:00:00+23:00", "now", 5, None]
)
def test_what_is_no_instant_is_refused(said: object) -> None:
    """It is not guessed."""
    with pytest.raises(ValueError):
        parse_instant(said)


def listed(**changed: object) -> dict[str, object]:
    blob: dict[str, object] = {
        "contentUri": "http://localhost/garbage",
        "contentId": "a$b",
        "contentType": "Audit.Exchange",
        "contentCreated": "2026-11-17T09:00:00.123Z",
        "contentExpiration": "2026-12-07T09:00:00.000Z",
    }
    return {name: value for name, value in (blob | changed).items() if value is not ...}


def parse(*blobs: object) -> ListedPage:
    return parse_listing(json.dumps(blobs).encode(), FEED, where="here")


def test_a_listing_gives_its_blobs_in_order_with_repeats() -> None:
    """The ledger knows which are new; the expiry is the service's own."""
    blobs, unreadable = parse(listed(), listed(contentId="c"), listed())

    assert [blob.content_id for blob in blobs] == ["a$b", "c", "a$b"]
    assert blobs[0].created_at == START + timedelta(milliseconds=123)
    assert blobs[0].expires_at == START + timedelta(days=20)
    assert unreadable == []


@pytest.mark.parametrize("expiry", [None, ..., "never", 5])
def test_without_an_expiry_seven_days_are_assumed(expiry: object) -> None:
    """The documented life; also where what is said cannot be read, as it does not tell blobs apart."""
    page = parse(listed(contentExpiration=expiry))

    assert page.blobs[0].expires_at == START + timedelta(days=7, milliseconds=123)
    assert page.unreadable == []


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (listed(contentId=...), "[1] has no contentId"),
        (listed(contentId=""), "[1] has no contentId"),
        (listed(contentId=5), "[1] has no contentId"),
        (listed(contentCreated=...), "[1] a$b: its contentCreated is no instant: 'None'"),
        (listed(contentCreated="yesterday\n"), "[1] a$b: its contentCreated is no instant: 'yesterday'"),
        (
            listed(contentCreated="9999-12-31T23:59:59Z", contentExpiration=...),
            "[1] a$b: its contentCreated is beyond the calendar",
        ),
        ("blob", "[1] is not an object"),
        (None, "[1] is not an object"),
    ],
)
def test_an_element_that_names_no_blob_is_named_and_its_neighbours_are_read(blob: object, said: str) -> None:
    """It is never left out: records would be missing and nobody would know."""
    page = parse(listed(), blob, listed(contentId="c"))

    assert [one.content_id for one in page.blobs] == ["a$b", "c"]
    assert page.unreadable == [said]


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"{}", b"<html>", b"[{]", b"\xff", b"[" * 100_000])
def test_what_is_no_array_is_a_bad_answer(body: bytes) -> None:
    """It is not taken for an empty one."""
    with pytest.raises(BadAnswer):
        parse_listing(body, FEED, where="here")
    with pytest.raises(BadAnswer):
        parse_subscription_list(body, where="here")


def test_enabled_subscriptions_are_found_however_they_are_written() -> None:
    """Without a status, in another case, and beside types that are not known."""
    body = json.dumps(
        [
            {"contentType": "audit.exchange", "status": "Enabled", "webhook": None},
            {"contentType": "Audit.SharePoint"},
            {"contentType": "Audit.General", "status": "disabled"},
            {"contentType": "Audit.Copilot", "status": "enabled"},
        ]
    )

    listed = parse_subscription_list(body.encode(), where="here")
    enabled = [one.content_type for one in listed if one.is_enabled]
    assert enabled == [ContentType.EXCHANGE, ContentType.SHAREPOINT]


@pytest.mark.parametrize(
    "body", [b"[]", b"\xef\xbb\xbf [1]\r\n", b" " * 500 + b"[]", b"{}", b'[{"Id":"1"},', b"[] and more"]
)
def test_whatever_may_hold_a_record_is_left_to_the_splitter(body: bytes) -> None:
    """Cut short, with text behind it, or no array at all."""
    check_blob(body, where="here")


@pytest.mark.parametrize("body", [b"", b"\n" * 500, b"\xef\xbb\xbf"])
def test_an_empty_body_is_content_that_may_still_come(body: bytes) -> None:
    """It is asked for again until it has expired, like content that the service denies."""
    with pytest.raises(ContentLost) as caught:
        check_blob(body, where="here")

    assert loss_reason(caught.value) == EMPTY


@pytest.mark.parametrize("body", [b"<html>", b"\xef\xbb\xbf\n<!doctype html>", b" " * 500 + b"<html>"])
def test_a_web_page_is_no_content(body: bytes) -> None:
    """A front door may answer 200 in place of the service."""
    with pytest.raises(BadAnswer, match="web page"):
        check_blob(body, where="here")


def test_a_web_page_does_not_confirm_a_start() -> None:
    """A front door may answer 200 in place of the service."""
    check_start(b"", where="here")
    with pytest.raises(BadAnswer, match="web page"):
        check_start(b"\n<!doctype html>", where="here")


ERRORS = st.fixed_dictionaries(
    {}, optional={"code": st.text() | st.sampled_from(list(CODES)) | st.integers(), "message": st.text()}
)
BODIES = st.binary() | st.builds(lambda error: json.dumps({"error": error}).encode(), ERRORS | st.text())


@given(st.integers(100, 599), BODIES, st.sampled_from(Call), st.text(max_size=40))
def test_any_status_and_body_give_one_error_or_none(
    status: int, body: bytes, call: Call, retry_after: str
) -> None:
    """Nothing else ever comes out."""
    error = error_of(status, body, call=call, Retry_After=retry_after)

    assert error is None or isinstance(error, CollectorError)
    assert error is not None or status in range(200, 300) or call is Call.START


def check_listing(body: bytes, feed: Feed, *, where: str) -> None:
    page = parse_listing(body, feed, where=where)
    assert len(page.blobs) + len(page.unreadable) == len(json.loads(body.removeprefix(b"\xef\xbb\xbf")))


@given(
    st.binary()
    | st.lists(st.dictionaries(st.text(), st.text() | st.none())).map(lambda x: json.dumps(x).encode())
)
def test_any_body_is_understood_or_refused(body: bytes) -> None:
    """Nothing else ever comes out."""
    for understand in (
        lambda: check_listing(body, FEED, where="here"),
        lambda: parse_subscription_list(body, where="here"),
        lambda: check_blob(body, where="here"),
        lambda: check_start(body, where="here"),
    ):
        try:
            understand()
        except (BadAnswer, ContentLost) as error:
            assert error.where.startswith("here")  # noqa: PT017 - which calls fail is not the point


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_refused(said: str) -> None:
    """Nothing else ever comes out."""
    try:
        assert parse_instant(said).tzinfo is UTC
    except ValueError:
        return
