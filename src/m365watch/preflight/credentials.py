"""Each credential of a tenant apart: how long it lives, and whether Entra gives a token for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from m365watch.config.certificates import FILE_BYTES_MAX
from m365watch.config.files import read_small_file
from m365watch.config.settings import (
    CertificateSettings,
    CredentialSettings,
    SecretSettings,
    TenantSettings,
)
from m365watch.diagnosis.reachable import cure_of
from m365watch.entra.certificate import load_certificate
from m365watch.errors import CollectorError
from m365watch.preflight.report import Check, Checked, bad, good, odd
from m365watch.reach import ReachedTenant

LIFE_NOTED = timedelta(days=30)
"""A credential that ends sooner is worth a note."""
_READABLE = "name a certificate that this user may read, and its password"
_RENEW = "create the next one in Entra now; both work side by side until the old one ends"

Reach = Callable[[TenantSettings], ReachedTenant]


@dataclass(frozen=True, slots=True)
class Tried:
    """What asking for a token with each credential came to."""

    steps: tuple[Checked, ...]
    token: str | None
    """Of the first credential that works."""
    tenant: TenantSettings
    """The tenant with that credential alone; as it was where none works."""


def check_lives(tenant: TenantSettings, now: datetime) -> list[Checked]:
    """How long each credential still lives, as far as anybody can tell."""
    return [_judge_life(one.name, one, now) for one in tenant.credentials]


def _judge_life(name: str, credential: CredentialSettings, now: datetime) -> Checked:
    try:
        ends_at = _end_of(credential)
    except FileNotFoundError:
        return bad(Check.CREDENTIAL, "the certificate is not there", fix=_READABLE, subject=name)
    except ValueError as error:
        return bad(Check.CREDENTIAL, f"the certificate {error}", fix=_READABLE, subject=name)
    if ends_at is None:
        seen = "nobody has said when it ends"
        if isinstance(credential, SecretSettings):
            seen += " (credentials.client_secret_expires_at)"
        return good(Check.CREDENTIAL, seen, subject=name)
    left = ends_at - now
    if left <= timedelta():
        return bad(Check.CREDENTIAL, f"ended at {ends_at:%Y-%m-%d %H:%MZ}", fix=_RENEW, subject=name)
    seen = f"ends at {ends_at:%Y-%m-%d %H:%MZ}, in {left.days:,} days"
    if left < LIFE_NOTED:
        return odd(Check.CREDENTIAL, seen, fix=_RENEW, subject=name)
    return good(Check.CREDENTIAL, seen, subject=name)


def _end_of(credential: CredentialSettings) -> datetime | None:
    """When it ends; None where nobody knows, or it has no end.

    Raises: FileNotFoundError, ValueError: its certificate cannot be read, and the text ends a sentence.
    """
    match credential:
        case SecretSettings(expires_at=expires_at):
            return expires_at
        case CertificateSettings(certificate=path, password=password):
            content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
            opened_by = password.reveal().encode() if password else None
            loaded = load_certificate(content, opened_by, reads_key=False)
            return loaded.certificate.not_valid_after_utc
        case _:
            return None


async def try_credentials(tenant: TenantSettings, reach: Reach) -> Tried:
    """A token by each credential; where one works, another that does not is a note."""
    names = [one.name for one in tenant.credentials]
    outcomes: list[str | CollectorError] = []
    for one in tenant.credentials:
        try:
            outcomes.append(await reach(replace(tenant, credentials=(one,))).tokens.current())
        except CollectorError as error:
            outcomes.append(error)
    working = next((place for place, got in enumerate(outcomes) if isinstance(got, str)), None)
    steps = tuple(
        _judge_outcome(name, got, is_needed=working is None)
        for name, got in zip(names, outcomes, strict=True)
    )
    if working is None:
        return Tried(steps, None, tenant)
    token = outcomes[working]
    alone = replace(tenant, credentials=(tenant.credentials[working],))
    return Tried(steps, token if isinstance(token, str) else None, alone)


def _judge_outcome(name: str, got: str | CollectorError, *, is_needed: bool) -> Checked:
    if isinstance(got, str):
        return good(Check.TOKEN, "Entra gave a token", subject=name)
    make = bad if is_needed else odd
    return make(Check.TOKEN, got.what, fix=cure_of(got), subject=name)
