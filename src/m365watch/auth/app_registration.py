"""Asks Graph which credentials an application has, with a token for Graph that goes to its host only.

A question costs nothing of the Management API's budget. That it is not permitted is an answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, RetryLater, Throttled, TokenRefused, Unavailable
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s

HINT_LENGTH = 3
_THUMBPRINT_BYTES = 20
_CREDENTIALS_MAX = 1_000
_BOM = b"\xef\xbb\xbf"


class Standing(StrEnum):
    """What came of the question."""

    LISTED = "listed"
    NOT_PERMITTED = "not permitted"
    NOT_HERE = "not registered in this tenant"


@dataclass(frozen=True, slots=True)
class RegisteredSecret:
    """One client secret of the application."""

    ends_at: datetime
    starts_at: datetime | None
    hint: str
    """The secret's first characters; empty where Entra keeps none."""


@dataclass(frozen=True, slots=True)
class RegisteredCertificate:
    """One certificate of the application."""

    ends_at: datetime
    thumbprint: str
    """SHA-1 in capital hexadecimal digits; empty where it is not told."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The answer of one tenant."""

    standing: Standing
    secrets: tuple[RegisteredSecret, ...] = ()
    certificates: tuple[RegisteredCertificate, ...] = ()

    def ends_of_secret(self, secret: str, now: datetime) -> tuple[datetime, ...]:
        """When `secret` may end, the soonest first; one instant where only one secret can be meant.

        Those with its first characters are meant, or else those of which Entra keeps none; of these, the
        ones that are in force, since it gave us a token; if none is, the last one that was.
        """
        begun = [one for one in self.secrets if one.starts_at is None or one.starts_at <= now]
        alike = [one.ends_at for one in begun if one.hint == secret[:HINT_LENGTH]]
        meant = sorted(set(alike or [one.ends_at for one in begun if not one.hint]))
        return tuple(end for end in meant if end > now) or tuple(meant[-1:])

    def end_of_certificate(self, thumbprint: str) -> datetime | None:
        """When the registration of the certificate ends; None where it is not listed."""
        return min((one.ends_at for one in self.certificates if one.thumbprint == thumbprint), default=None)


class _Password(msgspec.Struct):
    ends: str | None = msgspec.field(default=None, name="endDateTime")
    starts: str | None = msgspec.field(default=None, name="startDateTime")
    hint: str | None = None


class _Key(msgspec.Struct):
    ends: str | None = msgspec.field(default=None, name="endDateTime")
    thumbprint: str | None = msgspec.field(default=None, name="customKeyIdentifier")


class _Application(msgspec.Struct):
    passwords: list[_Password] = msgspec.field(name="passwordCredentials")
    keys: list[_Key] = msgspec.field(default_factory=list, name="keyCredentials")


def parse_application(body: bytes, *, where: str) -> Registration:
    """The credentials that Graph's answer lists; one without an end is left out.

    Raises: BadAnswer.
    """
    try:
        said = msgspec.json.decode(body.removeprefix(_BOM), type=_Application)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("the body is no application of Graph's", where=where) from None
    return Registration(
        Standing.LISTED,
        tuple(
            RegisteredSecret(ends_at, _instant(one.starts), one.hint or "")
            for one in said.passwords[:_CREDENTIALS_MAX]
            if (ends_at := _instant(one.ends)) is not None
        ),
        tuple(
            RegisteredCertificate(ends_at, _thumbprint(one.thumbprint))
            for one in said.keys[:_CREDENTIALS_MAX]
            if (ends_at := _instant(one.ends)) is not None
        ),
    )


def find_alike(ends: Sequence[datetime]) -> str:
    """Why the end is not certain, where there are several; empty where there is one."""
    if len(ends) < 2:
        return ""
    return f"Graph lists {len(ends)} secrets that it may be, and this is the end of the first"


def _instant(text: str | None) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text or "")
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _thumbprint(text: str | None) -> str:
    try:
        raw = base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) == _THUMBPRINT_BYTES:
        return raw.hex().upper()
    for spelt in (text or "", raw.decode("ascii", "replace")):
        if len(spelt) == 2 * _THUMBPRINT_BYTES and not set(spelt.upper()) - set("0123456789ABCDEF"):
            return spelt.upper()
    return ""


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
