"""A bearer token for one tenant, renewed before it ends; only ever in memory."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from yarl import URL

from m365watch.auth.refusals import is_refusal, token_refusal
from m365watch.auth.rotation import CredentialFailed, Rotation, is_of_credential
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, CollectorError, RetryLater, Throttled, Unavailable
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s
from m365watch.registry.credential_specs import Credential, Proof, TokenGiver

MARGIN_S = 300.0
"""A token is renewed this long before its end, or a tenth of its life before where that is later."""

LIFE_S_UNKNOWN = 3_600.0
LIFE_S_MIN = 1.0
LIFE_S_MAX = 86_400.0
"""A lifetime that is missing or absurd is brought within these."""

PAUSE_S = 10.0
"""After a failed renewal a token that is still good is used this long before the next try."""

T = TypeVar("T")

_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Tokens(Protocol):
    """Where a call to the service gets its bearer token from."""

    async def current(self) -> str:
        """A token that has not ended."""
        ...

    async def renewed(self, refused: str) -> str:
        """Another token than `refused`, which the service did not take."""
        ...


class Endpoint(Enum):
    """The two token endpoints; some clouds and emulators have only one of them."""

    V2 = "oauth2/v2.0/token"
    V1 = "oauth2/token"


class _NoEndpoint(Exception):
    """There is no token endpoint at this address; carries what that amounts to."""

    def __init__(self, error: CollectorError) -> None:
        super().__init__()
        self.error = error


class TokenSource:
    """The token of one tenant and application: cached, asked for by one caller at a time.

    Every call may raise CredentialsRefused, or RetryLater (Throttled, Unavailable, BadAnswer).
    """

    def __init__(
        self,
        session: Session,
        cloud: Cloud,
        *,
        tenant_id: TenantId,
        credentials: Sequence[Credential] | Rotation,
        clock: Clock,
        on_token: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Each of `credentials`, at least one, proves the application to the login host of `cloud`.

        They are tried in their order, what worked last first; a `Rotation` is shared by several tenants.
        `on_token` gets each new token.
        """
        self._session = session
        self._cloud = cloud
        self._tenant_id = tenant_id
        self._rotation = credentials if isinstance(credentials, Rotation) else Rotation(credentials)
        self._clock = clock
        self._on_token = on_token
        self._where = f"{tenant_id}/token"
        self._known = _endpoints_of(cloud)
        self._endpoints = self._known
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_at_s = -math.inf
        self._ends_at_s = -math.inf
        self._is_refused = False
        self._failures = 0
        self._failure: CollectorError | None = None

    async def current(self) -> str:
        """A token that has not ended; one that is about to is renewed first."""
        if self._clock.monotonic_s() < self._renew_at_s:
            return self._token
        return await self._renew()

    async def renewed(self, refused: str) -> str:
        """Another token than `refused`, which the service did not take."""
        if refused == self._token:
            self._renew_at_s = self._ends_at_s = -math.inf
        return await self.current()

    async def _renew(self) -> str:
        """One caller asks, the others take its answer, be it a token or an error."""
        failures = self._failures
        async with self._lock:
            if self._clock.monotonic_s() < self._renew_at_s:
                return self._token
            if self._failure is not None and self._failures != failures:
                raise self._failure.with_traceback(None)
            try:
                await self._ask()
            except CollectorError as error:
                if not self._may_wait(error):
                    self._failures += 1
                    self._failure = error
                    raise
            return self._token

    def _may_wait(self, error: CollectorError) -> bool:
        """Whether the old token outlives the failure; if so, the next try is put off.

        A credential that is not to be had just now, such as a file that is being exchanged, is one as well; a
        refusal of Entra's is not, or it would be asked for every few seconds.
        """
        now_s = self._clock.monotonic_s()
        passes = isinstance(error, RetryLater) or not self._is_refused
        if not passes or now_s >= self._ends_at_s:
            return False
        self._renew_at_s = min(now_s + PAUSE_S, self._ends_at_s)
        return True

    async def _ask(self) -> None:
        """Fetch a token with the credential that worked last; where it is refused, with another."""
        self._is_refused = False
        await self._rotation.use(self._ask_with, where=self._where)

    async def _ask_with(self, credential: Credential) -> None:
        if isinstance(credential, TokenGiver):
            asked_at_s = self._clock.monotonic_s()
            self._keep(await self._of_credential(credential.token(self._cloud.audience)), asked_at_s)
            return
        missing: _NoEndpoint | None = None
        for endpoint in self._endpoints:
            try:
                await self._fetch(endpoint, credential)
            except _NoEndpoint as none_there:
                missing = missing or none_there
            else:
                self._endpoints = (endpoint, *(other for other in self._known if other is not endpoint))
                return
        if missing is not None:
            raise missing.error

    async def _of_credential(self, asked: Awaitable[Mapping[str, T]]) -> Mapping[str, T]:
        """What the credential gives; where it fails, that is no failure of Entra's."""
        failed: CredentialFailed
        try:
            return await asked
        except CollectorError as error:
            error.where = self._where
            failed = CredentialFailed(error.with_traceback(None))
        raise failed

    async def _fetch(self, endpoint: Endpoint, credential: Proof) -> None:
        """Ask the endpoint that worked last, v2 at first; for want of it, the other."""
        url = f"{self._cloud.login_url}/{quote(self._tenant_id, safe='')}/{endpoint.value}"
        proof = await self._of_credential(credential.proof(url))
        form = {"grant_type": "client_credentials", "client_id": credential.client_id, **proof}
        if endpoint is Endpoint.V2:
            form["scope"] = f"{self._cloud.audience}/.default"
        else:
            form["resource"] = self._cloud.audience
        asked_at_s = self._clock.monotonic_s()
        answer = await self._session.send(
            "POST", URL(url, encoded=True), headers=FORM, form=urlencode(form).encode(), where=self._where
        )
        said = _decoded(answer.body)
        if answer.status == HTTPStatus.OK and isinstance(said, dict) and "access_token" in said:
            self._keep(said, asked_at_s)
        else:
            self._refuse(answer, said, hide=tuple(proof.values()), name=credential.name)

    def _keep(self, said: Mapping[str, object], asked_at_s: float) -> None:
        token = said["access_token"]
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise BadAnswer("the token endpoint's token is no token", where=self._where)
        life_s = _life_s(said, now_s=self._clock.now().timestamp())
        self._token = token
        self._ends_at_s = asked_at_s + life_s
        self._renew_at_s = self._ends_at_s - min(MARGIN_S, life_s / 10)
        self._on_token(token)

    def _refuse(self, answer: Answer, said: object, *, hide: tuple[str, ...], name: str) -> None:
        """Raise what an answer without a token amounts to; `name` is the key of the credential."""
        after_s = retry_after_s(answer.headers, now=self._clock.now())
        error = None
        if isinstance(said, dict) and is_refusal(said):
            error = token_refusal(said, where=self._where, hide=hide, name=name)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS and not isinstance(error, Throttled):
            error = Throttled("the token endpoint got too many requests", where=self._where)
        if error is not None:
            if isinstance(error, RetryLater):
                error.after_s = after_s
            is_its_own = (
                not isinstance(error, Throttled) and isinstance(said, dict) and is_of_credential(said)
            )
            self._is_refused = not isinstance(error, Throttled)
            raise CredentialFailed(error) if is_its_own else error
        what = f"the token endpoint answered HTTP {answer.status} without a token"
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.REQUEST_TIMEOUT:
            raise Unavailable(what, where=self._where, after_s=after_s)
        raise _NoEndpoint(BadAnswer(what, where=self._where))


def _endpoints_of(cloud: Cloud) -> tuple[Endpoint, ...]:
    """The endpoints that may be asked, in order."""
    return tuple(Endpoint) if cloud.token_endpoint is None else (Endpoint[cloud.token_endpoint.upper()],)


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _life_s(said: Mapping[str, object], *, now_s: float) -> float:
    """Seconds that the token lives: v1 says numbers as text, some emulators say none."""
    life_s = _number(said.get("expires_in"))
    if life_s is None:
        ends_s = _number(said.get("expires_on"))
        life_s = LIFE_S_UNKNOWN if ends_s is None else ends_s - now_s
    return min(max(life_s, LIFE_S_MIN), LIFE_S_MAX)


def _number(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float | str):
        return None
    try:
        number = float(said)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number
