"""What an answer of Graph means: a value or one error. Pure.

Source: Microsoft Graph v1.0, auditLogQuery and auditLogRecord (api-contract 6). That `auditData` is the
record as the Management Activity API serves it, with the spelling of its CreationTime, is an
assumption: no published answer shows both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote

import msgspec
from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    QueryGone,
    RetryLater,
    Throttled,
    TokenRefused,
    Unavailable,
)
from m365watch.common.model import TenantId, Window
from m365watch.common.text import one_line
from m365watch.common.urls import query_of
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s

NEXT_LINK_LENGTH_MAX = 8_192
"""Characters of an `@odata.nextLink`."""
_QUERY_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}", re.ASCII)
_QUERY_AS_SENT = "!$%&'()*+,-./:;=?@_~"


class GraphUrls:
    """The addresses of one cloud; pure."""

    def __init__(self, graph_url: str) -> None:
        """`graph_url` is the host, without `/v1.0`."""
        self._root = f"{graph_url.rstrip('/')}/v1.0/security/auditLog/queries"

    def queries(self) -> URL:
        """Where a query is made."""
        return URL(self._root, encoded=True)

    def query(self, query: str) -> URL:
        """Where a query tells how it stands."""
        return URL(f"{self._root}/{quote(query, safe='')}", encoded=True)

    def records(self, query: str, next_query: str = "") -> URL:
        """A page of a query's records; `next_query` is what `next_query_of` made of the page before."""
        rest = f"?{next_query}" if next_query else ""
        return URL(f"{self._root}/{quote(query, safe='')}/records{rest}", encoded=True)


def is_query_id(text: str) -> bool:
    """Whether `text` can be the id of a query: it becomes part of addresses and of file names."""
    return _QUERY_ID.fullmatch(text) is not None


def next_query_of(next_link: str, *, where: str) -> str:
    """The query part of an `@odata.nextLink`; its host and path are not followed, whatever they are.

    Raises: BadAnswer where it has no query or is longer than `NEXT_LINK_LENGTH_MAX`.
    """
    if len(next_link) > NEXT_LINK_LENGTH_MAX:
        raise BadAnswer("@odata.nextLink is too long", where=where)
    query = query_of(next_link.strip())
    if not query:
        raise BadAnswer("@odata.nextLink names no next page", where=where)
    return quote(query, safe=_QUERY_AS_SENT, errors="surrogatepass")


ROLE = "AuditLogsQuery.Read.All"
ROLE_FIX = f"grant the application the permission {ROLE} of Microsoft Graph, with admin consent"
_BOM = b"\xef\xbb\xbf"
_KNOWN = frozenset(status.value for status in HTTPStatus)
_UNKNOWN = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
PASSING: dict[int | None, type[RetryLater]] = {
    HTTPStatus.TOO_MANY_REQUESTS: Throttled,
    HTTPStatus.UNAUTHORIZED: TokenRefused,
    HTTPStatus.REQUEST_TIMEOUT: Unavailable,
}


class Asked(StrEnum):
    """What had been asked for."""

    NEW_QUERY = "new query"
    QUERY = "query"
    PAGE = "page"


class QueryStatus(StrEnum):
    """Where a query stands; the last three are ends."""

    NOT_STARTED = "notstarted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class QueryStanding(NamedTuple):
    """How a query stands."""

    query: str
    status: QueryStatus
    is_cut: bool
    """Whether Graph says that the query found more records than it hands out."""


class FoundPage(NamedTuple):
    """One page of a query's records."""

    records: list[bytes]
    """Each record's `auditData`, its own bytes where a fast decoder can read the page."""
    next_query: str
    """Of the next page; empty on the last one."""


class _Query(msgspec.Struct):
    id: str = ""
    status: str = "notStarted"
    is_cut: bool | None = msgspec.field(default=None, name="isRecordCountLimitExceeded")


class _Found(msgspec.Struct):
    record: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="auditData")


class _Page(msgspec.Struct):
    value: list[_Found]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


def refusal(
    answer: Answer, *, asked: Asked, where: str, now: datetime, hide: Iterable[str] = ()
) -> CollectorError | None:
    """The error that `answer` amounts to; None if it may hold what was asked for.

    Each of `hide` is blotted out of the words that the error quotes.
    """
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    what = f"HTTP {answer.status}{words_of(answer.body, hide)}"
    error = _by_status(HTTPStatus(answer.status) if answer.status in _KNOWN else None, what, asked, where)
    if isinstance(error, RetryLater):
        error.after_s = retry_after_s(answer.headers, now=now)
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and error.after_s is not None:
            return Throttled(what, where=where, after_s=error.after_s)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(what, where=where, after_s=error.after_s)
    return error


