"""The calls of the token endpoint and of the Management Activity API over HTTP.

Source: api-contract 1 to 3 and 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

import msgspec
from aiohttp import web

from m365watch.common.model import ContentType
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.entra.consent import ANY_TENANT, ConsentPages
from m365watch_simulator.entra.forms import form_of
from m365watch_simulator.entra.tokens import TokenRequest, unknown_tenant
from m365watch_simulator.feed.answers import RightAnswer, accepts_gzip, refusal_response, right_response
from m365watch_simulator.feed.blobs import Blob
from m365watch_simulator.feed.listing import Span, next_page_url, requested_span, short_time
from m365watch_simulator.feed.refusals import Refusal, audit_never_enabled, refusal
from m365watch_simulator.feed.subscriptions import content_type_of
from m365watch_simulator.feed.webhooks import WebhookCalls
from m365watch_simulator.service.gate import GUID, NOTIFIED, Caller, Gate, lower_cased_query
from m365watch_simulator.service.scenario import Answer, Call, Rule
from m365watch_simulator.service.tenant import SimulatedTenant

_CONTENT_ID = re.compile(r"(\d{17})\d{6}\$\d{23}\$[a-z_]+\$[A-Za-z_]+\$[a-z]+\d{4}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*(;q=[01](\.\d{1,3})?)?", re.ASCII)
_SENSITIVE_TYPES = (
    "Bank Account Number",
    "Credit Card Number",
    "National Identity Number",
    "Passport Number",
)


class Service:
    """All tenants behind one address."""

    def __init__(self, tenants: list[SimulatedTenant], gate: Gate, webhooks: WebhookCalls) -> None:
        """`gate` and `webhooks` know the same tenants."""
        self._gate = gate
        self._webhooks = webhooks
        self._consents = ConsentPages(tenants, gate)
        self._by_id = {tenant.identity.tenant_id: tenant for tenant in tenants}
        self._by_domain = {tenant.identity.domain: tenant for tenant in tenants}

    def routes(self) -> list[web.AbstractRouteDef]:
        """Every path of the service."""
        routes: list[web.AbstractRouteDef] = [
            web.post("/{tenant}/oauth2/token", self.token),
            web.post("/{tenant}/oauth2/v2.0/token", self.token),
            *self._consents.routes(),
        ]
        for version in ("v1.0", "v1"):
            feed = f"/api/{version}/{{tenant}}/activity/feed"
            routes += [
                web.get(f"{feed}/audit/{{content_id}}", self.fetch),
                web.get(f"{feed}/subscriptions/content", self.listing),
                web.get(f"{feed}/subscriptions/list", self.subscriptions),
                web.get(f"{feed}/subscriptions/notifications", self.notifications),
                web.post(f"{feed}/subscriptions/start", self.start),
                web.post(f"{feed}/subscriptions/stop", self.stop),
                web.get(f"{feed}/resources/dlpSensitiveTypes", self.sensitive_types),
            ]
        return routes

    async def token(self, request: web.Request) -> web.StreamResponse:
        """A token, or Entra's refusal."""
        self._gate.report.requests["token"] += 1
        await self._gate.wait()
        now = self._gate.clock.now()
        name = request.match_info["tenant"].lower()
        form = await form_of(request)
        tenant = self._by_id.get(name) or self._by_domain.get(name)
        tenant = tenant or self._consents.tenant_of_code(name, form.get("code", ""))
        if tenant is None:
            return refusal_response(_no_tenant(name, form, now))
        asked = TokenRequest(
            form=form,
            authorization=request.headers.get("Authorization", ""),
            version=2 if request.path.endswith("/v2.0/token") else 1,
        )
        rule = self._gate.strike(tenant, Call.TOKEN, tenant.identity.tenant_id)
        try:
            right = RightAnswer(_issue(tenant, asked, rule, now))
        except Refusal as refused:
            return refusal_response(refused)
        if rule is None:
            return right_response(right)
        return await self._gate.spoilt(request, rule, right, subject=tenant.identity.tenant_id)

    async def start(self, request: web.Request) -> web.StreamResponse:
        """Enable a subscription."""

        async def answer(caller: Caller) -> RightAnswer:
            spelling = _content_type_text(caller.query)
            _require_audit(caller.tenant, content_type_of(spelling))
            webhook = await self._webhooks.validated(await request.read())
            started = caller.tenant.subscriptions.start(spelling, caller.now, webhook)
            shown = webhook and webhook.document(caller.now)
            return _json({"contentType": started, "status": "enabled", "webhook": shown})

        return await self._gate.answered(request, Call.START, answer)

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """End a subscription."""

        async def answer(caller: Caller) -> RightAnswer:
            caller.tenant.subscriptions.stop(_content_type_text(caller.query), caller.now)
            return RightAnswer(b"")

        return await self._gate.answered(request, "stop", answer)

    async def subscriptions(self, request: web.Request) -> web.StreamResponse:
        """The subscriptions there are."""

        async def answer(caller: Caller) -> RightAnswer:
            return _json(caller.tenant.subscriptions.listed(caller.now))

        return await self._gate.answered(request, Call.SUBSCRIPTIONS, answer)

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """One page of the content of a window."""
        call = Call.PAGE if "nextpage" in lower_cased_query(request) else Call.LIST
        return await self._gate.answered(request, call, self._page)

    async def _page(self, caller: Caller) -> RightAnswer:
        tenant, now = caller.tenant, caller.now
        content_type, span = _listed_span(caller)
        position = tenant.pages.first_position(caller.query.get("nextpage"), span, feed=content_type, now=now)
        blobs = await tenant.blobs_between(content_type, span, now=now)
        rest = [blob for blob in blobs if blob.position >= position]
        page, following = tenant.pages.page(rest, span, feed=content_type, now=now)
        headers = {}
        if following is not None:
            spelling = caller.query["contenttype"]
            headers["NextPageUri"] = next_page_url(self._feed_url(tenant), spelling, span, following)
        return _json([self._listing_of(tenant, blob) for blob in page], headers)

    async def notifications(self, request: web.Request) -> web.StreamResponse:
        """The notifications of a window: the same blobs under longer ids, on one page."""

        async def answer(caller: Caller) -> RightAnswer:
            content_type, span = _listed_span(caller)
            blobs = await caller.tenant.blobs_between(content_type, span, now=caller.now)
            return _json([self._notification_of(caller.tenant, blob) for blob in blobs])

        return await self._gate.answered(request, "notifications", answer)

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """The body of a blob."""

        async def answer(caller: Caller) -> RightAnswer:
            blob = _blob(caller, request.match_info["content_id"])
            media_type = caller.tenant.behaviour.blob_media_type
            if caller.rule is not None:
                return RightAnswer(blob.body(), media_type, elements=tuple(blob.elements()))
            if accepts_gzip(request):
                return RightAnswer(blob.payload, media_type, {"Content-Encoding": "gzip"})
            return RightAnswer(blob.body(), media_type)

        return await self._gate.answered(request, Call.FETCH, answer)

    async def sensitive_types(self, request: web.Request) -> web.StreamResponse:
        """The names of sensitive information types."""

        async def answer(_: Caller) -> RightAnswer:
            _require_one_language(request.headers.get("Accept-Language", "en-US"))
            return _json([{"id": str(uuid5(NAMESPACE_URL, name)), "name": name} for name in _SENSITIVE_TYPES])

        return await self._gate.answered(request, "dlp_types", answer)

    def _feed_url(self, tenant: SimulatedTenant) -> str:
        return f"{self._gate.url}/api/v1.0/{tenant.identity.tenant_id}/activity/feed"

    def _listing_of(self, tenant: SimulatedTenant, blob: Blob) -> dict[str, str]:
        return {
            "contentUri": f"{self._feed_url(tenant)}/audit/{blob.content_id}",
            "contentId": blob.content_id,
            "contentType": str(blob.content_type),
            "contentCreated": short_time(blob.created_at),
            "contentExpiration": short_time(tenant.expires_at(blob)),
        }

    def _notification_of(self, tenant: SimulatedTenant, blob: Blob) -> dict[str, str]:
        """Source: api-contract 2.6: the ids have a segment more than in listings."""
        listing = self._listing_of(tenant, blob)
        listing["contentId"] += NOTIFIED
        listing["contentUri"] += NOTIFIED
        return listing | {"notificationSent": listing["contentCreated"], "notificationStatus": "Succeeded"}


