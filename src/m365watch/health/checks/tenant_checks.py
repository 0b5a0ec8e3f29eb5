"""Judgements on what the service says of a tenant's feeds: audit, subscriptions, content. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.auth.permissions import Api, apis_of, claims_of, roles_of
from m365watch.common.clock import Clock
from m365watch.common.errors import AccessRefused, CollectorError, NotSubscribed, Unavailable
from m365watch.common.model import ContentType, Service, Window
from m365watch.common.progress import FeedProgress
from m365watch.common.text import one_line
from m365watch.config.models.settings import ServiceSettings, TenantSettings
from m365watch.health.checks.access_checks import (
    cure_of,
    judge_failure,
    judge_roles,
    judge_settings,
    judge_tenant,
)
from m365watch.health.checks.check_specs import by_rank
from m365watch.health.checks.credentials import (
    Faults,
    Reach,
    Registrations,
    Tried,
    believe_entra,
    check_lives,
    try_credentials,
    with_faults,
)
from m365watch.health.checks.network_checks import Network
from m365watch.health.checks.specs.response import ResponseMeans
from m365watch.health.expiry.expiry_store import known_now
from m365watch.registry.checks import (
    Check,
    Checked,
    Finding,
    Group,
    Place,
    Step,
    Verdict,
    all_skipped,
    bad,
    broken,
    checked,
    first_broken,
    good,
    note,
    odd,
    ok,
    skipped,
)
from m365watch.sources.factory import ReachedTenant
from m365watch.sources.management_api.responses import AUDIT_OFF_CAUSE, AUDIT_OFF_FIX, ListedSubscription
from m365watch.sources.service_health.service_health_client import Kind

_START = (
    "start `m365watch run`, which starts subscriptions by itself; the first content then takes up to 12 h"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What a listing of one feed came to."""

    blobs: int = 0
    """On the first page of the newest day that has any."""
    newest_at: datetime | None = None
    error: CollectorError | None = None


def judge_audit(served: Mapping[ContentType, Served], feeds: Sequence[FeedProgress]) -> Finding:
    """Whether the tenant keeps an audit log, as the service says now or said to the collector."""
    told = [one.error.what for one in served.values() if one.error]
    told += [row.last_error for row in feeds if row.last_error]
    if any(AUDIT_OFF_CAUSE in what for what in told):
        return broken(Step.AUDIT, AUDIT_OFF_CAUSE, fix=AUDIT_OFF_FIX)
    return ok(Step.AUDIT, "nothing says that auditing is off")


def judge_subscriptions(
    enabled: frozenset[ContentType], wanted: Sequence[ContentType], served: Mapping[ContentType, Served]
) -> Finding:
    """Whether each feed has its subscription, by the list and by the listing of its content."""
    refused = {one for one in wanted if isinstance(served[one].error, NotSubscribed)}
    missing = [one for one in wanted if one not in enabled or one in refused]
    seen = f"enabled: {_names([one for one in wanted if one not in missing]) or 'none'}"
    if not missing:
        return ok(Step.SUBSCRIPTIONS, seen)
    seen = f"{seen}; missing or disabled: {_names(missing)}"
    if len(missing) == len(wanted):
        return broken(Step.SUBSCRIPTIONS, seen, fix=_START)
    return note(Step.SUBSCRIPTIONS, seen, fix=_START)


def judge_served(served: Mapping[ContentType, Served]) -> Finding:
    """Whether the service lists any content of the last 7 days."""
    found = {one: lot for one, lot in served.items() if lot.newest_at is not None}
    failed = [lot.error for lot in served.values() if lot.error and not isinstance(lot.error, NotSubscribed)]
    if not found and failed:
        return judge_failure(Step.SERVED, failed[0])
    if not found:
        fix = (
            "look whether anything happens in the tenant (Purview, Audit); a new subscription serves its "
            "first content after up to 12 hours, and nothing from before"
        )
        return broken(Step.SERVED, f"no content in 7 days: {_names(list(served))}", fix=fix)
    newest = ", ".join(f"{_name(one)} {lot.newest_at:%m-%d %H:%MZ}" for one, lot in found.items())
    empty = [one for one in served if one not in found]
    if empty:
        return note(Step.SERVED, f"newest content: {newest}; none of: {_names(empty)}")
    return ok(Step.SERVED, f"newest content: {newest}")