def _by_status(status: HTTPStatus | None, what: str, asked: Asked, where: str) -> CollectorError:
    if status is HTTPStatus.FORBIDDEN:
        return AccessRefused(what, fix=ROLE_FIX, where=where)
    if status in _UNKNOWN:
        if asked is Asked.NEW_QUERY:
            fix = "see whether Graph offers audit log queries in this cloud; report it if it does"
            return AccessRefused(f"Graph takes no query: {what}", fix=fix, where=where)
        return QueryGone(what, where=where)
    return PASSING.get(status, BadAnswer)(what, where=where)


def parse_query(body: bytes, *, where: str) -> QueryStanding:
    """How the query of an answer stands; a status that is not known counts as running.

    Raises: BadAnswer.
    """
    try:
        said = msgspec.json.decode(body.removeprefix(_BOM), type=_Query)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("the body is no query of Graph's", where=where) from None
    if not is_query_id(said.id):
        raise BadAnswer("a query without a usable id", where=where)
    known = {str(status): status for status in QueryStatus}
    return QueryStanding(
        said.id, known.get(said.status.lower(), QueryStatus.RUNNING), is_cut=bool(said.is_cut)
    )


def parse_page(body: bytes, *, where: str) -> FoundPage:
    """The records of one page, in its order, and where the next one is.

    Raises: BadAnswer where the body is no page.
    """
    body = body.removeprefix(_BOM)
    try:
        page = msgspec.json.decode(body, type=_Page)
        records = [bytes(found.record) for found in page.value]
        next_link = page.next_link
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        records, next_link = _read_tolerantly(body, where=where)
    return FoundPage(records, next_query_of(next_link, where=where) if next_link else "")


def _read_tolerantly(body: bytes, *, where: str) -> tuple[list[bytes], str | None]:
    """A page that fast decoders refuse, for example over a lone surrogate: the records are spelt anew."""
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False)
        listed, next_link = page["value"], page.get("@odata.nextLink")
        if not isinstance(listed, list) or not isinstance(next_link, str | None):
            raise BadAnswer("the body is no page of Graph's records", where=where)
        found = [one.get("auditData") for one in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadAnswer("the body is no page of Graph's records", where=where) from None
    return [json.dumps(one, separators=(",", ":")).encode() for one in found], next_link


def words_of(body: bytes, hide: Iterable[str]) -> str:
    """Graph's own words for an error, as ` (code: text)`; empty where there are none."""
    try:
        said = msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        return ""
    text = f"{str(error.get('code'))[:200]}: {str(error.get('message'))[:500]}"
    return f" ({one_line(text, hide=hide)})"


_JSON = {"Content-Type": "application/json"}


class AuditQueries:
    """The audit log queries of one tenant.

    Every call may raise `RetryLater` (Throttled, Unavailable, BadAnswer, TokenRefused) and
    `NeedsOperator` (CredentialsRefused, AccessRefused, Defect).
    """

    def __init__(
        self, session: Session, urls: GraphUrls, *, tenant_id: TenantId, tokens: Tokens, clock: Clock
    ) -> None:
        """`tokens` are for the host of `urls`, and for no other."""
        self.tenant_id = tenant_id
        self._session = session
        self._urls = urls
        self._tokens = tokens
        self._clock = clock

    async def make(self, span: Window) -> str:
        """Have the service look for every record of `span`; the id of its query."""
        where = f"{self.tenant_id}/Graph {span}"
        asked = {
            "displayName": f"m365watch {span}",
            "filterStartDateTime": f"{span.start:%Y-%m-%dT%H:%M:%SZ}",
            "filterEndDateTime": f"{span.end:%Y-%m-%dT%H:%M:%SZ}",
        }
        body = msgspec.json.encode(asked)
        answer = await self._ask(self._urls.queries(), Asked.NEW_QUERY, where=where, body=body)
        return parse_query(answer.body, where=where).query

    async def look(self, query: str) -> QueryStanding:
        """How the query stands. Raises: QueryGone."""
        where = f"{self.tenant_id}/Graph query {query}"
        answer = await self._ask(self._urls.query(query), Asked.QUERY, where=where)
        return parse_query(answer.body, where=where)

    async def page(self, query: str, next_query: str) -> FoundPage:
        """A page of the records that the query found; an empty `next_query` is the first one's.

        Raises: QueryGone, also where the page's token has expired.
        """
        where = f"{self.tenant_id}/Graph query {query} page"
        answer = await self._ask(self._urls.records(query, next_query), Asked.PAGE, where=where)
        return parse_page(answer.body, where=where)

    async def _ask(self, url: URL, asked: Asked, *, where: str, body: bytes | None = None) -> Answer:
        token = await self._tokens.current()
        answer = await self._send(url, where=where, body=body, token=token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            token = await self._tokens.renewed(token)
            answer = await self._send(url, where=where, body=body, token=token)
        error = refusal(answer, asked=asked, where=where, now=self._clock.now(), hide=(token,))
        if error is not None:
            raise error
        return answer

    async def _send(self, url: URL, *, where: str, body: bytes | None, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        if body is None:
            return await self._session.send("GET", url, headers=headers, where=where)
        return await self._session.send("POST", url, headers=headers | _JSON, where=where, form=body)
