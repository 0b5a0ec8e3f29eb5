"""How each feed of the settings is reached: its tenant's token, budget and API, and how it is polled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from m365watch.auth.app_registration import Registration, read_registration
from m365watch.auth.rotation import Applications
from m365watch.auth.tokens import TokenSource
from m365watch.common.clock import Clock, Random, thread_cpu_s
from m365watch.common.errors import CollectorError
from m365watch.common.model import Feed, GraphContent, Service, TenantId
from m365watch.common.secret import Secret
from m365watch.config.models.settings import ServiceSettings, TenantSettings
from m365watch.config.models.webhook import WebhookSection
from m365watch.http.client import Session
from m365watch.records.routing import UNION_TABLE, Treatment
from m365watch.registry.ports import Api
from m365watch.sources.audit_search.audit_search_client import AuditQueries, GraphUrls
from m365watch.sources.management_api.fetch_attempts import TenantAccess
from m365watch.sources.management_api.management_api_client import ManagementApi
from m365watch.sources.management_api.request_budget import LimitedBudget, RequestBudget
from m365watch.sources.management_api.service_clock import ServiceClock
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper, WebhookAsk, WebhookKeeper
from m365watch.sources.page_spool import KeptPages, KeptPagesApi
from m365watch.sources.poll_loop import PollSettings
from m365watch.sources.service_health.health_poller import HealthApi, HealthMeans
from m365watch.sources.service_health.service_health_client import Announcements, AnnouncementUrls, Kind


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
    on_throttled: Callable[[str], None] = lambda _: None,
    on_token: Callable[[str], None] = lambda _: None,
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
        on_token=on_token,
    )
    api = ManagementApi(
        session,
        tenant,
        tokens=tokens,
        budget=budget,
        clock=clock,
        random=random,
        on_request=on_request,
        on_throttled=on_throttled,
    )
    announcements = _reach_announcements(
        tenant, session, clock=clock, random=random, on_request=on_request, applications=applications
    )
    return ReachedTenant(tokens, api, announcements)


def _reach_announcements(
    tenant: TenantSettings,
    session: Session,
    *,
    clock: Clock,
    random: Random,
    on_request: Callable[[str], None],
    applications: Applications,
) -> Announcements:
    """The tenant's announcements; `session` is already that of its network."""
    return Announcements(
        session,
        AnnouncementUrls(tenant.cloud.graph_url),
        feed=Feed(tenant.tenant_id, GraphContent.SERVICE_HEALTH),
        tokens=_graph_tokens(tenant, session, clock, applications),
        budget=RequestBudget(_health_limit(tenant), clock),
        clock=clock,
        random=random,
        on_request=on_request,
    )


