"""How each feed of the settings is reached: its tenant's token, budget and API, and how it is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from m365watch.announcements.api import HealthApi
from m365watch.announcements.graph import Announcements
from m365watch.announcements.poller import HealthMeans
from m365watch.announcements.urls import AnnouncementUrls, Kind
from m365watch.clock import Clock, Random
from m365watch.config.settings import ServiceSettings, TenantSettings
from m365watch.entra.rotation import Applications
from m365watch.entra.session import Session
from m365watch.entra.tokens import TokenSource
from m365watch.errors import CollectorError
from m365watch.expiry.graph import read_registration
from m365watch.expiry.registration import Registration
from m365watch.feed.api import ManagementApi
from m365watch.feed.budget import RequestBudget
from m365watch.feed.limited import LimitedBudget
from m365watch.feed.poller import PollSettings
from m365watch.feed.port import Api
from m365watch.feed.subscriptions import SubscriptionKeeper
from m365watch.feed.tries import TenantAccess
from m365watch.model import Feed, GraphContent, Service, TenantId
from m365watch.records.masking import Masker
from m365watch.records.routing import UNION_TABLE
from m365watch.records.treatment import Treatment
from m365watch.recovery.kept import KeptPages, KeptPagesApi
from m365watch.recovery.queries import AuditQueries
from m365watch.recovery.urls import GraphUrls


@dataclass(frozen=True, slots=True)
class ReachedFeed:
    """A feed, how its tenant is reached, and how it is polled."""

    access: TenantAccess
    polling: PollSettings
    treatment: Treatment
    health: HealthMeans | None = None
    """How a feed of Graph's announcements is looked at; None: the Management Activity API lists it."""


@dataclass(frozen=True, slots=True)
class KeptAnnouncements:
    """Where the bodies of announcements lie, and how those that are final are removed."""

    pages: KeptPages
    sweep: Callable[[TenantId], None]


@dataclass(frozen=True, slots=True)
class ReachedTenant:
    """A tenant's token, its API, and Graph's announcements, whose tokens are their own."""

    tokens: TokenSource
    api: ManagementApi
    announcements: Announcements


def reach_tenant(
    tenant: TenantSettings,
    session: Session,
    *,
    budget: RequestBudget,
    clock: Clock,
    random: Random,
    on_request: Callable[[str], None] = lambda _: None,
    applications: Applications | None = None,
) -> ReachedTenant:
    """One tenant's token and API, within `budget`; nothing is asked for yet.

    All are reached as the tenant's `network` says. Tenants that are reached with the same `applications`
    share what their application proves itself with.
    """
    session = session.over(tenant.network)
    applications = applications or Applications(session, clock)
    tokens = TokenSource(
        session,
        tenant.cloud,
        tenant_id=tenant.tenant_id,
        credentials=applications.of(tenant),
        clock=clock,
    )
    api = ManagementApi(
        session, tenant, tokens=tokens, budget=budget, clock=clock, random=random, on_request=on_request
    )
    announcements = Announcements(
        session,
        AnnouncementUrls(tenant.cloud.graph_url),
        feed=Feed(tenant.tenant_id, GraphContent.SERVICE_HEALTH),
        tokens=_graph_tokens(tenant, session, clock, applications),
        budget=RequestBudget(_health_limit(tenant), clock),
        clock=clock,
        random=random,
        on_request=on_request,
    )
    return ReachedTenant(tokens, api, announcements)


def reach_feeds(
    tenants: Sequence[TenantSettings],
    session: Session,
    *,
    clock: Clock,
    random: Random,
    on_request: Callable[[str], None],
    pages: KeptPages,
    announced: KeptAnnouncements,
    applications: Applications | None = None,
) -> dict[Feed, ReachedFeed]:
    """Every feed of the settings; `on_request` hears on whose behalf each request is made.

    Recovered blobs that are not final yet are answered from `pages`; those of announcements are kept in
    `announced`. What else asks for tokens in the same run shares `applications`.
    """
    limits = _feed_limits(tenants)
    applications = applications or Applications(session, clock)
    budgets: dict[TenantId, RequestBudget] = {}
    feeds = {}
    for tenant in tenants:
        # Two inputs may share a tenant, and the service counts per tenant.
        budget = budgets.setdefault(
            tenant.tenant_id,
            LimitedBudget(tenant.requests_per_minute, clock, limits=limits[tenant.tenant_id]),
        )
        reached = reach_tenant(
            tenant,
            session,
            budget=budget,
            clock=clock,
            random=random,
            on_request=on_request,
            applications=applications,
        )
        access = TenantAccess(KeptPagesApi(reached.api, pages), SubscriptionKeeper(reached.api, clock))
        feeds.update(_feeds_of(tenant, access, clock))
        for service in tenant.services:
            if service.service.content is GraphContent.SERVICE_HEALTH:
                feed = reached.announcements.feed
                feeds[feed] = _reached_health(tenant, service, reached.announcements, announced, clock)
    return feeds