def _no_tenant(name: str, form: Mapping[str, str], now: datetime) -> Refusal:
    """Why no tenant of that name hands out a token."""
    if name in ANY_TENANT and "code" in form:
        return aadsts(70000, now=now)
    return unknown_tenant(name, now=now, is_guid=GUID.fullmatch(name) is not None)


def _issue(tenant: SimulatedTenant, asked: TokenRequest, rule: Rule | None, now: datetime) -> bytes:
    """The token answer as `rule` lets it be.

    Raises: Refusal: one of Entra's.
    """
    if rule is None:
        return tenant.tokens.issue(asked, now=now)
    if rule.answer is Answer.AADSTS:
        raise aadsts(rule.code, tenant.identity.client_id, now=now)
    bare = rule.answer is Answer.TOKEN_WITHOUT_ROLES
    life_s = max(1, round(rule.duration_s)) if rule.answer is Answer.SHORT_TOKEN else None
    return tenant.tokens.issue(asked, now=now, life_s=life_s, bare=bare)


def _listed_span(caller: Caller) -> tuple[ContentType, Span]:
    """What a listing is about, once it is allowed.

    Raises: Refusal: the tenant has no audit, no such subscription, or the window is not allowed.
    """
    spelling = _content_type_text(caller.query)
    _require_audit(caller.tenant, content_type_of(spelling))
    content_type = caller.tenant.subscriptions.require(spelling, caller.now)
    slack_s = caller.tenant.behaviour.lookback_slack_s
    return content_type, requested_span(caller.query, now=caller.now, slack_s=slack_s)


