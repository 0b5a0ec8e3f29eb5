"""What an answer of Graph's service announcements means: a page or one error. Pure.

Source: Microsoft Graph v1.0, service communications; its envelope of errors is Graph's usual one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    PermissionMissing,
    Throttled,
    Unavailable,
    WindowRefused,
)
from m365watch.http.retry_after import retry_after_s
from m365watch.http.session import Answer
from m365watch.sources.audit_search.audit_search_client import PASSING, words_of
from m365watch.sources.service_health.urls import Kind

ROLES = {
    Kind.OVERVIEWS: "ServiceHealth.Read.All",
    Kind.ISSUES: "ServiceHealth.Read.All",
    Kind.POSTS: "ServiceMessage.Read.All",
}
"""The application permission of Graph that each kind needs."""
_BOM = b"\xef\xbb\xbf"


class AnnouncedPage(NamedTuple):
    """One page of a kind."""

    announced: list[bytes]
    """Each announcement's own bytes, where a fast decoder can read the page."""
    next_link: str
    """Empty on the last page."""


class _Page(msgspec.Struct):
    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


def refusal(
    answer: Answer, *, kind: Kind, where: str, now: datetime, hide: Iterable[str] = ()
) -> CollectorError | None:
    """The error that `answer` amounts to; None if it may hold a page.

    A refused condition is a WindowRefused. Each of `hide` is blotted out of the words that the error quotes.
    """
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    what = f"HTTP {answer.status}{words_of(answer.body, hide)}"
    if answer.status == HTTPStatus.FORBIDDEN:
        role = ROLES[kind]
        fix = (
            f"grant the application {role} of Microsoft Graph as application permission, with admin consent, "
            f"or take {_kinds_with(role)} out of the service's `announcements`"
        )
        return PermissionMissing(f"{role} is missing: {what}", fix=fix, where=where)
    if answer.status == HTTPStatus.BAD_REQUEST:
        return WindowRefused(what, where=where)
    after_s = retry_after_s(answer.headers, now=now)
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and after_s is not None:
        return Throttled(what, where=where, after_s=after_s)
    other = Unavailable if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else BadAnswer
    return PASSING.get(answer.status, other)(what, where=where, after_s=after_s)


def _kinds_with(role: str) -> str:
    return " and ".join(kind for kind, needed in ROLES.items() if needed == role)


def parse_page(body: bytes, *, where: str) -> AnnouncedPage:
    """The announcements of one page, in its order, and where the next one is.

    Raises: BadAnswer where the body is no page.
    """
    body = body.removeprefix(_BOM)
    try:
        page = msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_tolerantly(body, where=where)
    return AnnouncedPage([bytes(one) for one in page.value], page.next_link or "")


def _read_tolerantly(body: bytes, *, where: str) -> AnnouncedPage:
    """A page that fast decoders refuse, for example over a lone surrogate: all of it is spelt anew."""
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False)
        listed, next_link = page["value"], page.get("@odata.nextLink") or ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadAnswer("the body is no page of Graph's announcements", where=where) from None
    if not isinstance(listed, list) or not isinstance(next_link, str):
        raise BadAnswer("the body is no page of Graph's announcements", where=where)
    return AnnouncedPage([json.dumps(one, separators=(",", ":")).encode() for one in listed], next_link)