def _name(content_type: ContentType) -> str:
    return str(content_type).removeprefix("Audit.").removesuffix(".All")


def _names(content_types: Sequence[ContentType]) -> str:
    return ", ".join(map(_name, content_types))


Tell = Callable[[Check], None]
LISTED_HOURS = 24
"""How far back the one listing of each service looks."""
_STARTS = "nothing to do: `m365watch run` starts what is missing; the first content then takes up to 12 h"
_WEBHOOK_FIX = "start it again with a webhook that answers, or leave it: polling does without"
_CLAIMS = (Check.TENANT, Check.AUDIENCE, Check.ROLES)
_SERVED = (Check.AUDIT, Check.SUBSCRIPTIONS, Check.LISTING)


@dataclass(frozen=True, slots=True)
class TenantMeans:
    """What a tenant is looked at with."""

    clock: Clock
    reach: Reach
    registrations: Registrations
    network: Network
    ledger: Path
    """Where a collector keeps what Graph told it of credentials; it may not be there."""
    limit_s: float
    """How long one answer may take."""
    faults: Faults = field(default_factory=Faults)
    response: ResponseMeans | None = None
    """The application that responds, if there is one."""


async def check_tenant(means: TenantMeans, tenant: TenantSettings, tell: Tell) -> Group:
    """Every step of the tenant; those that need a broken one are skipped. `tell` hears which is begun."""
    steps = await _steps(means, tenant, tell)
    if means.network.stopped_at(tenant.cloud.login_url, tenant.network) is None:
        for spec in by_rank():
            steps += await spec.ask(means, tenant)
    return Group(Place.TENANT, tenant.tenant_id, tuple(steps))


async def _steps(means: TenantMeans, tenant: TenantSettings, tell: Tell) -> list[Checked]:
    now = means.clock.now()
    finding, _ = judge_settings(tenant, None, now)
    known = await asyncio.to_thread(known_now, tenant, means.ledger)
    faults = await asyncio.to_thread(means.faults.faults_of, tenant)
    steps = [checked(finding), *with_faults(check_lives(tenant, known, now), faults, tenant)]
    stopped = means.network.stopped_at(tenant.cloud.login_url, tenant.network)
    if stopped is not None:
        return [
            *steps,
            *all_skipped([Check.TOKEN, *_CLAIMS, *_SERVED], stopped),
            *_graph_waits(tenant, stopped),
        ]
    tell(Check.TOKEN)
    tried = await try_credentials(tenant, means.reach, faults)
    if tried.token is not None:
        await means.registrations.complete(known, tenant)
    lives = with_faults(check_lives(tenant, known, now), faults, tenant)
    steps = [checked(finding), *believe_entra(lives, tried.steps), *tried.steps]
    if tried.token is None:
        skips = all_skipped([*_CLAIMS, *_SERVED], Check.TOKEN)
        return [*steps, *skips, *_graph_waits(tenant, Check.TOKEN)]
    services = [one for one in tenant.services if one.service.content is not None]
    for api in apis_of(services):
        if api is Api.MANAGEMENT:
            steps += await _management(means, tried, [one for one in services if is_audit(one)], tell)
        else:
            steps += await _graph(means, tried, services)
    return steps


def _graph_waits(tenant: TenantSettings, waits_for: str) -> list[Checked]:
    """What is not looked at at Graph; nothing where nothing is collected there."""
    if not any(Api.GRAPH in apis_of([one]) for one in tenant.services):
        return []
    return [skipped(check, waits_for, subject=str(Api.GRAPH)) for check in (Check.TOKEN, Check.ROLES)]


def is_audit(service: ServiceSettings) -> bool:
    """Whether the service is content of the Management Activity API, with a subscription."""
    return service.service.content_type is not None and Api.GRAPH not in apis_of([service])


