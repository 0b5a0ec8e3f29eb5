"""Webhooks as the service has them: validated at the start, told of each blob, disabled after failures.

Source: api-contract 2.1, 2.3 and 2.6. The pauses between tries, and how many failures disable a webhook, are
not documented. Certificates are not verified here, and plain http is taken on loopback, unlike at Microsoft.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
import msgspec

from m365watch.common.model import ContentType
from m365watch.common.urls import split_url
from m365watch_simulator.feed.blobs import SPAN_MAX, Blob
from m365watch_simulator.feed.listing import Span, short_time
from m365watch_simulator.feed.refusals import refusal
from m365watch_simulator.feed.subscriptions import Webhook
from m365watch_simulator.service.gate import NOTIFIED, Gate
from m365watch_simulator.service.scenario import Answer, Call
from m365watch_simulator.service.tenant import SimulatedTenant

TICK_S = 0.25
"""How often it is seen what has come out."""
TRIES = 3
_ANSWER_S = 10.0
_BACK = timedelta(hours=1)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass
class WebhookCalls:
    """The calls to the webhooks of all tenants."""

    tenants: list[SimulatedTenant]
    gate: Gate
    _session: aiohttp.ClientSession | None = None
    _told_to: dict[tuple[str, ContentType], datetime] = field(default_factory=dict)
    _late: set[asyncio.Task[None]] = field(default_factory=set)

    async def validated(self, body: bytes) -> Webhook | None:
        """The webhook that a start asks for, once it has answered; None where the start names none.

        Raises: Refusal: AF20001, AF20021.
        """
        if not body.strip():
            return None
        try:
            asked = msgspec.json.decode(body, type=dict[str, dict[str, object] | None]).get("webhook")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise refusal("AF20001", "webhook") from None
        if not asked:
            return None
        address, auth_id = str(asked.get("address") or ""), str(asked.get("authId") or "")
        parts = split_url(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise refusal("AF20021", address, "The address must begin with HTTPS.")
        code = str(uuid.uuid4())
        headers = {"Webhook-ValidationCode": code}
        webhook = Webhook(address, auth_id, str(asked.get("expiration") or ""))
        self.gate.report.requests["webhook validation"] += 1
        if await self._post(webhook, {"validationCode": code}, headers) != 200:
            raise refusal("AF20021", address, "The endpoint did not return HTTP 200.")
        return webhook

    async def run(self) -> None:
        """Notify of what comes out, until cancelled."""
        while True:
            # Not by the clock, which a test may let stand still or jump.
            await asyncio.sleep(TICK_S)
            for tenant in self.tenants:
                for content_type, webhook in tenant.subscriptions.webhooks(self.gate.clock.now()):
                    await self._notify_of_new(tenant, content_type, webhook)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._late:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _notify_of_new(
        self, tenant: SimulatedTenant, content_type: ContentType, webhook: Webhook
    ) -> None:
        now = self.gate.clock.now()
        key = (tenant.identity.tenant_id, content_type)
        told_to = self._told_to.setdefault(key, now)
        self._told_to[key] = now
        blobs = await tenant.blobs_between(content_type, Span(now - _BACK - SPAN_MAX, now), now=now)
        for blob in blobs:
            if told_to < blob.appears_at <= now and not blob.is_cut:
                await self._notify(tenant, webhook, blob)

    async def _notify(self, tenant: SimulatedTenant, webhook: Webhook, blob: Blob) -> None:
        rule = self.gate.strike(tenant, Call.NOTIFY, blob.content_id, blob.content_type)
        answer = None if rule is None else rule.answer
        if answer is Answer.LOST_NOTIFICATION:
            return
        if rule is not None and answer is Answer.LATE_NOTIFICATION:
            task = asyncio.create_task(self._send_late(tenant, webhook, blob, rule.after_s))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return
        for _ in range(2 if answer is Answer.DOUBLED_NOTIFICATION else 1):
            await self._send(tenant, webhook, blob)

    async def _send_late(self, tenant: SimulatedTenant, webhook: Webhook, blob: Blob, after_s: float) -> None:
        await self.gate.clock.sleep(after_s)
        await self._send(tenant, webhook, blob)

    async def _send(self, tenant: SimulatedTenant, webhook: Webhook, blob: Blob) -> None:
        """Tries with growing pauses; after enough notifications in vain the webhook is disabled."""
        document = [self._document(tenant, blob)]
        for number in range(TRIES):
            self.gate.report.requests["webhook notification"] += 1
            if await self._post(webhook, document, {}) == 200:
                webhook.failures = 0
                return
            await self.gate.clock.sleep(2.0**number)
        webhook.failures += 1
        if webhook.failures >= tenant.behaviour.webhook_failures_max:
            webhook.status = "disabled"

    def _document(self, tenant: SimulatedTenant, blob: Blob) -> dict[str, str]:
        name = f"{blob.content_id}{NOTIFIED}"
        root = f"{self.gate.url}/api/v1.0/{tenant.identity.tenant_id}/activity/feed"
        whose = {"tenantId": tenant.identity.tenant_id, "clientId": tenant.identity.client_id}
        return (whose if tenant.behaviour.notifications_name_tenants else {}) | {
            "contentType": str(blob.content_type),
            "contentId": name,
            "contentUri": f"{root}/audit/{name}",
            "contentCreated": short_time(self.gate.clock.now()),
            "contentExpiration": short_time(tenant.expires_at(blob)),
        }

    async def _post(self, webhook: Webhook, document: object, headers: dict[str, str]) -> int:
        """The status of the answer; 0 where there is none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_S))
        usual = {"Content-Type": "application/json; charset=utf-8", "Webhook-AuthID": webhook.auth_id}
        with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            body = msgspec.json.encode(document)
            async with self._session.post(
                webhook.address, data=body, headers=usual | headers, ssl=False
            ) as answer:
                return answer.status
        return 0
