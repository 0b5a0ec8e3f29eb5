"""Listing windows, pages and their tokens: what a query may ask, and what comes next.

Source: api-contract 2.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from m365watch_simulator.feed.blobs import Blob, position_text
from m365watch_simulator.feed.refusals import refusal

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?)?(Z|\+00:00)?", re.ASCII | re.IGNORECASE
)
_DAY = timedelta(hours=24)
_LOOKBACK = timedelta(days=7)
_PAGE_TOKEN = re.compile(r"(\d{23})\$(\d{23})\$([a-z]{2,6}\d{4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open [start, end) of contentCreated that a listing is about."""

    start: datetime
    end: datetime


def requested_span(query: Mapping[str, str], *, now: datetime, slack_s: float) -> Span:
    """The span that a query with lower-cased keys asks for; the last 24 h where it names none.

    Raises: Refusal: AF20002 for a time that is none, AF20055 for a span that is not allowed.
    """
    start, end = query.get("starttime"), query.get("endtime")
    if start is None and end is None:
        return Span(now - _DAY, now)
    if start is None or end is None:
        raise refusal("AF20055")
    span = Span(_parse_time("startTime", start), _parse_time("endTime", end))
    oldest = now - _LOOKBACK - timedelta(seconds=slack_s)
    if not span.start < span.end <= span.start + _DAY or span.start < oldest:
        raise refusal("AF20055")
    return span


class Pages:
    """The page tokens that one tenant has handed out."""

    def __init__(self, *, partition: str, size: int, life_s: float) -> None:
        """At most `size` blobs a page; a token is good for `life_s`."""
        self._partition = partition
        self._size = size
        self._life = timedelta(seconds=life_s)
        self._issued: dict[str, datetime] = {}

    def first_position(self, token: str | None, span: Span, *, feed: str, now: datetime) -> str:
        """The position at which the asked page starts; "" for the first page.

        Raises: Refusal: AF20031 for a token that expired or belongs to another listing.
        """
        if token is None:
            return ""
        match = _PAGE_TOKEN.fullmatch(token)
        issued_at = self._issued.get(_key(feed, token))
        if match is None or issued_at is None or now >= issued_at + self._life:
            raise refusal("AF20031", token)
        if match[2] != position_text(span.start, 0) or match[3] != self._partition:
            raise refusal("AF20031", token)
        return match[1]

    def page(
        self, blobs: list[Blob], span: Span, *, feed: str, now: datetime
    ) -> tuple[list[Blob], str | None]:
        """The first blobs, and the token of the page after them; None if there is none."""
        if len(blobs) <= self._size:
            return blobs, None
        token = f"{blobs[self._size].position}${position_text(span.start, 0)}${self._partition}"
        self._forget_old(now)
        self._issued[_key(feed, token)] = now
        return blobs[: self._size], token

    def _forget_old(self, now: datetime) -> None:
        if len(self._issued) > 10_000:
            self._issued = {key: at for key, at in self._issued.items() if now < at + self._life}


def next_page_url(base: str, content_type: str, span: Span, token: str) -> str:
    """NextPageUri as on the wire: lower-cased keys, 7 digits of fraction, no PublisherIdentifier."""
    return (
        f"{base}/subscriptions/content?contenttype={quote(content_type)}"
        f"&endtime={_long_time(span.end)}&starttime={_long_time(span.start)}&nextpage={token}"
    )


def short_time(instant: datetime) -> str:
    """Three digits of fraction and Z, as contentCreated has them."""
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"


def _long_time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S.%f}0Z"


def _key(feed: str, token: str) -> str:
    return f"{feed}/{token}"


def _parse_time(name: str, text: str) -> datetime:
    match = _TIME.fullmatch(text)
    if match is None:
        raise refusal("AF20002", name, "datetime")
    day, minutes, seconds, fraction, _ = match.groups()
    micros = (fraction or "").ljust(6, "0")[:6]
    try:
        return datetime.fromisoformat(f"{day}T{minutes or '00:00'}:{seconds or '00'}.{micros}").replace(
            tzinfo=UTC
        )
    except ValueError:
        raise refusal("AF20002", name, "datetime") from None