async def _management(
    means: TenantMeans, tried: Tried, services: Sequence[ServiceSettings], tell: Tell
) -> list[Checked]:
    """What the token carries, and what the service says of the feeds."""
    tenant = tried.tenant
    steps = judge_token(tried.token or "", tenant, services, Api.MANAGEMENT, tenant.cloud.audience)
    stopped = means.network.stopped_at(tenant.cloud.management_url, tenant.network) or first_broken(steps)
    if stopped is not None:
        return [*steps, *all_skipped(_SERVED, stopped)]
    return [*steps, *await _service(means, means.reach(tenant), services, tell)]


async def _graph(means: TenantMeans, tried: Tried, services: Sequence[ServiceSettings]) -> list[Checked]:
    """The same application's token for Graph, for the services that are collected there."""
    graph_url = tried.tenant.cloud.graph_url
    subject = str(Api.GRAPH)
    if not graph_url:
        fix = "set cloud.graph_url, or switch the service off"
        return [bad(Check.TOKEN, "the cloud names no Microsoft Graph", fix=fix, subject=subject)]
    cloud = replace(tried.tenant.cloud, audience=graph_url)
    try:
        token = await means.reach(replace(tried.tenant, cloud=cloud)).tokens.current()
    except CollectorError as error:
        return [
            bad(Check.TOKEN, error.what, fix=cure_of(error), subject=subject),
            skipped(Check.ROLES, Check.TOKEN, subject=subject),
        ]
    judged = judge_token(token, tried.tenant, services, Api.GRAPH, graph_url)
    named = [replace(step, subject=subject) for step in judged if step.check is not Check.TENANT]
    steps = [good(Check.TOKEN, "Entra gave a token", subject=subject), *named]
    health = next(one for one in services if one.service is Service.SERVICE_HEALTH)
    if first_broken(named) is not None:
        return [*steps, skipped(Check.LISTING, Check.ROLES, subject=str(health.service))]
    return [*steps, await _announced_now(means, tried.tenant, health)]


async def _announced_now(means: TenantMeans, tenant: TenantSettings, health: ServiceSettings) -> Checked:
    """The first page of each kind of announcements: a request each."""
    announcements, subject = means.reach(tenant).announcements, str(health.service)
    counts = []
    for kind in map(Kind, health.announcements):
        try:
            async with asyncio.timeout(means.limit_s):
                async for page in announcements.pages(kind):
                    counts.append(f"{len(page):,} {kind}")
                    break
        except (CollectorError, TimeoutError) as error:
            named = _named(error)
            return bad(Check.LISTING, f"{kind}: {named.what}", fix=cure_of(named), subject=subject)
    return good(Check.LISTING, f"{', '.join(counts)} on the first pages", subject=subject)


def judge_token(
    token: str, tenant: TenantSettings, services: Sequence[ServiceSettings], api: Api, audience: str
) -> list[Checked]:
    """Whose token it is, for which API, and what it may do there."""
    claims = claims_of(token)
    if claims is None:
        return [checked(note(Step.TENANT, "the token cannot be looked into"))]
    found = [checked(judge_tenant(claims, tenant)), judge_audience(claims, audience)]
    return [*found, checked(judge_roles(roles_of(claims), services, api))]


def judge_audience(claims: dict[str, object], audience: str) -> Checked:
    """Whether the token is for the API that was asked for; Entra repeats what was asked."""
    said = one_line(str(claims.get("aud", "")))
    if said.rstrip("/") != audience.rstrip("/"):
        fix = "correct cloud.audience, and see whether something answers in Entra's place"
        return bad(Check.AUDIENCE, f"the token is for {said or 'nobody'}, not {audience}", fix=fix)
    return good(Check.AUDIENCE, f"the token is for {said}")


