"""Each credential of a tenant apart: how long it lives, and whether Entra gives a token for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from m365watch.config.settings import TenantSettings
from m365watch.diagnosis.findings import Verdict
from m365watch.diagnosis.reachable import cure_of
from m365watch.errors import CollectorError
from m365watch.expiry.ends import CredentialKind, Judged, judge
from m365watch.expiry.memory import KnownApplication
from m365watch.expiry.standing import known_now
from m365watch.expiry.words import cure_of as life_fix
from m365watch.expiry.words import life_text, unknown_cure
from m365watch.preflight.report import Check, Checked, bad, good, odd
from m365watch.reach import ReachedTenant

_STALE = "correct client_secret_expires_at, or remove it: it is still that of an older secret"
_READABLE = "name a certificate that this user may read, and its password"

Reach = Callable[[TenantSettings], ReachedTenant]


@dataclass(frozen=True, slots=True)
class Tried:
    """What asking for a token with each credential came to."""

    steps: tuple[Checked, ...]
    token: str | None
    """Of the first credential that works."""
    tenant: TenantSettings
    """The tenant with that credential alone; as it was where none works."""


def check_lives(tenant: TenantSettings, ledger: Path, now: datetime) -> list[Checked]:
    """How long each credential still lives, as far as settings, files and Graph have said; reads files.

    What Graph said is in the `ledger` of the collector that asked it.
    """
    known = known_now(tenant, ledger)
    judged = judge(known.credentials, now)
    return [_judge_life(one.name, known, life) for one, life in zip(tenant.credentials, judged, strict=True)]


def _judge_life(name: str, known: KnownApplication, life: Judged) -> Checked:
    if life.ends_at is None and life.end.kind is CredentialKind.CERTIFICATE:
        return bad(Check.CREDENTIAL, life.end.note, fix=_READABLE, subject=name)
    seen = life_text(life)
    if life.threshold is None:
        cure = unknown_cure(known, life) if life.ends_at is None else ""
        return good(Check.CREDENTIAL, f"{seen}; {cure}" if cure else seen, subject=name)
    make = bad if life.stops_collecting else odd
    return make(Check.CREDENTIAL, seen, fix=life_fix(known, life), subject=name)


def believe_entra(lives: Sequence[Checked], tokens: Sequence[Checked]) -> list[Checked]:
    """The same lives, where one that is over is odd if Entra has just given a token for the credential.

    Then the date is wrong, which nobody changed with the secret, and not the secret.
    """
    taken = {step.subject for step in tokens if step.verdict is Verdict.OK}
    return [
        odd(life.check, f"{life.seen}, and yet Entra takes it", fix=_STALE, subject=life.subject)
        if life.verdict is Verdict.BROKEN and life.subject in taken
        else life
        for life in lives
    ]


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
