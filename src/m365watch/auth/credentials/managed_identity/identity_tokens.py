"""The identity that Azure gives this machine: tokens from IMDS or App Service, for itself or to vouch with.

Source: Azure's pages on managed identities: "How to use managed identities ... to acquire an access token"
(IMDS: header `Metadata: true`, again after 404, 410, 429 and 5xx), "... for App Service and Azure
Functions" (header X-IDENTITY-HEADER, api-version 2019-08-01), "Configure an application to trust a managed
identity" (audiences); api-contract 1.9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from yarl import URL

from m365watch.auth.credentials.managed_identity.spec import ManagedIdentitySettings
from m365watch.auth.factory import ASSERTION_TYPE
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, CredentialsRefused, RetryLater, Throttled, Unavailable
from m365watch.common.text import one_line
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s

IMDS_PATH = "/metadata/identity/oauth2/token"
IMDS_VERSION = "2018-02-01"
APP_SERVICE_VERSION = "2019-08-01"

TRIES = 5
PAUSE_S = 1.0
"""Before the second try; each further pause is twice as long."""
GONE_S = 70.0
"""How long IMDS may be away while it is updated (410), says Azure's page."""

EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
EXCHANGE_AUDIENCES = {
    "gcc-high": "api://AzureADTokenExchangeUSGov",
    "dod": "api://AzureADTokenExchangeUSGov",
    "china": "api://AzureADTokenExchangeChina",
}
"""Whom an identity's token is for when it vouches, where that is not `EXCHANGE_AUDIENCE`."""

REUSE_S = 300.0
"""How long a token that vouches is used again: one machine may read many tenants, and IMDS is throttled."""

_NO_IDENTITY = "give this machine the identity that credentials.managed_identity names"
_NOT_HERE = "is this a machine of Azure's, and has it an identity?"


class IdentityTokens:
    """Tokens of the identity itself; a `TokenGiver`."""

    def __init__(self, settings: ManagedIdentitySettings, *, session: Session, clock: Clock) -> None:
        """Nothing is asked for yet."""
        self.name = settings.name
        self._settings = settings
        self._session = session
        self._clock = clock

    async def token(self, audience: str) -> Mapping[str, object]:
        """The answer with the token for `audience`, in the token endpoint's form.

        Raises: CredentialsRefused: the machine has no such identity; RetryLater: no answer.
        """
        for number in range(TRIES):
            answer = await self._send(audience)
            if answer.status == HTTPStatus.OK:
                return self._said(answer)
            error = self._error(answer)
            if not isinstance(error, RetryLater) or number == TRIES - 1:
                raise error
            await self._clock.sleep(min(max(error.after_s or 0.0, PAUSE_S * 2.0**number), GONE_S))
        raise AssertionError("unreachable")

    async def _send(self, audience: str) -> Answer:
        endpoint = self._settings.endpoint
        query = {"resource": audience}
        if isinstance(self._settings.managed_identity, str):
            query["client_id"] = self._settings.managed_identity
        if endpoint.header is not None:
            url = f"{endpoint.url}?{urlencode({'api-version': APP_SERVICE_VERSION, **query})}"
            headers = {"X-IDENTITY-HEADER": endpoint.header.reveal()}
        else:
            url = f"{endpoint.url}{IMDS_PATH}?{urlencode({'api-version': IMDS_VERSION, **query})}"
            headers = {"Metadata": "true"}
        failed: Unavailable
        try:
            return await self._session.send("GET", URL(url, encoded=True), headers=headers, where="")
        except RetryLater as error:
            failed = Unavailable(f"the managed identity's endpoint: {error.what}; {_NOT_HERE}")
        # Out here it does not hold the frames below, and with them the request.
        raise failed

    def _said(self, answer: Answer) -> Mapping[str, object]:
        try:
            said = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            said = None
        if not isinstance(said, dict) or not isinstance(said.get("access_token"), str):
            raise BadAnswer("the managed identity's endpoint answered without a token")
        return said

    def _error(self, answer: Answer) -> CredentialsRefused | RetryLater:
        status = answer.status
        after_s = retry_after_s(answer.headers, now=self._clock.now())
        what = f"the managed identity's endpoint answered HTTP {status}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return Throttled(what, after_s=after_s)
        passing = status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.REQUEST_TIMEOUT)
        if passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(what, after_s=after_s)
        header = self._settings.endpoint.header
        words = _words(answer.body, hide=(header.reveal(),) if header is not None else ())
        return CredentialsRefused(f"{what}{words}", fix=_NO_IDENTITY)


def _words(body: bytes, *, hide: tuple[str, ...]) -> str:
    """What the endpoint says is wrong, quoted; empty where it says nothing readable."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    text = (said.get("error_description") or said.get("message")) if isinstance(said, dict) else None
    return f' ("{one_line(text, hide=hide)}")' if isinstance(text, str) and text else ""


class _Vouching(NamedTuple):
    token: str
    asked_at_s: float


class IdentityAssertion:
    """The identity's token as proof of an application that trusts it; a `Proof`."""

    def __init__(self, client_id: str, tokens: IdentityTokens, *, clock: Clock, cloud: str = "") -> None:
        """`client_id` is the application's, `cloud` the name of the cloud that it lives in."""
        self.client_id = client_id
        self.name = tokens.name
        self._tokens = tokens
        self._clock = clock
        self._audience = EXCHANGE_AUDIENCES.get(cloud, EXCHANGE_AUDIENCE)
        self._lock = asyncio.Lock()
        self._held: _Vouching | None = None

    async def proof(self, token_url: str) -> Mapping[str, str]:  # noqa: ARG002 - its audience is fixed
        """The fields with the identity's token; one is used for some minutes.

        Raises: CredentialsRefused, RetryLater: the identity has none.
        """
        async with self._lock:
            now_s = self._clock.monotonic_s()
            if self._held is None or now_s - self._held.asked_at_s >= REUSE_S:
                said = await self._tokens.token(self._audience)
                self._held = _Vouching(str(said["access_token"]), now_s)
            return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self._held.token}
