"""Asks Graph which credentials an application has, with a token for Graph that goes to its host only.

A question costs nothing of the Management API's budget. That it is not permitted is an answer.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from yarl import URL

from m365watch.auth.registration import Registration, Standing, parse_application
from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, RetryLater, Throttled, TokenRefused, Unavailable
from m365watch.config.models.settings import TenantSettings
from m365watch.http.retry_after import retry_after_s
from m365watch.http.session import Answer, Session

ROLES = ("Application.Read.All", "Application.ReadWrite.OwnedBy")
"""Either of these permissions of Graph lets an application read its own registration."""


async def read_registration(
    session: Session, tenant: TenantSettings, *, tokens: Tokens, clock: Clock
) -> Registration:
    """What the tenant keeps of its application; `tokens` are for the Graph of its cloud, and for no other.

    Raises: RetryLater (Throttled, Unavailable, BadAnswer, TokenRefused), CredentialsRefused.
    """
    url, where = application_url(tenant), f"{tenant.tenant_id}/Graph application"
    token = await tokens.current()
    answer = await _send(session, url, token=token, where=where)
    if answer.status == HTTPStatus.UNAUTHORIZED:
        answer = await _send(session, url, token=await tokens.renewed(token), where=where)
    if answer.status == HTTPStatus.OK:
        return parse_application(answer.body, where=where)
    if answer.status == HTTPStatus.FORBIDDEN:
        return Registration(Standing.NOT_PERMITTED)
    if answer.status == HTTPStatus.NOT_FOUND:
        return Registration(Standing.NOT_HERE)
    raise _refusal(answer, where=where, clock=clock)


def application_url(tenant: TenantSettings) -> URL:
    """Where Graph tells what it keeps of the tenant's application."""
    root, client_id = tenant.cloud.graph_url.rstrip("/"), quote(tenant.client_id, safe="")
    path = f"{root}/v1.0/applications(appId='{client_id}')"
    return URL(f"{path}?$select=passwordCredentials,keyCredentials", encoded=True)


async def _send(session: Session, url: URL, *, token: str, where: str) -> Answer:
    return await session.send("GET", url, headers={"Authorization": f"Bearer {token}"}, where=where)


def _refusal(answer: Answer, *, where: str, clock: Clock) -> RetryLater:
    what = f"Graph answered HTTP {answer.status}"
    kinds: dict[int, type[RetryLater]] = {
        HTTPStatus.TOO_MANY_REQUESTS: Throttled,
        HTTPStatus.UNAUTHORIZED: TokenRefused,
        HTTPStatus.REQUEST_TIMEOUT: Unavailable,
    }
    other = Unavailable if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else BadAnswer
    after_s = retry_after_s(answer.headers, now=clock.now())
    return kinds.get(answer.status, other)(what, where=where, after_s=after_s)
