"""Each credential of a tenant apart: how long it lives, and whether Entra gives a token for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from m365watch.auth.app_registration import Registration, Standing
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, CredentialsRefused
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.health.checks.access_checks import cure_of
from m365watch.health.expiry.credential_expiry import (
    Judged,
    ends_without_answer,
    is_unasked,
    judge,
    registered_ends,
    why_not_listed,
)
from m365watch.health.expiry.expiry_store import KnownApplication, known_now
from m365watch.health.expiry.expiry_text import cure_of as life_fix
from m365watch.health.expiry.expiry_text import expiry_text, life_text, spec_of, unknown_cure
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.registry.checks import (
    Check,
    Checked,
    Finding,
    Step,
    Verdict,
    bad,
    good,
    note,
    odd,
    ok,
    skipped,
)
from m365watch.registry.credential_specs import spec_named
from m365watch.sources.factory import ReachedTenant

Reach = Callable[[TenantSettings], ReachedTenant]
Ask = Callable[[TenantSettings], Awaitable[Registration]]
"""What the tenant's Graph keeps of its application."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What asking for a token with each credential came to."""

    steps: tuple[Checked, ...]
    token: str | None
    """Of the first credential that works."""
    tenant: TenantSettings
    """The tenant with that credential alone; as it was where none works."""


class Faults:
    """Why credentials cannot work, as far as files tell it, which takes no network to see.

    Each is looked at once, however many tenants it is for.
    """

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._found: dict[CredentialSettings, CredentialsRefused | None] = {}

    def faults_of(self, tenant: TenantSettings) -> dict[str, CredentialsRefused]:
        """Why a credential of the tenant's cannot work, by its name below `credentials`. Reads files."""
        for one in tenant.credentials:
            if one not in self._found:
                self._found[one] = one.fault()
        found = ((one.name, self._found[one]) for one in tenant.credentials)
        return {name: fault for name, fault in found if fault is not None}


def with_faults(
    lives: Sequence[Checked], faults: Mapping[str, CredentialsRefused], tenant: TenantSettings
) -> list[Checked]:
    """The same lives, with what keeps a credential from working in the place of how long it would live.

    Where another credential of the tenant's is left to be tried, that is odd and not broken.
    """
    make = bad if len(faults) == len(tenant.credentials) else odd
    return [
        make(life.check, faults[life.subject].what, fix=cure_of(faults[life.subject]), subject=life.subject)
        if life.subject in faults and life.verdict is not Verdict.BROKEN
        else life
        for life in lives
    ]


def check_lives(tenant: TenantSettings, known: KnownApplication, now: datetime) -> list[Checked]:
    """How long each credential still lives, as far as settings, files and Graph have said."""
    judged = judge(known.credentials, now)
    return [_judge_life(one.name, known, life) for one, life in zip(tenant.credentials, judged, strict=True)]


class Registrations:
    """What Graph tells of each application, which is asked once however many tenants know it."""

    def __init__(self, ask: Ask, *, clock: Clock, limit_s: float) -> None:
        """`limit_s` is how long an answer may take."""
        self._ask = ask
        self._clock = clock
        self._limit_s = limit_s
        self._one_at_a_time = asyncio.Lock()
        self._answers: dict[tuple[str, str], Registration | str] = {}

    async def complete(self, known: KnownApplication, tenant: TenantSettings) -> None:
        """Put what Graph says into `known`, where it alone can know and no collector has asked it yet."""
        if not any(map(is_unasked, known.credentials)):
            return
        async with self._one_at_a_time:
            if known.key not in self._answers:
                self._answers[known.key] = await self._answer(tenant)
        answer, now = self._answers[known.key], self._clock.now()
        if isinstance(answer, str):
            known.credentials = ends_without_answer(known.credentials, answer)
        else:
            known.credentials = await asyncio.to_thread(
                registered_ends, tenant.credentials, known.credentials, answer, now
            )

    async def _answer(self, tenant: TenantSettings) -> Registration | str:
        """The registration, or why there is none."""
        try:
            async with asyncio.timeout(self._limit_s):
                registration = await self._ask(tenant)
        except CollectorError as error:
            return f"Graph could not be asked: {error.what}"
        except TimeoutError:
            return f"Graph has not answered in {self._limit_s:g} s"
        if registration.standing is Standing.LISTED:
            return registration
        return why_not_listed(registration.standing)


def _judge_life(name: str, known: KnownApplication, life: Judged) -> Checked:
    if life.ends_at is None and (fix := spec_of(life).unreadable_fix):
        return bad(Check.CREDENTIAL, life.end.note, fix=fix, subject=name)
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
        odd(
            life.check, f"{life.seen}, and yet Entra takes it", fix=_stale(life.subject), subject=life.subject
        )
        if life.verdict is Verdict.BROKEN and life.subject in taken
        else life
        for life in lives
    ]


def _stale(name: str) -> str:
    spec = spec_named(name)
    what = spec.known_by if spec else "its end"
    return f"correct {what}, or remove it: it is still that of an older credential"


async def try_credentials(tenant: TenantSettings, reach: Reach, faulty: Collection[str] = ()) -> Tried:
    """A token by each credential; where one works, another that does not is a note.

    Those named in `faulty` are known not to work, and not tried.
    """
    names = [one.name for one in tenant.credentials]
    outcomes: list[str | CollectorError | None] = []
    for one in tenant.credentials:
        if one.name in faulty:
            outcomes.append(None)
            continue
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


def _judge_outcome(name: str, got: str | CollectorError | None, *, is_needed: bool) -> Checked:
    if got is None:
        return skipped(Check.TOKEN, Check.CREDENTIAL, subject=name)
    if isinstance(got, str):
        return good(Check.TOKEN, "Entra gave a token", subject=name)
    make = bad if is_needed else odd
    return make(Check.TOKEN, got.what, fix=cure_of(got), subject=name)


def judge_token(settings: Settings, tenant: TenantSettings, now: datetime) -> Finding:
    """That Entra gave a token, and whether a credential of the application expires soon; reads files."""
    known = known_now(tenant, settings.state_directory / LEDGER_FILE)
    near = [one for one in judge(known.credentials, now) if one.threshold is not None]
    if not near:
        return ok(Step.TOKEN, "Entra gave one")
    soonest = min(near, key=lambda one: one.days_left or 0.0)
    return note(Step.TOKEN, f"Entra gave one; {expiry_text(known, soonest)}", fix=life_fix(known, soonest))
