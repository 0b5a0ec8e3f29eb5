"""What a request to the receiver amounts to: a validation, notifications, or a refusal. Pure.

Source: api-contract 2.6. A notification's contentId has a segment more than the listing's, its contentCreated
is that of the notification, and tenantId and clientId are documented but were absent where one was published.
That is why nothing of it is believed: it only says when to look, and roughly where.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from m365watch.common.model import CONTENT_TYPES, ContentType, TenantId
from m365watch.http.bounded_listener import Request, RequestRefused
from m365watch.sources.management_api.management_api_client import CONTENT_ID_LENGTH_MAX

NOTIFIED_SUFFIX = "$IsFromNotification"
_POSITION = re.compile(r"(\d{14})(\d{3})\d{6}\$", re.ASCII)
_YEARS = range(2000, 9999)
"""Of instants from which minutes can be counted to both sides."""
_AUTH_HEADER, _VALIDATION_HEADER = "webhook-authid", "webhook-validationcode"


@dataclass(frozen=True, slots=True)
class Notified:
    """One notification that may concern us."""

    content_type: ContentType
    content_id: str
    """As a listing will name it."""
    near: datetime
    """About when its contentCreated is."""
    is_exact: bool
    """Whether `near` was read from the id, which says it to the millisecond."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """What one request tells about one tenant."""

    tenant_id: TenantId
    notified: tuple[Notified, ...]
    foreign: int
    """Elements that name another tenant."""
    odd: int
    """Elements that cannot be understood, or are of types that are not known."""
    is_validation: bool = False


def tenant_of(target: str) -> str:
    """The last segment of a request's path, where the address that Microsoft was told has the tenant."""
    path = target.partition("?")[0].rstrip("/")
    return path.rpartition("/")[2].lower()


def judge_head(request: Request, *, auth_id: str, tenants: frozenset[str]) -> TenantId:
    """The tenant that the request is about, before its body is read.

    Raises: RequestRefused: it is no POST, it does not know the AuthID, or the tenant is not ours.
    """
    if request.method != "POST":
        raise RequestRefused(HTTPStatus.METHOD_NOT_ALLOWED)
    given = request.headers.get(_AUTH_HEADER, "")
    # First, so that who does not know it cannot ask for which tenants there are.
    if not hmac.compare_digest(given.encode("latin-1"), auth_id.encode("utf-8")):
        raise RequestRefused(HTTPStatus.UNAUTHORIZED)
    tenant = tenant_of(request.target)
    if tenant not in tenants:
        raise RequestRefused(HTTPStatus.NOT_FOUND)
    return TenantId(tenant)


def parse_notifications(request: Request, tenant_id: TenantId) -> Notifications:
    """What the body says.

    Raises: RequestRefused: it is neither a validation nor a list.
    """
    try:
        said = msgspec.json.decode(bytes(request.body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = None
    if _VALIDATION_HEADER in request.headers or (isinstance(said, dict) and "validationCode" in said):
        return Notifications(tenant_id, (), 0, 0, is_validation=True)
    if not isinstance(said, list):
        raise RequestRefused(HTTPStatus.BAD_REQUEST)
    found: list[Notified] = []
    foreign = odd = 0
    for one in said:
        if isinstance(one, dict) and str(one.get("tenantId") or tenant_id).lower() != tenant_id:
            foreign += 1
            continue
        notified = _notified(one) if isinstance(one, dict) else None
        if notified is None:
            odd += 1
        else:
            found.append(notified)
    return Notifications(tenant_id, tuple(found), foreign, odd)


def _notified(one: dict[str, object]) -> Notified | None:
    content_type = CONTENT_TYPES.get(str(one.get("contentType")).lower())
    content_id = one.get("contentId")
    if content_type is None or not isinstance(content_id, str):
        return None
    plain = content_id.removesuffix(NOTIFIED_SUFFIX)
    if not 0 < len(plain) <= CONTENT_ID_LENGTH_MAX or not (plain.isascii() and plain.isprintable()):
        return None
    exact = _instant_in(plain)
    near = exact or _instant(one.get("contentCreated"))
    if near is None or near.year not in _YEARS:
        return None
    return Notified(content_type, plain, near, exact is not None)


def _instant_in(content_id: str) -> datetime | None:
    """The contentCreated that a content id begins with; None for an id of another shape."""
    found = _POSITION.match(content_id)
    if found is None:
        return None
    try:
        whole = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return whole.replace(microsecond=int(found[2]) * 1000)


def _instant(said: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None
    if instant is None:
        return None
    try:
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        return None