class Reach:
    """How the feeds of a run are reached; what a changed configuration leaves as it was is kept.

    A tenant that keeps its settings keeps its token, its places and its connections, and every tenant keeps
    the account of the requests that were made for it.
    """

    def __init__(
        self,
        session: Session,
        *,
        clock: Clock,
        random: Random,
        on_request: Callable[[str], None],
        on_throttled: Callable[[str], None] = lambda _: None,
        on_token: Callable[[TenantSettings, str], None] = lambda _, __: None,
        pages: KeptPages,
        announced: KeptAnnouncements,
        applications: Applications | None = None,
        webhook: WebhookSection | None = None,
    ) -> None:
        """`on_request` hears on whose behalf each request is made, `on_throttled` whose were too many.

        `on_token` gets each tenant's new tokens for the Management API.

        Recovered blobs that are not final yet are answered from `pages`; those of announcements are kept in
        `announced`. What else asks for tokens in the same run shares `applications`. With `webhook`,
        subscriptions are started so that Microsoft notifies it.
        """
        self._webhook = webhook
        self._session = session
        self._clock = clock
        self._random = random
        self._on_request = on_request
        self._on_throttled = on_throttled
        self._on_token = on_token
        self._pages = pages
        self._announced = announced
        self._applications = applications or Applications(session, clock)
        self._budgets: dict[TenantId, LimitedBudget] = {}
        self._access: dict[TenantSettings, TenantAccess] = {}
        self._tenants: dict[TenantSettings, TenantSettings] = {}
        self._reached: dict[Feed, tuple[TenantSettings, ServiceSettings, ReachedFeed]] = {}

    def feeds(self, tenants: Sequence[TenantSettings]) -> dict[Feed, ReachedFeed]:
        """Every feed of `tenants`; one whose settings are those of the last time is the very same."""
        self._limit(tenants)
        access, reached = {}, {}
        for tenant in tenants:
            alone = replace(tenant, services=())
            self._tenants[alone] = tenant
            access[alone] = self._access.get(alone) or self._reach(alone)
            for service in tenant.services:
                if (content := service.service.content) is not None:
                    feed = Feed(tenant.tenant_id, content)
                    reached[feed] = self._feed(feed, alone, service, access[alone])
        self._access, self._reached = access, reached
        return {feed: one for feed, (_, _, one) in reached.items()}

    def _limit(self, tenants: Sequence[TenantSettings]) -> None:
        """One budget a tenant, whatever inputs it has: the service counts per tenant."""
        limits = _feed_limits(tenants)
        # Of several inputs the first one's limit holds.
        rates = {tenant.tenant_id: tenant.requests_per_minute for tenant in reversed(tenants)}
        for tenant_id, rate in rates.items():
            budget = self._budgets.get(tenant_id)
            if budget is None:
                self._budgets[tenant_id] = LimitedBudget(rate, self._clock, limits=limits[tenant_id])
            else:
                budget.change_all(rate, limits=limits[tenant_id])

    def _reach(self, tenant: TenantSettings) -> TenantAccess:
        reached = reach_tenant(
            tenant,
            self._session,
            budget=self._budgets[tenant.tenant_id],
            clock=self._clock,
            random=self._random,
            on_request=self._on_request,
            on_throttled=self._on_throttled,
            on_token=lambda token: self._on_token(self._tenants[tenant], token),
            applications=self._applications,
        )
        api = KeptPagesApi(reached.api, self._pages)
        return TenantAccess(api, _keeper(tenant.tenant_id, reached.api, self._webhook), reached.api.clock)

    def _feed(
        self, feed: Feed, tenant: TenantSettings, service: ServiceSettings, access: TenantAccess
    ) -> tuple[TenantSettings, ServiceSettings, ReachedFeed]:
        known = self._reached.get(feed)
        if known is not None and known[:2] == (tenant, service):
            return known
        if service.service.content is GraphContent.SERVICE_HEALTH:
            return tenant, service, self._health(tenant, service)
        return tenant, service, _reached_feed(tenant, service, access)

    def _health(self, tenant: TenantSettings, service: ServiceSettings) -> ReachedFeed:
        announcements = _reach_announcements(
            replace(tenant, services=(service,)),
            self._session.over(tenant.network),
            clock=self._clock,
            random=self._random,
            on_request=self._on_request,
            applications=self._applications,
        )
        return _reached_health(tenant, service, announcements, self._announced, self._clock)


def reach_feeds(
    tenants: Sequence[TenantSettings],
    session: Session,
    *,
    clock: Clock,
    random: Random,
    on_request: Callable[[str], None],
    pages: KeptPages,
    announced: KeptAnnouncements,
) -> dict[Feed, ReachedFeed]:
    """Every feed of the settings, for a run whose configuration does not change; see `Reach`."""
    reach = Reach(
        session, clock=clock, random=random, on_request=on_request, pages=pages, announced=announced
    )
    return reach.feeds(tenants)


def _keeper(tenant_id: TenantId, api: ManagementApi, webhook: WebhookSection | None) -> SubscriptionKeeper:
    if webhook is None:
        return SubscriptionKeeper(api, api.clock)
    auth_id = Secret(webhook.auth_id.get_secret_value())
    return WebhookKeeper(api, WebhookAsk(f"{webhook.address}/{tenant_id}", auth_id), api.clock)


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
        TenantAccess(api, SubscriptionKeeper(api, clock), ServiceClock(clock)),
        PollSettings(service.start_at, timedelta(), service.request_period_s),
        _treatment(service, tenant, override_tag=service.override_tag or UNION_TABLE),
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


def _reached_feed(tenant: TenantSettings, service: ServiceSettings, access: TenantAccess) -> ReachedFeed:
    lookback = timedelta(seconds=tenant.lookback_s)
    return ReachedFeed(
        access,
        PollSettings(service.start_at, lookback, service.request_period_s),
        _treatment(service, tenant, override_tag=service.override_tag),
    )


def _treatment(service: ServiceSettings, tenant: TenantSettings, *, override_tag: str | None) -> Treatment:
    if not service.masks:
        return Treatment(override_tag, tenant.environment)
    # What masks is loaded only where something is masked.
    from m365watch.records.masking import Masker

    return Treatment(override_tag, tenant.environment, Masker(service.masks, spent_s=thread_cpu_s))


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
