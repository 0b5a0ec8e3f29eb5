"""Which tenant has consented: read from a token that Entra itself gives us, not from what a browser brings.

The token's signature is not checked: it comes straight from the login host, over TLS that is.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlencode

import msgspec
from yarl import URL

from m365watch.auth.consent.authorization_request import ConsentAttempt, Redirect
from m365watch.auth.refusals import is_refusal, token_refusal
from m365watch.auth.tokens import FORM, TokenSource
from m365watch.common import base64url
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, CollectorError, ConsentRefused, CredentialsRefused, RetryLater
from m365watch.common.model import TenantId
from m365watch.config.models.values import is_guid
from m365watch.http.client import Answer, Session
from m365watch.registry.credential_specs import Credential, Proof, TokenGiver

SETTLING_S = 60.0
"""How long a consent may take to arrive everywhere in Entra."""
_PAUSE_S = 3.0
_WHERE = "consent"


async def find_tenant(
    redirect: Redirect,
    attempt: ConsentAttempt,
    session: Session,
    *,
    credentials: Sequence[Credential],
    clock: Clock,
) -> TenantId:
    """The tenant that has consented, as a token names it.

    A code is exchanged; without one a token is asked for as the collector will, which may take until
    the consent has arrived everywhere.

    Raises: CredentialsRefused, ConsentRefused (the token names another tenant), RetryLater.
    """
    if redirect.code:
        found = await _exchange(redirect.code, attempt, session, credentials=credentials)
    else:
        tenant = TenantId(redirect.tenant)
        source = TokenSource(session, attempt.cloud, tenant_id=tenant, credentials=credentials, clock=clock)
        found = tenant_of(await _settled_token(source, clock), where=_WHERE)
    if redirect.tenant and found != redirect.tenant:
        raise ConsentRefused(
            f"the answer names tenant {redirect.tenant}, and the token {found}",
            fix="trust neither; start the command again and open the address that it prints",
            where=_WHERE,
        )
    return found


def tenant_of(token: str, *, where: str) -> TenantId:
    """The `tid` in a token's claims, in lower case; raises BadAnswer where it names no tenant."""
    tenant = _claims(token).get("tid")
    if not isinstance(tenant, str) or not is_guid(tenant):
        raise BadAnswer("the token names no tenant", where=where)
    return TenantId(tenant.lower())


async def _settled_token(source: TokenSource, clock: Clock) -> str:
    """A token, once the consent has arrived where tokens are made."""
    last_s = clock.monotonic_s() + SETTLING_S
    while True:
        try:
            return await source.current()
        except (CredentialsRefused, RetryLater) as error:
            if clock.monotonic_s() + _PAUSE_S >= last_s or not _passes(error):
                raise
        await clock.sleep(_PAUSE_S)


def _passes(error: CollectorError) -> bool:
    """Whether waiting may help: the application is not in the tenant yet, or Entra is busy."""
    return isinstance(error, RetryLater) or error.what.startswith("AADSTS700016")


async def _exchange(
    code: str, attempt: ConsentAttempt, session: Session, *, credentials: Sequence[Credential]
) -> TenantId:
    """The tenant of the token that the code brings; after a refused credential the next one is tried."""
    refused: CredentialsRefused | None = None
    for credential in credentials:
        if isinstance(credential, TokenGiver):
            continue
        try:
            return await _exchange_with(credential, code, attempt, session)
        except CredentialsRefused as error:
            refused = refused or error
    raise refused or ConsentRefused(
        "a managed identity by itself exchanges no code", fix="use the form admin", where=_WHERE
    )


async def _exchange_with(credential: Proof, code: str, attempt: ConsentAttempt, session: Session) -> TenantId:
    url = attempt.token_url
    proof = await credential.proof(url)
    form = urlencode(attempt.exchange_form(code) | dict(proof)).encode()
    answer = await session.send("POST", URL(url, encoded=True), headers=FORM, form=form, where=_WHERE)
    hide = (*proof.values(), code, *filter(None, (attempt.verifier, attempt.state)))
    return _read_answer(answer, attempt, hide=hide)


def _read_answer(answer: Answer, attempt: ConsentAttempt, *, hide: tuple[str, ...]) -> TenantId:
    said = _decoded(answer.body)
    if answer.status != HTTPStatus.OK or "access_token" not in said:
        if is_refusal(said):
            raise token_refusal(said, where=_WHERE, hide=hide)
        raise BadAnswer(f"the token endpoint answered HTTP {answer.status} without a token", where=_WHERE)
    if isinstance(identity := said.get("id_token"), str):
        audience = _claims(identity).get("aud")
        if not isinstance(audience, str) or audience.lower() != attempt.client_id:
            raise BadAnswer("the token endpoint's id_token is for another application", where=_WHERE)
        return tenant_of(identity, where=_WHERE)
    return tenant_of(str(said["access_token"]), where=_WHERE)


def _claims(token: str) -> dict[str, object]:
    """The claims as they are written; {} for what is no token."""
    parts = token.split(".")
    try:
        return _decoded(base64url.decoded(parts[1]))
    except (IndexError, ValueError, binascii.Error):
        return {}


def _decoded(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"), type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
