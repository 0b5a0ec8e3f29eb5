from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from feed_tenant import PUBLISHER, TENANT, tenant_at
from m365watch.common.errors import BadAnswer, ContentLost
from m365watch.common.model import ContentType, Window
from m365watch.sources.management_api.management_api_client import (
    CONTENT_ID_LENGTH_MAX,
    NEXT_PAGE_LENGTH_MAX,
    Urls,
)
from m365watch_testing.clock import START

HOST = "https://manage.office.com"
ROOT = f"{HOST}/api/v1.0/{TENANT}/activity/feed"
URLS = Urls(tenant_at(HOST))


def test_the_addresses_are_those_of_the_reference() -> None:
    """Each carries the publisher; times are whole seconds without a zone."""
    window = Window(START, START + timedelta(hours=1))

    assert str(URLS.subscriptions()) == f"{ROOT}/subscriptions/list?PublisherIdentifier={PUBLISHER}"
    assert str(URLS.start(ContentType.DLP)) == (
        f"{ROOT}/subscriptions/start?contentType=DLP.All&PublisherIdentifier={PUBLISHER}"
    )
    assert str(URLS.listing(ContentType.EXCHANGE, window)) == (
        f"{ROOT}/subscriptions/content?contentType=Audit.Exchange"
        f"&startTime=2026-11-17T09:00:00&endTime=2026-11-17T10:00:00&PublisherIdentifier={PUBLISHER}"
    )


def test_a_window_is_widened_to_whole_seconds() -> None:
    """A fraction that was cut from its end would be a hole."""
    part = timedelta(milliseconds=500)
    asked = dict(
        parse_qsl(URLS.listing(ContentType.DLP, Window(START + part, START + part)).raw_query_string)
    )

    assert (asked["startTime"], asked["endTime"]) == ("2026-11-17T09:00:00", "2026-11-17T09:00:01")


@pytest.mark.parametrize(
    "next_page_uri",
    [
        f"{ROOT}/subscriptions/content?contenttype=Audit.General&nextpage=2020$2019$na0022",
        "https://evil.example/x?contenttype=Audit.General&nextpage=2020$2019$na0022&publisheridentifier=0",
        "http://localhost:1/?PUBLISHERIDENTIFIER=1&contenttype=Audit.General&nextpage=2020$2019$na0022#x",
        "/api/v1/x?Publisher%49dentifier=2&contenttype=Audit.General&nextpage=2020$2019$na0022",
        "?contenttype=Audit.General&&nextpage=2020$2019$na0022",
    ],
)
def test_of_a_next_page_only_the_query_is_taken(next_page_uri: str) -> None:
    """It goes to the configured host, with our publisher once."""
    assert str(URLS.next_page(next_page_uri, where="here")) == (
        f"{ROOT}/subscriptions/content?contenttype=Audit.General&nextpage=2020$2019$na0022"
        f"&PublisherIdentifier={PUBLISHER}"
    )


@pytest.mark.parametrize(
    "next_page_uri",
    [
        "nonsense",
        "https://manage.office.com/x",
        "https://[::1",
        "?",
        "?PublisherIdentifier=1",
        "?" + "x" * 9_000,
    ],
)
def test_a_next_page_that_names_none_is_a_bad_answer(next_page_uri: str) -> None:
    """A listing that stopped there would be cut silently."""
    with pytest.raises(BadAnswer, match="NextPageUri"):
        URLS.next_page(next_page_uri, where="here")


@pytest.mark.parametrize(
    ("content_id", "segment"),
    [
        (
            "2020$2020$audit_exchange$Audit_Exchange$emea0036",
            "2020$2020$audit_exchange$Audit_Exchange$emea0036",
        ),
        ("../../../subscriptions/stop", "..%2F..%2F..%2Fsubscriptions%2Fstop"),
        ("..", "%2E%2E"),
        ("a?b#c d%e\n", "a%3Fb%23c%20d%25e%0A"),
        ("é\ud800", "%C3%A9%ED%A0%80"),
    ],
)
def test_a_content_id_stays_one_segment_of_the_path(content_id: str, segment: str) -> None:
    """The `$` stays as it is; nothing leads out of the folder."""
    url = URLS.blob(content_id, where="here")

    assert str(url) == f"{ROOT}/audit/{segment}?PublisherIdentifier={PUBLISHER}"


@pytest.mark.parametrize("content_id", ["", "x" * (CONTENT_ID_LENGTH_MAX + 1)])
def test_what_cannot_be_a_content_id_is_lost(content_id: str) -> None:
    """It is counted rather than sent."""
    with pytest.raises(ContentLost, match="invalid"):
        URLS.blob(content_id, where="here")


@guarantee(24)
@given(st.text(min_size=1, max_size=CONTENT_ID_LENGTH_MAX))
def test_any_content_id_is_asked_for_as_it_is(content_id: str) -> None:
    """On the configured host, below `audit/`, and decoded it is the same id again."""
    written = str(URLS.blob(content_id, where="here"))
    segment = written.removeprefix(f"{ROOT}/audit/").partition("?")[0]

    assert written.startswith(f"{ROOT}/audit/")
    assert written.isascii()
    assert written.isprintable()
    assert not set(segment) & set("/?# ")
    assert unquote(segment, errors="surrogatepass") == content_id


@guarantee(24)
@given(st.text(max_size=NEXT_PAGE_LENGTH_MAX) | st.text().map(lambda query: f"https://x.example/?{query}"))
def test_any_next_page_leads_to_the_configured_host_or_nowhere(next_page_uri: str) -> None:
    """A token is never carried to where an answer points."""
    try:
        url = URLS.next_page(next_page_uri, where="here")
    except BadAnswer:
        return
    parts = urlsplit(str(url))

    assert str(url).startswith(f"{ROOT}/subscriptions/content?")
    assert str(url).isascii()
    assert str(url).isprintable()
    assert parts.fragment == ""
    assert parts.query.endswith(f"&PublisherIdentifier={PUBLISHER}")
