"""What is odd about a tenant's settings, clock, token and roles; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

from m365watch.auth.permissions import Api, missing_roles, roles_of, stops_all
from m365watch.auth.refusals import PASSING_FIX
from m365watch.common.errors import CollectorError, NeedsOperator, Throttled, TokenRefused, Unavailable
from m365watch.common.model import Service
from m365watch.config.models.settings import ServiceSettings, TenantSettings
from m365watch.registry.checks import Finding, Step, Verdict, broken, note, ok

SKEW_MAX_S = 300.0
"""A clock that is off by more is broken: Entra grants 5 minutes, and windows are planned by it."""
SKEW_NOTED_S = 5.0
"""`Date` has whole seconds, and its answer may have taken some of them."""
CA_FIX = (
    "see what answers in the server's place: a proxy that inspects TLS needs its CA among those of "
    "this system, or in the file that network.ca_bundle names"
)
PROXY_LOGIN_FIX = "correct network.proxy_username and network.proxy_password, or the user in HTTPS_PROXY"
WRONG_HOST_FIX = (
    "see what answers in the server's place: a proxy or firewall with a page of its own, or another host "
    "than the one that `cloud` should name"
)
TOKEN_REFUSED_FIX = (
    "set this machine's clock right; if it is, correct cloud.audience (in GCC, https://manage.office.com may "
    "be the one)"
)
THROTTLED_FIX = "wait some minutes and try again; stop other programs that use the tenant's quota"
LATER = "nothing if it passes; if it stays, see to the network between this machine and the service"


def judge_settings(
    tenant: TenantSettings, wanted: Service | None, now: datetime
) -> tuple[Finding, tuple[ServiceSettings, ...]]:
    """The settings of a tenant, and the services that are looked at."""
    step, place = Step.CONFIGURATION, f"inputs.{tenant.input_name}.services"
    collected = [one for one in tenant.services if one.service.content is not None]
    beside: list[ServiceSettings] = []
    if wanted is None and any(one.service.content_type for one in collected):
        # What comes from Graph has steps of its own, which are looked at by name.
        beside = [one for one in collected if one.service.content_type is None]
        collected = [one for one in collected if one.service.content_type]
    services = tuple(one for one in collected if wanted in (None, one.service))
    if not services:
        name = wanted or "any of them"
        return broken(step, f"{name} is not enabled in {place}", fix=f"add it to {place}"), ()
    future = [one for one in services if one.start_at is not None and one.start_at > now]
    names = ", ".join(one.service for one in (*services, *beside))
    if future:
        starts = ", ".join(f"{one.service} from {one.start_at:%Y-%m-%d %H:%MZ}" for one in future)
        seen = f"start_time_in_utc lies in the future: {starts}"
        fix = f"set start_time_in_utc in {place} to a time that has passed, or wait for it"
        left = tuple(one for one in services if one not in future)
        return (note(step, seen, fix=fix), left) if left else (broken(step, seen, fix=fix), ())
    return ok(step, f"input {tenant.input_name}, cloud {tenant.cloud.name}, services {names}"), services


def judge_clock(said: str | None, now: datetime) -> Finding:
    """This machine's clock against the `Date` that a server said."""
    try:
        there = parsedate_to_datetime(said or "")
        ahead_s = (now - there).total_seconds()
    except (ValueError, TypeError):
        return note(Step.CLOCK, "the server did not say its time")
    seen = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the server's"
    fix = "set this machine's clock right and keep it so, with NTP or chrony"
    if abs(ahead_s) > SKEW_MAX_S:
        return broken(Step.CLOCK, seen, fix=fix)
    return note(Step.CLOCK, seen, fix=fix) if abs(ahead_s) > SKEW_NOTED_S else ok(Step.CLOCK, seen)


def judge_failure(step: Step, error: CollectorError) -> Finding:
    """A call that failed; its cure where the error has one."""
    return broken(step, error.what, fix=cure_of(error))


def cure_of(error: CollectorError) -> str:
    """What a person can do about it: always something."""
    if isinstance(error, NeedsOperator):
        return error.fix
    if isinstance(error, TokenRefused):
        return TOKEN_REFUSED_FIX
    if isinstance(error, Throttled | Unavailable) and "AADSTS" in error.what:
        return PASSING_FIX
    if isinstance(error, Throttled):
        return THROTTLED_FIX
    return _network_fix(error.what)


def _network_fix(what: str) -> str:
    """What to do about a connection that failed, by our own words for it."""
    found = next((fix for words, fix in _NETWORK_FIXES if any(word in what for word in words)), LATER)
    # A server that fails says nothing of who stands in its place.
    return LATER if found is WRONG_HOST_FIX and " HTTP 5" in what else found


_NETWORK_FIXES = (
    (
        ("managed identity",),
        "run on a machine of Azure's that has the identity, or give another credential",
    ),
    (("CA bundle",), "correct the file that network.ca_bundle names"),
    (("certificate", "TLS"), CA_FIX),
    (("HTTP 407",), PROXY_LOGIN_FIX),
    (
        ("proxy",),
        (
            "check network.proxy, or HTTPS_PROXY and NO_PROXY where that is not set, and whether the proxy "
            "lets this machine through"
        ),
    ),
    (
        ("no connection from",),
        "correct network.bind_address: it has to be an address of this machine, of the host's kind",
    ),
    (
        ("no connection", "in time"),
        "let this machine reach the host, in its firewall and those on the way, or set network.proxy",
    ),
    (("not HTTP", "without a token", "neither a token"), WRONG_HOST_FIX),
)
"""Words of a failure and its cure; the first that fits."""


def judge_claims(
    claims: dict[str, object] | None,
    tenant: TenantSettings,
    services: Sequence[ServiceSettings],
    api: Api = Api.MANAGEMENT,
) -> list[Finding]:
    """The tenant and the roles in the token; up to the first that is broken."""
    if claims is None:
        return [note(Step.TENANT, "the token cannot be looked into"), note(Step.ROLES, "not known")]
    found = judge_tenant(claims, tenant)
    if found.verdict is Verdict.BROKEN:
        return [found]
    return [found, judge_roles(roles_of(claims), services, api)]


def judge_tenant(claims: dict[str, object], tenant: TenantSettings) -> Finding:
    """Whether the token is for the tenant that is collected."""
    tid = str(claims.get("tid", "")).lower()
    if tid != tenant.tenant_id.lower():
        seen = f"the token is for tenant {_short(tid) or 'none'}, not {tenant.tenant_id}"
        fix = "set credentials.tenant_id and credentials.client_id to those of one tenant"
        return broken(Step.TENANT, seen, fix=fix)
    return ok(Step.TENANT, f"the token is for {tid}")


def judge_roles(
    roles: Sequence[str], services: Sequence[ServiceSettings], api: Api = Api.MANAGEMENT
) -> Finding:
    """Whether a token of `api` may read what is wanted there."""
    seen = ", ".join(map(_short, roles[:10])) or "none"
    missing = missing_roles(roles, services, api)
    if not missing:
        return ok(Step.ROLES, seen)
    lacking = "; ".join(need.lack for need in missing)
    make = broken if stops_all(missing, services, api) else note
    fix = ", and ".join(dict.fromkeys(need.fix for need in missing))
    return make(Step.ROLES, f"{lacking}; the token has: {seen}", fix=fix)


def _short(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text[:80])
