"""What an answer of the API means: a value or one error. Pure.

Source: api-contract 2.3 to 2.5, 3 and 5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from m365watch.entra.retry_after import retry_after_s
from m365watch.entra.session import Answer
from m365watch.entra.text import one_line
from m365watch.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    NeedsOperator,
    RetryLater,
    Throttled,
    TokenRefused,
    Unavailable,
)
from m365watch.feed.codes import (
    ALREADY_ENABLED,
    AUDIT_OFF_CAUSE,
    AUDIT_OFF_FIX,
    CODES,
    EXPIRED,
    UNKNOWN,
    AfCode,
)
from m365watch.model import BlobRef, ContentType, Feed

CONTENT_LIFE = timedelta(days=7)
"""How long content is served where a listing does not say (documented; real ones do say)."""

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"
_EDGE_BYTES = 64
_TENANT_ABSENT = re.compile(r"\btenant\s+\S+\s+does not exist", re.IGNORECASE)
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s*([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)
_TYPES = {content_type.lower(): content_type for content_type in ContentType}


class Call(Enum):
    """What had been asked for; the same code can mean different things."""

    SUBSCRIPTIONS = auto()
    START = auto()
    LISTING = auto()
    BLOB = auto()


class ServiceError(NamedTuple):
    """The error object of an answer; the code is not always one that starts with AF."""

    code: str
    words: str


def service_error(body: bytes) -> ServiceError | None:
    """The error object in `body`, under whatever status it came; None if there is none."""
    if body.lstrip(_BOM + _BLANKS)[:1] != b"{":
        return None
    said = _decoded(body)
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        return None if error is None else ServiceError("", str(error)[:1_000])
    return ServiceError(str(error.get("code"))[:1_000], str(error.get("message"))[:1_000])


def refusal(
    answer: Answer, *, call: Call, where: str, now: datetime, hide: Iterable[str] = ()
) -> CollectorError | None:
    """The error that `answer` amounts to; None if it may hold what was asked for.

    Each of `hide` is blotted out of the words that the error quotes.
    """
    success = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
    if success and answer.body[:1] == b"[":
        return None
    said = service_error(answer.body)
    if said is None and success:
        return None
    if call is Call.START and said and said.code.strip().upper() == ALREADY_ENABLED:
        return None
    after_s = retry_after_s(answer.headers, now=now)
    known = CODES.get(said.code.strip().upper()) if said else None
    if known is not None:
        error = _by_code(known, call=call, where=where)
    elif said and _TENANT_ABSENT.search(f"{said.code} {said.words}"):
        error = AccessRefused(f"{AUDIT_OFF_CAUSE} (HTTP {answer.status})", fix=AUDIT_OFF_FIX, where=where)
    else:
        words = one_line(f"{said.code}: {said.words}", hide=hide) if said else ""
        error = _by_status(answer.status, words, call=call, where=where, after_s=after_s)
    if isinstance(error, RetryLater):
        error.after_s = after_s
    return error


def parse_subscriptions(body: bytes, *, where: str) -> frozenset[ContentType]:
    """The content types that are enabled; one without a status is, as it is listed.

    Types that are not known are left out. Raises: BadAnswer.
    """
    enabled = set()
    for listed in _array(body, where=where):
        if not isinstance(listed, dict) or not isinstance(listed.get("contentType"), str):
            raise BadAnswer("a subscription without a contentType", where=where)
        content_type = _TYPES.get(listed["contentType"].lower())
        status = listed.get("status")
        if content_type is not None and (status is None or str(status).lower() == "enabled"):
            enabled.add(content_type)
    return frozenset(enabled)


def parse_listing(body: bytes, feed: Feed, *, where: str) -> list[BlobRef]:
    """The blobs of one page, in its order, repeats included.

    Raises: BadAnswer naming the first that cannot be understood; none is dropped silently.
    """
    return [
        _blob(listed, feed, where=f"{where} [{place}]")
        for place, listed in enumerate(_array(body, where=where))
    ]


def check_start(body: bytes, *, where: str) -> None:
    """Nothing unless `body` is a web page; what a start brought about, the next listing shows.

    Raises: BadAnswer.
    """
    if body.lstrip(_BOM + _BLANKS)[:1] == b"<":
        raise BadAnswer("the body is a web page", where=where)


def check_blob(body: bytes, *, where: str) -> None:
    """Nothing if `body` begins and ends as an array does.

    Raises: BadAnswer where it is empty, cut short or something else, whatever its media type.
    """
    # Only an edge is copied, unless that is blank: a body may be padded with any amount of blanks.
    start = body[:_EDGE_BYTES].removeprefix(_BOM).lstrip(_BLANKS) or body.removeprefix(_BOM).lstrip(_BLANKS)
    if not start:
        raise BadAnswer("the body is empty", where=where)
    if not start.startswith(b"["):
        raise BadAnswer("the body is not an array", where=where)
    end = body[-_EDGE_BYTES:].rstrip(_BLANKS) or body.rstrip(_BLANKS)
    if not end.endswith(b"]"):
        raise BadAnswer("the body was cut short", where=where)


def loss_reason(lost: ContentLost) -> str:
    """Why the content is lost: expired, unknown or invalid."""
    return lost.what.partition(":")[0]


def parse_instant(said: object) -> datetime:
    """The instant in aware UTC: any number of decimals, with or without a zone (then UTC).

    Raises: ValueError.
    """
    match = _INSTANT.fullmatch(said.strip()) if isinstance(said, str) else None
    if match is None:
        raise ValueError("not an instant")
    day, time, decimals, zone = match.groups()
    written = f"{day}T{time}.{(decimals or '').ljust(6, '0')[:6]}{(zone or 'Z').upper()}"
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except OverflowError:
        raise ValueError("beyond the calendar") from None


def _by_code(known: AfCode, *, call: Call, where: str) -> CollectorError:
    what = f"{known.code}: {known.cause}"
    becomes = known.becomes
    if issubclass(becomes, ContentLost):
        if call is not Call.BLOB:
            return BadAnswer(what, where=where)
        return ContentLost(f"{known.lost}: {what}", where=where)
    if issubclass(becomes, NeedsOperator):
        return becomes(what, fix=known.fix, where=where)
    return becomes(what, where=where)


def _by_status(status: int, words: str, *, call: Call, where: str, after_s: float | None) -> CollectorError:
    what = f"HTTP {status}{f' ({words})' if words else ''}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(what, where=where)
    if status == HTTPStatus.SERVICE_UNAVAILABLE and after_s is not None:
        return Throttled(what, where=where)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return Unavailable(what, where=where)
    if status == HTTPStatus.UNAUTHORIZED:
        return TokenRefused(what, where=where)
    if call is Call.BLOB and status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        lost = UNKNOWN if status == HTTPStatus.NOT_FOUND else EXPIRED
        return ContentLost(f"{lost}: {what}", where=where)
    return BadAnswer(what, where=where)


def _blob(listed: object, feed: Feed, *, where: str) -> BlobRef:
    if not isinstance(listed, dict):
        raise BadAnswer("a listed blob is not an object", where=where)
    content_id = listed.get("contentId")
    if not isinstance(content_id, str) or not content_id:
        raise BadAnswer("a listed blob has no contentId", where=where)
    created_at = _instant(listed.get("contentCreated"), "contentCreated", where=where)
    said = listed.get("contentExpiration")
    if said is not None:
        return BlobRef(feed, content_id, created_at, _instant(said, "contentExpiration", where=where))
    try:
        return BlobRef(feed, content_id, created_at, created_at + CONTENT_LIFE)
    except OverflowError:
        raise BadAnswer("a listed blob's contentCreated is beyond the calendar", where=where) from None


def _instant(said: object, name: str, *, where: str) -> datetime:
    try:
        return parse_instant(said)
    except ValueError:
        shown = one_line(str(said)[:64])
        raise BadAnswer(f"a listed blob's {name} is no instant: {shown!r}", where=where) from None


def _array(body: bytes, *, where: str) -> list[object]:
    said = _decoded(body)
    if not isinstance(said, list):
        what = "the body is empty" if not body.strip() else "the body is not a JSON array"
        raise BadAnswer(what, where=where)
    return said


def _decoded(body: bytes) -> object:
    """The JSON in `body`, with or without a byte order mark; None where there is none."""
    try:
        return msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