def _blob(caller: Caller, content_id: str) -> Blob:
    """The blob that is asked for.

    Raises: Refusal: AF20050, AF20051, AF20052, or no subscription.
    """
    content_id = content_id.removesuffix(NOTIFIED)
    match = _CONTENT_ID.fullmatch(content_id)
    created_at = None if match is None else _instant_of(match[1])
    if created_at is None:
        raise refusal("AF20052", content_id)
    publication = caller.tenant.publication
    blob = publication.find(content_id)
    if blob is None:
        publication.make(created_at, created_at + timedelta(milliseconds=1))
        blob = publication.find(content_id)
    if blob is None or blob.appears_at > caller.now:
        raise refusal("AF20050", content_id)
    caller.tenant.subscriptions.require(blob.content_type, caller.now)
    if caller.now >= caller.tenant.expires_at(blob):
        raise refusal("AF20051", content_id)
    return blob


def _instant_of(digits: str) -> datetime | None:
    try:
        return datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(
            tzinfo=UTC, microsecond=int(digits[14:17]) * 1000
        )
    except ValueError:
        return None


def _content_type_text(query: Mapping[str, str]) -> str:
    spelling = query.get("contenttype", "")
    if not spelling:
        raise refusal("AF20001", "contentType")
    return spelling


def _require_audit(tenant: SimulatedTenant, content_type: ContentType) -> None:
    if not tenant.behaviour.audit_enabled:
        raise audit_never_enabled(tenant.identity.tenant_id, content_type)


def _require_one_language(header: str) -> None:
    languages = [language.strip() for language in header.split(",")]
    if any(_LANGUAGE.fullmatch(language) is None for language in languages):
        raise refusal("AF20054")
    if len(languages) > 1:
        raise refusal("AF20053")


def _json(document: object, headers: dict[str, str] | None = None) -> RightAnswer:
    return RightAnswer(msgspec.json.encode(document), headers=headers or {})
