"""What an answer of the API means: a value or one error. Pure.

Source: api-contract 2.3 to 2.5, 3 and 5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from m365watch.auth.permissions import PERMISSION_FIX
from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    NeedsOperator,
    NotSubscribed,
    PermissionMissing,
    RetryLater,
    Throttled,
    TokenRefused,
    Unavailable,
    WebhookRefused,
    WindowRefused,
)
from m365watch.common.model import BlobRef, ContentType, Feed
from m365watch.common.secret import Secret
from m365watch.common.text import one_line
from m365watch.http.client import Answer
from m365watch.http.retry_after import retry_after_s

ALREADY_ENABLED = "AF20024"
"""The normal answer to a start of an enabled subscription: success."""

EXPIRED, UNKNOWN, INVALID = "expired", "unknown", "invalid"
"""Why content is lost; unknown and invalid have been seen to pass, so trying again may help."""

EMPTY = "empty"
"""The same for content that is answered without a body: it may come until it has expired."""


@dataclass(frozen=True, slots=True)
class AfCode:
    """One code of the API."""

    code: str
    cause: str
    becomes: type[CollectorError]
    fix: str = ""
    """One imperative sentence without its full stop, where a person has to act."""
    lost: str = ""
    """For `ContentLost`: expired, unknown or invalid."""


AUDIT_OFF_CAUSE = "auditing was never enabled in the tenant"
AUDIT_OFF_FIX = (
    "turn auditing on (Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true in Exchange Online "
    "PowerShell) and wait up to 24 hours"
)
_TENANT_FIX = "set credentials.tenant_id to the tenant that the application's token is for"
_PUBLISHER_FIX = "set the publisher identifier to a GUID, or leave it out"
_CONTENT_TYPE_FIX = "disable this service for the tenant, as its cloud does not offer it"

CODES = {
    known.code: known
    for known in (
        AfCode("AF10001", "the token lacks a permission", PermissionMissing, PERMISSION_FIX),
        AfCode("AF20001", "a parameter is missing", BadAnswer),
        AfCode("AF20002", "a parameter has the wrong type", AccessRefused, _PUBLISHER_FIX),
        AfCode("AF20010", "the token is for another tenant", AccessRefused, _TENANT_FIX),
        AfCode("AF20011", AUDIT_OFF_CAUSE, AccessRefused, AUDIT_OFF_FIX),
        AfCode("AF20012", "the tenant is not set up for auditing", AccessRefused, AUDIT_OFF_FIX),
        AfCode("AF20013", "the tenant id is no GUID", AccessRefused, _TENANT_FIX),
        AfCode("AF20020", "the content type is not valid here", AccessRefused, _CONTENT_TYPE_FIX),
        AfCode("AF20021", "the webhook could not be validated", WebhookRefused),
        AfCode("AF20022", "there is no subscription", NotSubscribed),
        AfCode("AF20023", "the subscription was disabled", NotSubscribed),
        AfCode("AF20030", "the window is refused", WindowRefused),
        AfCode("AF20031", "the page token is refused", WindowRefused),
        AfCode("AF20050", "the content does not exist", ContentLost, lost=UNKNOWN),
        AfCode("AF20051", "the content has expired", ContentLost, lost=EXPIRED),
        AfCode("AF20052", "the content id is not valid", ContentLost, lost=INVALID),
        AfCode("AF20055", "the window is refused", WindowRefused),
        AfCode("AF429", "too many requests", Throttled),
        AfCode("AF50000", "an internal error of the service", Unavailable),
        AfCode("AF50005", "an internal error of the service", Unavailable),
        AfCode("AF50006", "an internal error of the service", Unavailable),
    )
}
"""Every code that a collector has met or may meet."""


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


class ListedPage(NamedTuple):
    """One page of a listing."""

    blobs: list[BlobRef]
    """In the page's order, repeats included."""
    unreadable: list[str]
    """For each element that names no blob: its place, counted from 0, and what is wrong with it."""


class ListedSubscription(NamedTuple):
    """A subscription as the service lists it."""

    content_type: ContentType
    is_enabled: bool
    webhook_address: str | None = None
    """None: it has no webhook."""
    webhook_status: str | None = None
    """enabled, disabled or expired."""
    webhook_expires_at: datetime | None = None
    """None: never, or not said."""
    webhook_auth_id: Secret | None = None
    """None: not said."""


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


