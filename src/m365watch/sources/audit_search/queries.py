"""Graph's audit log queries of one tenant over HTTP.

Every request carries a token for the configured Graph host and goes to that host only. A token that is
refused is renewed once; nothing else is tried again here.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock
from m365watch.common.model import TenantId, Window
from m365watch.http.session import Answer, Session
from m365watch.sources.audit_search.audit_search_client import (
    Asked,
    FoundPage,
    QueryStanding,
    parse_page,
    parse_query,
    refusal,
)
from m365watch.sources.audit_search.urls import GraphUrls

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