def _reached_health(
    tenant: TenantSettings,
    service: ServiceSettings,
    announcements: Announcements,
    announced: KeptAnnouncements,
    clock: Clock,
) -> ReachedFeed:
    kinds = [Kind(name) for name in service.announcements] or list(Kind)
    api = HealthApi(tenant.tenant_id, announcements, announced.pages, asks=kinds)
    return ReachedFeed(
        TenantAccess(api, SubscriptionKeeper(api, clock)),
        PollSettings(service.start_at, timedelta(), service.request_period_s),
        _treatment(service, tenant, clock, override_tag=service.override_tag or UNION_TABLE),
        HealthMeans(
            announcements, frozenset(kinds), announced.pages, partial(announced.sweep, tenant.tenant_id)
        ),
    )


async def find_refusals(feeds: Iterable[ReachedFeed]) -> list[CollectorError]:
    """What asking each tenant for a token and for its subscriptions failed with."""
    apis = dict.fromkeys(reached.access.api for reached in feeds)
    found = await asyncio.gather(*map(_refusal_of, apis))
    return [error for error in found if error is not None]


async def _refusal_of(api: Api) -> CollectorError | None:
    try:
        await api.enabled_subscriptions()
    except CollectorError as error:
        return error
    return None


def reach_queries(tenant: TenantSettings, session: Session, *, clock: Clock) -> AuditQueries:
    """The tenant's audit log queries; their token is for Graph, and goes nowhere else."""
    session = session.over(tenant.network)
    urls, tokens = GraphUrls(tenant.cloud.graph_url), _graph_tokens(tenant, session, clock)
    return AuditQueries(session, urls, tenant_id=tenant.tenant_id, tokens=tokens, clock=clock)


async def ask_registration(
    tenant: TenantSettings, session: Session, *, clock: Clock, applications: Applications | None = None
) -> Registration:
    """What the tenant's Graph keeps of its application's credentials; see `read_registration`.

    With `applications`, what does not work is told once by all who share them.
    """
    session = session.over(tenant.network)
    tokens = _graph_tokens(tenant, session, clock, applications)
    return await read_registration(session, tenant, tokens=tokens, clock=clock)


def _graph_tokens(
    tenant: TenantSettings, session: Session, clock: Clock, applications: Applications | None = None
) -> TokenSource:
    """The tenant's tokens for Graph, which are good nowhere else."""
    return TokenSource(
        session,
        replace(tenant.cloud, audience=tenant.cloud.graph_url),
        tenant_id=tenant.tenant_id,
        credentials=(applications or Applications(session, clock)).of(tenant),
        clock=clock,
    )


def _feeds_of(tenant: TenantSettings, access: TenantAccess, clock: Clock) -> dict[Feed, ReachedFeed]:
    lookback = timedelta(seconds=tenant.lookback_s)
    return {
        Feed(tenant.tenant_id, content_type): ReachedFeed(
            access,
            PollSettings(service.start_at, lookback, service.request_period_s),
            _treatment(service, tenant, clock, override_tag=service.override_tag),
        )
        for service in tenant.services
        if (content_type := service.service.content_type) is not None
    }


def _treatment(
    service: ServiceSettings, tenant: TenantSettings, clock: Clock, *, override_tag: str | None
) -> Treatment:
    masker = Masker(service.masks, clock=clock) if service.masks else None
    return Treatment(override_tag, tenant.environment, masker)


def _health_limit(tenant: TenantSettings) -> int | None:
    """The limit of `service_health`; the tenant's budget is for the Management Activity API alone."""
    limits = [one.requests_per_minute for one in tenant.services if one.service is Service.SERVICE_HEALTH]
    return limits[0] if limits else None


def _feed_limits(tenants: Sequence[TenantSettings]) -> dict[TenantId, dict[str, int]]:
    """The services' own limits of each tenant, by the names that their feeds have in its budget."""
    limits: dict[TenantId, dict[str, int]] = {tenant.tenant_id: {} for tenant in tenants}
    for tenant in tenants:
        for service in tenant.services:
            content_type, limit = service.service.content_type, service.requests_per_minute
            if content_type is not None and limit is not None:
                limits[tenant.tenant_id][str(Feed(tenant.tenant_id, content_type))] = limit
    return limits