def parse_subscription_list(body: bytes, *, where: str) -> list[ListedSubscription]:
    """Every subscription; one without a status is enabled, as it is listed.

    Types that are not known are left out. Raises: BadAnswer.
    """
    subscriptions = []
    for listed in _array(body, where=where):
        if not isinstance(listed, dict) or not isinstance(listed.get("contentType"), str):
            raise BadAnswer("a subscription without a contentType", where=where)
        content_type = _TYPES.get(listed["contentType"].lower())
        if content_type is not None:
            subscriptions.append(_subscription(content_type, listed))
    return subscriptions


def _subscription(content_type: ContentType, listed: dict[str, object]) -> ListedSubscription:
    status, webhook = listed.get("status"), listed.get("webhook")
    is_enabled = status is None or str(status).lower() == "enabled"
    if not isinstance(webhook, dict):
        return ListedSubscription(content_type, is_enabled)
    address = one_line(str(webhook.get("address") or "")) or None
    auth_id = webhook.get("authId")
    return ListedSubscription(
        content_type,
        is_enabled,
        address,
        one_line(str(webhook.get("status") or "enabled")).lower(),
        _webhook_end(webhook.get("expiration")),
        Secret(auth_id) if isinstance(auth_id, str) and auth_id else None,
    )


def _webhook_end(said: object) -> datetime | None:
    """When a webhook ends; the service writes an empty text where it does not."""
    try:
        instant = datetime.fromisoformat(said) if isinstance(said, str) and said else None
    except ValueError:
        return None
    return instant and (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant)


def parse_listing(body: bytes, feed: Feed, *, where: str) -> ListedPage:
    """What one page names: every element is among its blobs or among what cannot be read.

    Raises: BadAnswer where the page is no array.
    """
    page = ListedPage([], [])
    for place, listed in enumerate(_array(body, where=where)):
        try:
            page.blobs.append(_blob(listed, feed))
        except ValueError as error:
            page.unreadable.append(f"[{place}] {error}")
    return page


def check_start(body: bytes, *, where: str) -> None:
    """Nothing unless `body` is a web page; what a start brought about, the next listing shows.

    Raises: BadAnswer.
    """
    if body.lstrip(_BOM + _BLANKS)[:1] == b"<":
        raise BadAnswer("the body is a web page", where=where)


def check_blob(body: bytes, *, where: str) -> None:
    """Nothing if there is content in `body`; whether it is whole is for the splitter to say.

    Raises: ContentLost (empty) where the body has nothing but blanks; BadAnswer where it is a web page.
    """
    # Only an edge is copied, unless that is blank: a body may be padded with any amount of blanks.
    start = body[:_EDGE_BYTES].removeprefix(_BOM).lstrip(_BLANKS) or body.removeprefix(_BOM).lstrip(_BLANKS)
    if not start:
        raise ContentLost(f"{EMPTY}: an answer without a body", where=where)
    if start.startswith(b"<"):
        raise BadAnswer("the body is a web page", where=where)


def loss_reason(lost: ContentLost) -> str:
    """Why the content is lost: expired, unknown, invalid or empty."""
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


def _blob(listed: object, feed: Feed) -> BlobRef:
    """The blob that one element of a listing names.

    Its contentCreated is part of its identity: a blob taken with another one would be delivered a
    second time when a later listing says the right one. Its expiry is not, and may be any value.
    Raises: ValueError saying what is wrong.
    """
    if not isinstance(listed, dict):
        raise ValueError("is not an object")  # noqa: TRY004 - one kind of error says all that is wrong with it.
    content_id = listed.get("contentId")
    if not isinstance(content_id, str) or not content_id:
        raise ValueError("has no contentId")
    said = listed.get("contentCreated")
    try:
        created_at = parse_instant(said)
        return BlobRef(feed, content_id, created_at, _expiry(listed.get("contentExpiration"), created_at))
    except ValueError:
        shown = one_line(str(said)[:64])
        raise ValueError(f"{one_line(content_id)}: its contentCreated is no instant: {shown!r}") from None
    except OverflowError:
        raise ValueError(f"{one_line(content_id)}: its contentCreated is beyond the calendar") from None


def _expiry(said: object, created_at: datetime) -> datetime:
    """When the content expires: as the listing says, or after the documented life."""
    try:
        return parse_instant(said)
    except ValueError:
        return created_at + CONTENT_LIFE


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
