"""The pages at which an administrator consents, with an administrator who decides as the scenario says.

A browser is needed on neither side: each page answers with the redirect that follows a decision.

Source: api-contract 1.8. An error of the request itself is shown on a page and never redirected, since
nobody vouches for the address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from html import escape
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from m365watch.common.urls import split_url
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.feed.answers import refusal_response
from m365watch_simulator.feed.refusals import Refusal
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.tenant import SimulatedTenant

ANY_TENANT = frozenset({"common", "organizations"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class ConsentPages:
    """The pages of all tenants."""

    def __init__(self, tenants: list[SimulatedTenant], gate: Gate) -> None:
        """`gate` knows the same tenants."""
        self._tenants = tenants
        self._gate = gate

    def routes(self) -> list[web.AbstractRouteDef]:
        """The paths of the three pages."""
        return [
            web.get("/{tenant}/adminconsent", self.admin_consent),
            web.get("/{tenant}/oauth2/authorize", self.authorize),
            web.get("/{tenant}/oauth2/v2.0/authorize", self.authorize),
        ]

    def tenant_of_code(self, name: str, code: str) -> SimulatedTenant | None:
        """Whose code it is, where a token is asked for under no tenant's own name."""
        if name not in ANY_TENANT:
            return None
        return next((tenant for tenant in self._tenants if tenant.tokens.codes.knows(code)), None)

    async def admin_consent(self, request: web.Request) -> web.StreamResponse:
        """The page that asks for consent and nothing else."""
        self._gate.report.requests["admin_consent"] += 1
        await self._gate.wait()
        try:
            tenant = self._tenant(request)
            redirect_uri = self._redirect_uri(request, tenant)
        except Refusal as refused:
            return _page(refused)
        answer = self._decide(tenant)
        if not answer:
            answer = {"tenant": tenant.identity.tenant_id, "admin_consent": "True"}
        return _redirect(redirect_uri, answer, request.query)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """The page that asks for a sign-in and for consent, and brings a code."""
        self._gate.report.requests["authorize"] += 1
        await self._gate.wait()
        now = self._gate.clock.now()
        version = 2 if request.path.endswith("/v2.0/authorize") else 1
        try:
            tenant = self._tenant(request)
            redirect_uri = self._redirect_uri(request, tenant)
        except Refusal as refused:
            return _page(refused)
        try:
            self._require_code_request(request.query, version, now)
        except Refusal as refused:
            return _redirect(redirect_uri, _error_of(refused), request.query)
        answer = self._decide(tenant)
        if not answer:
            code = tenant.tokens.codes.issue(
                redirect_uri=redirect_uri,
                challenge=request.query.get("code_challenge", ""),
                version=version,
                now=now,
            )
            answer = {"code": code, "session_state": "00000000-0000-4000-8000-000000000000"}
        return _redirect(redirect_uri, answer, request.query)

    def _tenant(self, request: web.Request) -> SimulatedTenant:
        """The tenant that the administrator belongs to; with `common`, one that lacks the application.

        `domain_hint` chooses among several tenants of one application.
        """
        now = self._gate.clock.now()
        name = request.match_info["tenant"].lower()
        client_id = request.query.get("client_id", "").lower()
        if not client_id:
            raise aadsts(900144, "client_id", now=now)
        named = [one for one in self._tenants if name in (one.identity.tenant_id, one.identity.domain)]
        if name not in ANY_TENANT and not named:
            raise aadsts(90002, name, now=now)
        theirs = [one for one in named or self._tenants if one.identity.client_id == client_id]
        hint = request.query.get("domain_hint", "").lower()
        theirs = [one for one in theirs if not hint or one.identity.domain == hint]
        if not theirs:
            raise aadsts(700016, client_id, now=now)
        return next((one for one in theirs if not one.tokens.consent.is_given(now)), theirs[0])

    def _redirect_uri(self, request: web.Request, tenant: SimulatedTenant) -> str:
        """The address to go back to, if it is registered."""
        uri = request.query.get("redirect_uri", "")
        registered = tenant.behaviour.redirect_uris
        is_known = uri in registered if registered else split_url(uri).hostname in _LOOPBACK
        if not is_known:
            raise aadsts(50011, tenant.identity.client_id, now=self._gate.clock.now())
        return uri

    def _require_code_request(self, query: Mapping[str, str], version: int, now: datetime) -> None:
        if query.get("response_type") != "code":
            raise aadsts(900144, "response_type", now=now)
        wanted = "resource" if version == 1 else "scope"
        if not query.get(wanted):
            raise aadsts(900144, wanted, now=now)
        if "code_challenge" in query and not (
            query.get("code_challenge_method") == "S256" and _CHALLENGE.fullmatch(query["code_challenge"])
        ):
            raise aadsts(501491, now=now)

    def _decide(self, tenant: SimulatedTenant) -> dict[str, str]:
        """Let the administrator decide: nothing for yes, or the error that goes back."""
        now = self._gate.clock.now()
        match tenant.behaviour.consent_answer:
            case "granted":
                tenant.tokens.consent.give(now)
                return {}
            case "canceled":
                text = "The administrator pressed Cancel."
                return {"error": "permission_denied", "error_description": text}
            case "declined":
                return _error_of(aadsts(65004, now=now))
            case "no_admin":
                return _error_of(aadsts(90094, now=now))


def _error_of(refused: Refusal) -> dict[str, str]:
    said = msgspec.json.decode(refused.body, type=dict[str, object])
    return {name: str(said[name]) for name in ("error", "error_description")}


def _redirect(uri: str, answer: Mapping[str, str], query: Mapping[str, str]) -> web.Response:
    state = {"state": query["state"]} if "state" in query else {}
    return web.Response(status=302, headers={"Location": f"{uri}?{urlencode({**answer, **state})}"})


def _page(refused: Refusal) -> web.StreamResponse:
    """What is wrong, on Entra's own page."""
    text = _error_of(refused)["error_description"].partition("\r\n")[0]
    body = f"<html><head><title>Sign in</title></head><body><p>{escape(text)}</p></body></html>"
    return refusal_response(Refusal(refused.status, body.encode(), media_type="text/html; charset=utf-8"))
