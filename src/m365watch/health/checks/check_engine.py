"""Looks at one tenant's way from end to end, and stops at the first step that is broken.

It sends few requests: one to each host, one for a token, one for the list of subscriptions, and for each
feed the first page of the newest day with content. It changes nothing, neither there nor in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from m365watch.auth.app_registration import Registration
from m365watch.auth.permissions import Api, claims_of
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError, LedgerUnusable, SettingsRefused
from m365watch.common.model import ContentType, Feed, Service, Window
from m365watch.common.progress import FeedProgress
from m365watch.config.models.settings import ServiceSettings, Settings, TenantSettings
from m365watch.health.checks import access_checks
from m365watch.health.checks import delivery_checks as collected
from m365watch.health.checks.check_specs import (
    FreeBytes,
    MachineContext,
    Surface,
    by_rank,
    free_bytes,
    trouble_for,
)
from m365watch.health.checks.credentials import Reach, Registrations, judge_token
from m365watch.health.checks.delivery_checks import LedgerView, view_ledger
from m365watch.health.checks.network_checks import (
    Network,
    Seen,
    Way,
    judge_proxy,
    look,
    look_up,
    way_to,
    ways_of,
)
from m365watch.health.checks.output_checks import check_context, check_output
from m365watch.health.checks.specs.response import ResponseMeans
from m365watch.health.checks.tenant_checks import (
    Served,
    TenantMeans,
    check_tenant,
    judge_audit,
    judge_served,
    judge_subscriptions,
)
from m365watch.health.collector_status import fault_of_lake
from m365watch.http.client import Session
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.notifications.factory import make_sender, unknown_rules
from m365watch.outputs.factory import refuse_to_make
from m365watch.outputs.lake.spec import LakeSection
from m365watch.registry.channel_specs import ChannelContext
from m365watch.registry.checks import (
    Check,
    Checked,
    Diagnosis,
    Finding,
    Group,
    Place,
    Preflight,
    Step,
    Verdict,
    all_skipped,
    bad,
    broken,
    joined,
    odd,
    ok,
)
from m365watch.sources.factory import ReachedTenant, ask_registration, reach_tenant
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.service_health.service_health_client import Kind

if TYPE_CHECKING:
    from m365watch.lake.integrity_errors import Cause


_RULES = "correct its `rules`: `m365watch rules list` names the rules"


def _file(settings: Settings) -> list[Checked]:
    """That nobody is told of alerts, where the file of notifications cannot be read; it stays as it is."""
    from m365watch.notifications.channel_status import look_at_standings

    fault = None
    if settings.keeps_state:
        names = [one.name for one in settings.detections.channels]
        fault = look_at_standings(settings.state_directory, names, now_ms=0).fault
    if fault is None:
        return []
    fix = fault.fix or "see who else has it open"
    return [bad(Check.NOTIFICATION, f"{fault.where}: {fault.what}", fix=fix)]


async def check_notifications(
    settings: Settings, context: ChannelContext, *, limit_s: float
) -> list[Checked]:
    """One step for each channel; nobody is paged by it."""
    channels = settings.detections.channels if settings.detections.enabled else ()
    if not channels:
        return []
    from m365watch.notifications.channel_check import check_channel

    made = [(channel, make_sender(channel, context)) for channel in channels]
    found = await asyncio.gather(*(check_channel(*one, limit_s=limit_s) for one in made))
    for _, sender in made:
        with suppress(CollectorError):
            await sender.close()
    file = await asyncio.to_thread(_file, settings)
    unknown = await asyncio.to_thread(unknown_rules, settings.detections)
    notes = [
        odd(Check.NOTIFICATION, f"no rule in force is called {', '.join(words)}", fix=_RULES, subject=name)
        for name, words in unknown.items()
    ]
    return [*file, *notes, *found]


T = TypeVar("T")

TENANTS_AT_ONCE = 12
"""More would only queue up for the connections, and their time-outs with them."""


@dataclass(slots=True)
class Progress:
    """How far it is; for whoever watches."""

    total: int
    """Groups in all."""
    done: int = 0
    under_way: dict[str, str] = field(default_factory=dict)
    """What is looked at now, each with the step that it is at; empty where it is a single one."""

    @property
    def words(self) -> str:
        """`3 of 12 done: tenant 41463f53-... of office365, token; the outputs`."""
        named = [f"{what}, {step}" if step else what for what, step in self.under_way.items()]
        more = f" and {len(named) - 2} more" if len(named) > 2 else ""
        return f"{self.done} of {self.total} done: {'; '.join(named[:2]) or 'the rest'}{more}"


@dataclass(frozen=True, slots=True)
class Means:
    """What a preflight works with."""

    settings: Settings
    session: Session
    clock: Clock
    random: Random
    limit_s: float
    """How long one answer may take."""
    free: FreeBytes = free_bytes


def tenants_named(settings: Settings, parts: Sequence[str]) -> tuple[list[TenantSettings], list[str]]:
    """The tenants whose id has one of `parts` in it (all, where none is given); the parts that none has."""
    wanted = [part.lower() for part in parts]
    found = [one for one in settings.tenants if not wanted or any(part in one.tenant_id for part in wanted)]
    return found, [part for part in parts if not any(part.lower() in one.tenant_id for one in found)]


async def check_all(
    means: Means, tenants: Sequence[TenantSettings], progress: Progress
) -> AsyncGenerator[Group, None]:
    """One group after the other in their order, each as soon as it is known."""
    settings = means.settings
    outputs = asyncio.create_task(_outputs(means, progress))
    waiting: list[asyncio.Task[Group]] = [outputs]
    try:
        yield await _told(progress, "this machine", _machine(means))
        network = Network(means.session, means.clock, limit_s=means.limit_s)
        looked = network.look(ways_of(tenants))
        yield Group(Place.NETWORK, steps=tuple(await _told(progress, "the network", looked)))
        reaching = TenantMeans(
            means.clock,
            _reach_with(means),
            _registrations_with(means),
            network,
            settings.state_directory / LEDGER_FILE,
            means.limit_s,
            response=_responding_with(means),
        )
        turns = asyncio.Semaphore(TENANTS_AT_ONCE)
        found = [asyncio.create_task(_tenant(reaching, one, turns, progress)) for one in tenants]
        waiting += found
        for task in found:
            yield await task
        if settings.outputs:
            yield await outputs
    finally:
        for task in waiting:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def refused(error: SettingsRefused) -> Preflight:
    """A preflight whose configuration cannot be used: every mistake is told, and nothing else looked at."""
    place = f"{error.where}: " if error.where else ""
    steps = [bad(Check.CONFIGURATION, f"{place}{mistake}", fix=error.fix) for mistake in error.mistakes]
    left = [check for check in Check if check is not Check.CONFIGURATION]
    group = Group(Place.MACHINE, steps=(*steps, *all_skipped(left, Check.CONFIGURATION)))
    return Preflight([group], is_refused=True)


async def _machine(means: Means) -> Group:
    context = MachineContext(means.settings, means.clock, means.free)

    def look() -> tuple[Checked, ...]:
        return tuple(chain.from_iterable(spec.look(context) for spec in by_rank()))

    return Group(Place.MACHINE, steps=await asyncio.to_thread(look))


async def _outputs(means: Means, progress: Progress) -> Group:
    settings = means.settings
    ledger = settings.state_directory / LEDGER_FILE if settings.keeps_state else None
    context = check_context(
        means.clock,
        means.session,
        limit_s=means.limit_s,
        ledger=ledger,
        collector=settings.collector_name,
    )
    channels = ChannelContext(
        means.session, means.clock, means.random, settings.collector_name, settings.outputs, refuse_to_make
    )
    found = asyncio.gather(
        *(check_output(context, one) for one in settings.outputs),
        check_notifications(settings, channels, limit_s=means.limit_s),
    )
    return Group(Place.OUTPUTS, steps=tuple(chain.from_iterable(await _told(progress, "the outputs", found))))


async def _tenant(
    means: TenantMeans, tenant: TenantSettings, turns: asyncio.Semaphore, progress: Progress
) -> Group:
    what = f"tenant {tenant.tenant_id} of {tenant.input_name}"

    def tell(check: Check) -> None:
        progress.under_way[what] = str(check)

    async with turns:
        return await _told(progress, what, check_tenant(means, tenant, tell))


def _responding_with(means: Means) -> ResponseMeans | None:
    response = means.settings.detections.responder
    if response is None:
        return None
    return ResponseMeans(response, means.session, means.clock, means.limit_s)


def _reach_with(means: Means) -> Reach:
    def reach(tenant: TenantSettings) -> ReachedTenant:
        budget = RequestBudget(tenant.requests_per_minute, means.clock)
        return reach_tenant(tenant, means.session, budget=budget, clock=means.clock, random=means.random)

    return reach


def _registrations_with(means: Means) -> Registrations:
    def ask(tenant: TenantSettings) -> Awaitable[Registration]:
        return ask_registration(tenant, means.session, clock=means.clock)

    return Registrations(ask, clock=means.clock, limit_s=means.limit_s)


async def _told(progress: Progress, what: str, looking: Awaitable[T]) -> T:
    """What `looking` comes to, under way for whoever watches."""
    progress.under_way[what] = ""
    try:
        return await looking
    finally:
        progress.under_way.pop(what, None)
        progress.done += 1


DAYS_LISTED = 7
"""How many days are listed, the newest first, until one has content."""
_DAY = timedelta(days=1)
_EDGE = timedelta(minutes=5)
"""How far inside the 7 days the oldest window stays."""


@dataclass(frozen=True, slots=True)
class DiagnosisMeans:
    """What an examination works with."""

    settings: Settings
    session: Session
    clock: Clock
    reach: Callable[[TenantSettings], ReachedTenant]


async def examine(means: DiagnosisMeans, tenant: TenantSettings, *, service: Service | None) -> Diagnosis:
    """The findings for `tenant`, up to the first broken step; of `service` alone where one is named."""
    examination = _Examination(means, tenant, service)
    diagnosis = Diagnosis(tenant.tenant_id)
    async with aclosing(examination.findings()) as findings:
        async for finding in findings:
            diagnosis.findings.append(finding)
            if diagnosis.is_broken:
                return diagnosis
    diagnosis.next = examination.next
    return diagnosis


class _Examination:
    def __init__(self, means: DiagnosisMeans, tenant: TenantSettings, wanted: Service | None) -> None:
        self._means = means
        self._tenant = tenant
        self._wanted = wanted
        self._seen: list[Seen] = []
        self._served: dict[ContentType, Served] = {}
        self._unusable: LedgerUnusable | None = None
        self.next = ""

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """One finding after the other; whoever listens stops at the first that is broken."""
        now = self._means.clock.now()
        finding, services = access_checks.judge_settings(self._tenant, self._wanted, now)
        yield finding
        if not services:
            return
        found = await asyncio.to_thread(trouble_for, Surface.WHY, self._means.settings, self._means.clock)
        for step in chain.from_iterable(found.values()):
            yield Finding(step.check, step.verdict, step.told, step.fix)
        is_health = services[0].service is Service.SERVICE_HEALTH
        cloud = self._tenant.cloud
        urls = [cloud.login_url, cloud.graph_url if is_health else cloud.management_url]
        ways = list(dict.fromkeys(way_to(url, self._tenant.network) for url in urls))
        yield self._proxy(ways)
        yield await self._dns(ways)
        yield await self._tls(ways)
        said = next((seen for seen in self._seen if seen.date), self._seen[0])
        yield access_checks.judge_clock(said.date, said.at or self._means.clock.now())
        reached = self._means.reach(self._tenant)
        try:
            token = await (reached.announcements.tokens if is_health else reached.tokens).current()
        except CollectorError as error:
            yield access_checks.judge_failure(Step.TOKEN, error)
            return
        yield await asyncio.to_thread(judge_token, self._means.settings, self._tenant, now)
        api = Api.GRAPH if is_health else Api.MANAGEMENT
        for finding in access_checks.judge_claims(claims_of(token), self._tenant, services, api):
            yield finding
        view = self._view(services)
        if is_health:
            yield await self._announced(reached, services[0])
        else:
            async for finding in self._content(reached, services, feeds=view.feeds if view else ()):
                yield finding
        faults = {} if view is None else await asyncio.to_thread(self._faults)
        for finding in self._collected(services, view, faults):
            yield finding

    def _proxy(self, ways: Sequence[Way]) -> Finding:
        return joined(Step.PROXY, [judge_proxy(way) for way in ways])

    async def _dns(self, ways: Sequence[Way]) -> Finding:
        """Each host's name; the first that cannot be resolved is told."""
        return joined(Step.DNS, [await look_up(way) for way in ways])

    async def _tls(self, ways: Sequence[Way]) -> Finding:
        """A request to each host, up to the first that cannot be reached."""
        found = []
        for way in ways:
            seen = await look(self._means.session, way, self._means.clock)
            found.append(seen.finding)
            if seen.finding.verdict is Verdict.BROKEN:
                break
            self._seen.append(seen)
        return joined(Step.TLS, found)

    async def _content(
        self,
        reached: ReachedTenant,
        services: Sequence[ServiceSettings],
        *,
        feeds: Sequence[FeedProgress],
    ) -> AsyncGenerator[Finding, None]:
        """Audit, subscriptions and content, as the service says now."""
        wanted = [one.service.content_type for one in services if one.service.content_type is not None]
        subscriptions: frozenset[ContentType] = frozenset()
        failure: CollectorError | None = None
        try:
            subscriptions = await reached.api.enabled_subscriptions()
            for content_type in wanted:
                self._served[content_type] = await self._listed_now(reached, content_type)
        except CollectorError as error:
            failure = error
            self._served = {one: Served(error=error) for one in wanted}
        yield judge_audit(self._served, feeds)
        if failure is not None:
            yield access_checks.judge_failure(Step.SUBSCRIPTIONS, failure)
            return
        yield judge_subscriptions(subscriptions, wanted, self._served)
        yield judge_served(self._served)

    async def _announced(self, reached: ReachedTenant, service: ServiceSettings) -> Finding:
        """What Graph announces now: the first page of each kind."""
        counts = []
        try:
            for kind in map(Kind, service.announcements):
                async for page in reached.announcements.pages(kind):
                    counts.append(f"{len(page):,} {kind}")
                    break
        except CollectorError as error:
            return access_checks.judge_failure(Step.SERVED, error)
        return ok(Step.SERVED, f"{', '.join(counts)} on the first pages")

    async def _listed_now(self, reached: ReachedTenant, content_type: ContentType) -> Served:
        """The first page of the newest day that has content."""
        end = self._means.clock.now().replace(microsecond=0)
        for day in range(DAYS_LISTED):
            start = end - (day + 1) * _DAY + (_EDGE if day == DAYS_LISTED - 1 else timedelta())
            pages = reached.api.list_content(content_type, Window(start, end - day * _DAY))
            try:
                async for blobs in pages:
                    if blobs:
                        return Served(len(blobs), max(blob.created_at for blob in blobs))
            except CollectorError as error:
                return Served(error=error)
        return Served()

    def _view(self, services: Sequence[ServiceSettings]) -> LedgerView | None:
        """What the ledger says of the feeds that are looked at; None where there is none yet."""
        types = [one.service.content for one in services]
        feeds = {Feed(self._tenant.tenant_id, one) for one in types if one is not None}
        try:
            return view_ledger(self._means.settings, feeds, now=self._means.clock.now())
        except LedgerUnusable as error:
            self._unusable = error
            return None

    def _faults(self) -> dict[str, Cause]:
        """By output, what is wrong with the logs of lakes."""
        lakes = [one for one in self._means.settings.outputs if isinstance(one, LakeSection)]
        found = ((one.name, fault_of_lake(self._means.settings, one.folder)) for one in lakes)
        return {name: fault for name, fault in found if fault is not None}

    def _collected(
        self, services: Sequence[ServiceSettings], view: LedgerView | None, faults: Mapping[str, Cause]
    ) -> Iterator[Finding]:
        """What became of it in the collector, from the ledger and, of lakes, from their logs."""
        if view is None:
            error = self._unusable
            fix = error.fix if error else "start the collector with `m365watch run` first"
            yield broken(Step.LISTED, error.what if error else "there is no ledger yet", fix=fix)
            return
        now = self._means.clock.now()
        yield collected.judge_listed(view.feeds, self._served, services, now)
        yield collected.judge_fetched(view.overview, view.feeds)
        yield collected.judge_duplicates(view.feeds)
        tables = collected.tables_of(self._tenant.tenant_id, services, view.workloads)
        yield collected.judge_routed(services, tables)
        names = [output.name for output in self._means.settings.outputs]
        yield from collected.judge_delivered(names, view.last_batches, view.outputs, faults)
        self.next = collected.next_place(tables, view.overview.delivered_at, now)
