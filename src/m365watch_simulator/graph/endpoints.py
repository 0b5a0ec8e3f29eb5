"""Graph over HTTP: audit log queries are made, asked how they stand and read; an application has credentials.

Source: api-contract 6; the envelope of errors is Graph's usual one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from m365watch_simulator.entra.tokens import (
    APPLICATION_ROLES,
    GRAPH_PATH,
    GRAPH_ROLES,
    HEALTH_ROLES,
    POST_ROLES,
)
from m365watch_simulator.feed.answers import RightAnswer, refusal_response, right_response
from m365watch_simulator.feed.refusals import Refusal, graph_refusal
from m365watch_simulator.graph.directory import READS_PEOPLE, decoded, roles_for, without_people
from m365watch_simulator.graph.searches import Search, page_of
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.scenario import Call
from m365watch_simulator.service.tenant import SimulatedTenant

_QUERIES = f"{GRAPH_PATH}/v1.0/security/auditLog/queries"
_APPLICATION = f"{GRAPH_PATH}/v1.0/applications(appId='{{client_id}}')"
_ANNOUNCEMENTS = f"{GRAPH_PATH}/v1.0/admin/serviceAnnouncement"
_DIRECTORY = (
    r"(?:users/|groups/|servicePrincipals|applications|directoryRoles|oauth2Permission|roleManagement/"
    r"|shares/|drives/)"
)
_CONDITION = re.compile(r"lastModifiedDateTime ge (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.ASCII)
_PAGE_PREFERRED = re.compile(r"odata\.maxpagesize=(\d{1,4})", re.ASCII)
_MEDIA_TYPE = "application/json; charset=utf-8"


class _NewQuery(msgspec.Struct):
    start: str = msgspec.field(name="filterStartDateTime")
    end: str = msgspec.field(name="filterEndDateTime")
    name: str = msgspec.field(default="", name="displayName")


class GraphService:
    """The audit log queries of all tenants; whose they are, the token says."""

    def __init__(self, tenants: list[SimulatedTenant], gate: Gate) -> None:
        """`gate` knows the same tenants."""
        self._tenants = tenants
        self._gate = gate

    def routes(self) -> list[web.AbstractRouteDef]:
        """The paths."""
        return [
            web.post(_QUERIES, self.make),
            web.get(f"{_QUERIES}/{{query}}", self.look),
            web.get(f"{_QUERIES}/{{query}}/records", self.records),
            web.get(_APPLICATION, self.application),
            web.get(f"{_ANNOUNCEMENTS}/{{kind:healthOverviews|issues|messages}}", self.announcements),
            web.route("*", f"{GRAPH_PATH}/v1.0/{{rest:{_DIRECTORY}.*}}", self.directory),
        ]

    async def make(self, request: web.Request) -> web.StreamResponse:
        """A new query."""

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            try:
                asked = msgspec.json.decode(await request.read(), type=_NewQuery)
                start, end = _instant(asked.start), _instant(asked.end)
            except (msgspec.DecodeError, ValueError, RecursionError) as error:
                raise graph_refusal(400, "BadRequest", f"The query cannot be read: {error}") from None
            if start >= end:
                raise graph_refusal(400, "BadRequest", "The start has to be before the end.")
            return _json(_standing(tenant.found.make(asked.name, start, end), "notStarted"))

        return await self._answered(request, answer, status=201)

    async def look(self, request: web.Request) -> web.StreamResponse:
        """How a query stands; it has succeeded once it was asked often enough."""

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            search = self._search(request, tenant)
            search.looks += 1
            if search.looks < tenant.behaviour.graph_looks:
                return _json(_standing(search, "notStarted" if search.looks == 1 else "running"))
            if search.found is None:
                await asyncio.to_thread(tenant.found.finish, search, self._gate.clock.now())
            return _json(_standing(search, "succeeded"))

        return await self._answered(request, answer)

    async def records(self, request: web.Request) -> web.StreamResponse:
        """A page of what the query found."""

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            search = self._search(request, tenant)
            if search.found is None:
                raise graph_refusal(400, "BadRequest", "The query has not succeeded.")
            token = request.query.get("$skiptoken", "0")
            if not token.isdecimal():
                raise graph_refusal(400, "BadRequest", "The skip token is not valid.")
            size = tenant.behaviour.graph_page_records
            page, following = page_of(search.found, first=int(token), size=size)
            head = b'{"@odata.context":"' + self._gate.url.encode() + b'/$metadata","value":['
            link = b""
            if following is not None:
                address = f"{self._gate.url}{_QUERIES}/{search.query}/records?$skiptoken={following}"
                link = b',"@odata.nextLink":' + msgspec.json.encode(address)
            return RightAnswer(head + b",".join(page) + b"]" + link + b"}", _MEDIA_TYPE)

        return await self._answered(request, answer)

    async def application(self, request: web.Request) -> web.StreamResponse:
        """What the tenant keeps of the application's credentials, and which others it has registered."""

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            asked = request.match_info["client_id"].lower()
            if asked != tenant.identity.client_id:
                return _json(tenant.directory.answer("GET", f"/applications(appId='{asked}')", {}, {}) or {})
            return _json(tenant.registration.document())

        return await self._answered(request, answer, call=Call.APPLICATION, roles=APPLICATION_ROLES)

    async def announcements(self, request: web.Request) -> web.StreamResponse:
        """A page of the service announcements of one kind."""
        kind = request.match_info["kind"]

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            condition, skip = request.query.get("$filter", ""), request.query.get("$skip", "0")
            named = _CONDITION.fullmatch(condition)
            if (
                condition and (named is None or not tenant.behaviour.takes_conditions)
            ) or not skip.isdecimal():
                raise graph_refusal(400, "BadRequest", "Invalid filter clause or skip.")
            since = _instant(named[1]) if named else None
            listed = tenant.announcements.listed(kind, self._gate.clock.now(), since=since)
            preferred = _PAGE_PREFERRED.search(request.headers.get("Prefer", ""))
            size = min(tenant.behaviour.graph_page_announcements, int(preferred[1]) if preferred else 100)
            page: dict[str, object] = {"@odata.context": f"{self._gate.url}/$metadata#{kind}"}
            if int(skip) + size < len(listed):
                query = request.rel_url.update_query({"$skip": str(int(skip) + size)})
                page["@odata.nextLink"] = f"{self._gate.url}{query}"
            return _json(page | {"value": listed[int(skip) : int(skip) + size]})

        roles = POST_ROLES if kind == "messages" else HEALTH_ROLES
        return await self._answered(request, answer, call=Call.ANNOUNCEMENTS, roles=roles)

    async def directory(self, request: web.Request) -> web.StreamResponse:
        """Accounts, mailboxes, applications, roles and files: read and changed."""
        path = decoded(request.rel_url.raw_path.removeprefix(f"{GRAPH_PATH}/v1.0"))

        async def answer(tenant: SimulatedTenant) -> RightAnswer:
            try:
                body = msgspec.json.decode(await request.read() or b"{}", type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise graph_refusal(400, "BadRequest", f"The body cannot be read: {error}") from None
            authorization = request.headers.get("Authorization", "")
            if besides := tenant.directory.roles_besides(request.method, path):
                tenant.tokens.require_graph(authorization, self._gate.clock.now(), roles=besides)
            found = tenant.directory.answer(request.method, path, request.query, body)
            if not tenant.tokens.carries(authorization, *READS_PEOPLE):
                found = without_people(found)
            return RightAnswer(b"", _MEDIA_TYPE) if found is None else _json(found)

        return await self._answered(request, answer, call=Call.GRAPH, roles=roles_for(request.method, path))

    async def _answered(
        self,
        request: web.Request,
        answer: Callable[[SimulatedTenant], Awaitable[RightAnswer]],
        *,
        status: int = 200,
        call: Call = Call.GRAPH,
        roles: frozenset[str] = GRAPH_ROLES,
    ) -> web.StreamResponse:
        """The response to a call; `answer` makes the right one for a token with one of `roles`."""
        self._gate.report.requests[str(call)] += 1
        await self._gate.wait()
        try:
            tenant = self._tenant(request.headers.get("Authorization", ""), roles)
            rule = self._gate.strike(tenant, call, tenant.identity.tenant_id)
            if rule is not None:
                right = RightAnswer(b"")
                return await self._gate.spoilt(request, rule, right, subject=tenant.identity.tenant_id)
            response = right_response(await answer(tenant))
            response.set_status(status)
        except Refusal as refused:
            return refusal_response(refused)
        return response

    def _tenant(self, authorization: str, roles: frozenset[str]) -> SimulatedTenant:
        """The tenant whose token it is.

        Raises: Refusal: 401 or 403.
        """
        owners = [tenant for tenant in self._tenants if tenant.tokens.issued(authorization)]
        for tenant in owners:
            tenant.tokens.require_graph(authorization, self._gate.clock.now(), roles=roles)
            return tenant
        raise graph_refusal(401, "InvalidAuthenticationToken", "Access token is empty.")

    def _search(self, request: web.Request, tenant: SimulatedTenant) -> Search:
        search = tenant.found.get(request.match_info["query"])
        if search is None:
            raise graph_refusal(404, "NotFound", "The query does not exist.")
        return search


def _standing(search: Search, status: str) -> dict[str, object]:
    return {
        "@odata.type": "#microsoft.graph.security.auditLogQuery",
        "id": search.query,
        "displayName": search.name,
        "filterStartDateTime": f"{search.start:%Y-%m-%dT%H:%M:%SZ}",
        "filterEndDateTime": f"{search.end:%Y-%m-%dT%H:%M:%SZ}",
        "status": status,
        "isRecordCountLimitExceeded": search.is_cut,
    }


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _json(document: object) -> RightAnswer:
    return RightAnswer(msgspec.json.encode(document), _MEDIA_TYPE)
