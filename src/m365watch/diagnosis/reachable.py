"""Judgements on what lies between the collector and its tenant: settings, clock, token. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

import msgspec

from m365watch.config.settings import ServiceSettings, TenantSettings
from m365watch.diagnosis.findings import Finding, Step, broken, note, ok
from m365watch.errors import CollectorError, NeedsOperator
from m365watch.feed.codes import PERMISSION_FIX
from m365watch.model import Service

SKEW_MAX_S = 300.0
"""A clock that is off by more is broken: Entra grants 5 minutes, and windows are planned by it."""
SKEW_NOTED_S = 30.0
CLAIMS_LENGTH_MAX = 65_536
READ, READ_DLP = "ActivityFeed.Read", "ActivityFeed.ReadDlp"
LATER = "nothing if it passes; if it stays, see to the network between this machine and the service"


def judge_settings(
    tenant: TenantSettings, wanted: Service | None, now: datetime
) -> tuple[Finding, tuple[ServiceSettings, ...]]:
    """The settings of a tenant, and the services that are looked at."""
    step, place = Step.CONFIGURATION, f"inputs.{tenant.input_name}.services"
    collected = [one for one in tenant.services if one.service.content_type is not None]
    services = tuple(one for one in collected if wanted in (None, one.service))
    if not services:
        name = wanted or "any of them"
        return broken(step, f"{name} is not enabled in {place}", fix=f"add it to {place}"), ()
    future = [one for one in services if one.start_at is not None and one.start_at > now]
    names = ", ".join(one.service for one in services)
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
    fix = error.fix if isinstance(error, NeedsOperator) else _network_fix(error.what)
    return broken(step, error.what, fix=fix)


def _network_fix(what: str) -> str:
    """What to do about a connection that failed, by our own words for it."""
    if "managed identity" in what:
        return "run on a machine of Azure's that has the identity, or give another credential"
    if "CA bundle" in what:
        return "correct the file that network.ca_bundle names"
    if "certificate" in what or "TLS" in what:
        return (
            "see what answers in the server's place: a proxy that inspects TLS needs its CA among those of "
            "this system, or in the file that network.ca_bundle names"
        )
    if "HTTP 407" in what:
        return "correct network.proxy_username and network.proxy_password, or the user in HTTPS_PROXY"
    if "proxy" in what:
        return (
            "check network.proxy, or HTTPS_PROXY and NO_PROXY where that is not set, and whether the proxy "
            "lets this machine through"
        )
    if "no connection from" in what:
        return "correct network.bind_address: it has to be an address of this machine, of the host's kind"
    if "no connection" in what or "in time" in what:
        return "let this machine reach the host, in its firewall and those on the way, or set network.proxy"
    return LATER


def claims_of(token: str) -> dict[str, object] | None:
    """What the token says of itself; None where it cannot be read. Nothing is verified, nothing is kept."""
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > CLAIMS_LENGTH_MAX:
        return None
    try:
        text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        said = msgspec.json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def judge_claims(
    claims: dict[str, object] | None, tenant: TenantSettings, services: Sequence[ServiceSettings]
) -> list[Finding]:
    """The tenant and the roles in the token; up to the first that is broken."""
    if claims is None:
        return [note(Step.TENANT, "the token cannot be looked into"), note(Step.ROLES, "not known")]
    tid = str(claims.get("tid", "")).lower()
    if tid != tenant.tenant_id.lower():
        seen = f"the token is for tenant {_short(tid) or 'none'}, not {tenant.tenant_id}"
        fix = "set credentials.tenant_id and credentials.client_id to those of one tenant"
        return [broken(Step.TENANT, seen, fix=fix)]
    listed = claims.get("roles")
    roles = [str(role) for role in listed] if isinstance(listed, list) else []
    return [ok(Step.TENANT, f"the token is for {tid}"), judge_roles(roles, services)]


def judge_roles(roles: Sequence[str], services: Sequence[ServiceSettings]) -> Finding:
    """Whether the token may read what is wanted."""
    seen = ", ".join(map(_short, roles[:10])) or "none"
    wants_dlp = any(one.service is Service.DLP for one in services)
    if READ not in roles:
        return broken(Step.ROLES, f"{READ} is missing; the token has: {seen}", fix=PERMISSION_FIX)
    if wants_dlp and READ_DLP not in roles:
        lacking = f"{READ_DLP} is missing, which dlp needs; the token has: {seen}"
        if len(services) == 1:
            return broken(Step.ROLES, lacking, fix=PERMISSION_FIX)
        return note(Step.ROLES, lacking, fix=PERMISSION_FIX)
    return ok(Step.ROLES, seen)


def _short(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text[:80])