async def _service(
    means: TenantMeans, reached: ReachedTenant, services: Sequence[ServiceSettings], tell: Tell
) -> list[Checked]:
    """Audit, subscriptions and content, as the service says now."""
    tell(Check.SUBSCRIPTIONS)
    try:
        async with asyncio.timeout(means.limit_s):
            listed = await reached.api.list_subscriptions()
    except (CollectorError, TimeoutError) as error:
        return _unlisted(_named(error))
    tell(Check.LISTING)
    wanted = {one.service.content_type: one for one in services if one.service.content_type is not None}
    served = {content_type: await _listed_now(means, reached, content_type) for content_type in wanted}
    audit = judge_audit(served, ())
    steps = [checked(audit)]
    if audit.verdict is Verdict.BROKEN:
        return [*steps, *all_skipped([Check.SUBSCRIPTIONS, Check.LISTING], Check.AUDIT)]
    steps += [judge_subscription(one, listed, served[feed]) for feed, one in wanted.items()]
    steps += [judge_listing(one, served[feed]) for feed, one in wanted.items()]
    return steps


def _unlisted(error: CollectorError) -> list[Checked]:
    """What it means that not even the subscriptions are listed."""
    if isinstance(error, AccessRefused) and AUDIT_OFF_CAUSE in error.what:
        steps = [bad(Check.AUDIT, error.what, fix=error.fix)]
        return [*steps, *all_skipped([Check.SUBSCRIPTIONS, Check.LISTING], Check.AUDIT)]
    return [
        skipped(Check.AUDIT, Check.SUBSCRIPTIONS),
        checked(judge_failure(Step.SUBSCRIPTIONS, error)),
        skipped(Check.LISTING, Check.SUBSCRIPTIONS),
    ]


async def _listed_now(means: TenantMeans, reached: ReachedTenant, content_type: ContentType) -> Served:
    """The first page of the last hours: one request."""
    end = means.clock.now().replace(microsecond=0)
    window = Window(end - timedelta(hours=LISTED_HOURS), end)
    pages = reached.api.list_content(content_type, window)
    try:
        async with asyncio.timeout(means.limit_s):
            async for blobs in pages:
                return Served(len(blobs), max((blob.created_at for blob in blobs), default=None))
    except (CollectorError, TimeoutError) as error:
        return Served(error=_named(error))
    return Served()


def judge_subscription(
    service: ServiceSettings, listed: Sequence[ListedSubscription], served: Served
) -> Checked:
    """How the subscription of one service stands; a run starts what is missing."""
    found = next((one for one in listed if one.content_type is service.service.content_type), None)
    subject = str(service.service)
    if found is None:
        return odd(Check.SUBSCRIPTIONS, "not started yet", fix=_STARTS, subject=subject)
    if not found.is_enabled:
        return odd(Check.SUBSCRIPTIONS, "disabled", fix=_STARTS, subject=subject)
    if isinstance(served.error, NotSubscribed):
        return odd(Check.SUBSCRIPTIONS, f"listed, and yet {served.error.what}", fix=_STARTS, subject=subject)
    if found.webhook_address is None:
        return good(Check.SUBSCRIPTIONS, "enabled", subject=subject)
    seen = f"enabled, with a webhook to {found.webhook_address} ({found.webhook_status})"
    if found.webhook_status != "enabled":
        return odd(Check.SUBSCRIPTIONS, seen, fix=_WEBHOOK_FIX, subject=subject)
    return good(Check.SUBSCRIPTIONS, seen, subject=subject)


def judge_listing(service: ServiceSettings, served: Served) -> Checked:
    """What one listing of the service's content came to; a quiet service is no fault."""
    subject = str(service.service)
    if isinstance(served.error, NotSubscribed):
        return skipped(Check.LISTING, Check.SUBSCRIPTIONS, subject=subject)
    if served.error is not None:
        return bad(Check.LISTING, served.error.what, fix=cure_of(served.error), subject=subject)
    if served.newest_at is None:
        return good(Check.LISTING, f"none in the last {LISTED_HOURS} h", subject=subject)
    count = "1 blob" if served.blobs == 1 else f"{served.blobs:,} blobs"
    seen = f"{count} on the first page of the last {LISTED_HOURS} h, the newest of "
    return good(Check.LISTING, f"{seen}{served.newest_at:%m-%d %H:%MZ}", subject=subject)


def _named(error: CollectorError | TimeoutError) -> CollectorError:
    return error if isinstance(error, CollectorError) else Unavailable("no answer in time")
