"""Graph of one tenant over HTTP, for an application that may change things.

Every request carries a token for the configured Graph host and goes to that host only. A token that is
refused is renewed once, and a call for which Graph has no time is sent again after the time that it names: it
did neither. A call that may have been done is never sent again by itself; one that only reads is, after a
fault of the server's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

import msgspec
from yarl import URL

from m365watch.auth.factory import make_credentials
from m365watch.auth.tokens import Tokens, TokenSource
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    ListTooLong,
    NeedsOperator,
    NothingThere,
    PermissionMissing,
    RetryLater,
    Throttled,
    TokenRefused,
    Unavailable,
)
from m365watch.config.models.settings import Settings
from m365watch.http.client import Answer, Session, open_session
from m365watch.http.retry_after import retry_after_s
from m365watch.response.execution.graph_permissions import cure_of_refusal, cure_otherwise
from m365watch.response.execution.step_actions import BY_POWERSHELL, Document
from m365watch.response.steps.step import GraphCall

PAGES_MAX = 100
"""Pages of one list; one with more may be going in circles."""
PATIENCE = 3
"""How often Graph may say that it has no time."""
WAIT_S = 5.0
"""Until it is asked again, where it does not say when."""
WAIT_MAX_S = 120.0
"""The longest that is waited for; what would take longer fails, and a person comes back."""
_FAULTS = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_TEXT_MAX = 200


class GraphClient:
    """Implements `carrying.Graph`."""

    def __init__(
        self,
        session: Session,
        graph_url: str,
        *,
        tokens: Tokens,
        clock: Clock,
        tenant: str,
        on_wait: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`tokens` are for the host of `graph_url`, and for no other; `on_wait` hears how long a wait is."""
        self._session = session
        self._root = f"{graph_url.rstrip('/')}/v1.0"
        self._tokens = tokens
        self._clock = clock
        self._on_wait = on_wait
        self._where = f"{tenant}/Graph"

    async def ask(self, call: GraphCall) -> Document:
        """The answer; empty for one without a body.

        Raises: RetryLater, NeedsOperator: nothing was changed, as far as is known.
        """
        body = None if call.body is None else msgspec.json.encode(call.body)
        return await self._ask(call.method, f"{self._root}{call.path}", body)

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        """What the list has, over its pages. Raises: ListTooLong: it has more than `most`; and as `ask`."""
        found: list[Document] = []
        url = f"{self._root}{path}"
        for _ in range(PAGES_MAX):
            page = await self._ask("GET", url, None)
            value = page.get("value")
            if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
                raise BadAnswer("Graph's answer is no list", where=self._where)
            found += value
            if len(found) > most:
                raise self._too_long(f"{most:,}")
            link = page.get("@odata.nextLink")
            if not link:
                return found
            if not isinstance(link, str) or not link.startswith(f"{self._root}/"):
                raise BadAnswer("the next page is not at Graph", where=self._where)
            url = link
        raise self._too_long(f"{PAGES_MAX} pages")

    def _too_long(self, bound: str) -> ListTooLong:
        return ListTooLong(
            f"more than {bound} are listed, and nothing was done", fix=BY_POWERSHELL, where=self._where
        )

    async def _ask(self, method: str, url: str, body: bytes | None) -> Document:
        answer = await self._answered(method, url, body)
        for _ in range(PATIENCE):
            after_s = retry_after_s(answer.headers, now=self._clock.now())
            again = answer.status == HTTPStatus.TOO_MANY_REQUESTS or (
                method == "GET" and answer.status in _FAULTS
            )
            if not again or (after_s or 0) > WAIT_MAX_S:
                break
            self._on_wait(after_s or WAIT_S)
            await self._clock.sleep(after_s or WAIT_S)
            answer = await self._answered(method, url, body)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(answer, method, url.removeprefix(self._root))
        if not answer.body.strip():
            return {}
        try:
            return msgspec.json.decode(answer.body, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadAnswer("Graph's answer is no JSON object", where=self._where) from None

    async def _answered(self, method: str, url: str, body: bytes | None) -> Answer:
        token = await self._token()
        answer = await self._send(method, url, body, token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            answer = await self._send(method, url, body, await self._token(refused=token))
        return answer

    async def _token(self, *, refused: str = "") -> str:
        """Raises: NeedsOperator, TokenRefused: there is none, and nothing was asked of Graph."""
        try:
            return await (self._tokens.renewed(refused) if refused else self._tokens.current())
        except RetryLater as error:
            raise TokenRefused(f"there is no token: {error.what}", where=error.where) from None

    async def _send(self, method: str, url: str, body: bytes | None, token: str) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._session.send(
            method, URL(url, encoded=True), headers=headers, where=self._where, form=body
        )

    def _refusal(self, answer: Answer, method: str, path: str) -> CollectorError:
        what = f"Graph answered HTTP {answer.status}{_told(answer.body)}"
        if answer.status == HTTPStatus.FORBIDDEN:
            return PermissionMissing(what, fix=cure_of_refusal(method, path), where=self._where)
        after_s = retry_after_s(answer.headers, now=self._clock.now())
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return TokenRefused(what, where=self._where)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            return Throttled(what, where=self._where, after_s=after_s)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(what, where=self._where, after_s=after_s)
        refusal = NothingThere if answer.status == HTTPStatus.NOT_FOUND else NeedsOperator
        return refusal(what, fix=cure_otherwise(method, path), where=self._where)


def _told(body: bytes) -> str:
    """Graph's own word for it and its message, on one line; empty where it says none."""
    try:
        error = msgspec.json.decode(body, type=dict[str, dict[str, object]])["error"]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return ""
    said = f" ({error.get('code')}: {error.get('message')})"[:_TEXT_MAX]
    return "".join(one if one.isprintable() else " " for one in said)


def own_apps(settings: Settings) -> frozenset[str]:
    """The ids of the applications that collect and respond, in lower case."""
    response = settings.detections.responder
    named = (*(one.client_id for one in settings.tenants), response.client_id if response else "")
    return frozenset(one.lower() for one in named if one)


@asynccontextmanager
async def open_graph(
    settings: Settings, tenant_id: str, *, clock: Clock, on_wait: Callable[[float], None] = lambda _: None
) -> AsyncIterator[GraphClient]:
    """Graph of the tenant; `on_wait` hears how long a wait is.

    Raises: NeedsOperator: there is no application for it, or no such tenant.
    """
    response = settings.detections.responder
    if response is None:
        raise NeedsOperator(
            "there is no application that may respond",
            fix="give detections.response.credentials; docs/respond.md names the permissions that it needs",
            where=str(settings.path),
        )
    tenant = next((one for one in settings.tenants if one.tenant_id == tenant_id), None)
    if tenant is None or not tenant.cloud.graph_url:
        raise NeedsOperator(
            f"the configuration names no Graph for the tenant {tenant_id}",
            fix="add the tenant to an input, or respond by hand",
            where=str(settings.path),
        )
    async with open_session() as opened:
        session = opened.over(tenant.network)
        credentials = make_credentials(
            response.client_id,
            response.credentials,
            session=session,
            clock=clock,
            cloud=tenant.cloud.name,
        )
        tokens = TokenSource(
            session,
            replace(tenant.cloud, audience=tenant.cloud.graph_url),
            tenant_id=tenant.tenant_id,
            credentials=credentials,
            clock=clock,
        )
        yield GraphClient(
            session,
            tenant.cloud.graph_url,
            tokens=tokens,
            clock=clock,
            tenant=str(tenant.tenant_id),
            on_wait=on_wait,
        )
