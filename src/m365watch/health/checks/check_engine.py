"""Looks at one tenant's way from end to end, and stops at the first step that is broken.

It sends few requests: one to each host, one for a token, one for the list of subscriptions, and for each
feed the first page of the newest day with content. It changes nothing, neither there nor in the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, LedgerUnusable
from m365watch.common.model import ContentType, Feed, Service, Window
from m365watch.common.progress import FeedProgress
from m365watch.config.models.settings import ServiceSettings, Settings, TenantSettings
from m365watch.health.checks import delivery_checks as collected
from m365watch.health.checks import reachable
from m365watch.health.checks.access_checks import Api
from m365watch.health.checks.credentials import judge_token
from m365watch.health.checks.ledger_view import LedgerView, view_ledger
from m365watch.health.checks.network_checks import Seen, Way, judge_proxy, look, look_up, way_to
from m365watch.health.checks.tenant_checks import Served, judge_audit, judge_served, judge_subscriptions
from m365watch.health.collector_status import fault_of_lake
from m365watch.http.session import Session
from m365watch.outputs.lake.spec import LakeSettings
from m365watch.registry.checks import Diagnosis, Finding, Step, Verdict, broken, joined, ok
from m365watch.sources.factory import ReachedTenant
from m365watch.sources.service_health.urls import Kind

if TYPE_CHECKING:
    from m365watch.lake.integrity_errors import Cause

DAYS_LISTED = 7
"""How many days are listed, the newest first, until one has content."""
_DAY = timedelta(days=1)
_EDGE = timedelta(minutes=5)
"""How far inside the 7 days the oldest window stays."""


@dataclass(frozen=True, slots=True)
class Means:
    """What an examination works with."""

    settings: Settings
    session: Session
    clock: Clock
    reach: Callable[[TenantSettings], ReachedTenant]


async def examine(means: Means, tenant: TenantSettings, *, service: Service | None) -> Diagnosis:
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
    def __init__(self, means: Means, tenant: TenantSettings, wanted: Service | None) -> None:
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
        finding, services = reachable.judge_settings(self._tenant, self._wanted, now)
        yield finding
        if not services:
            return
        is_health = services[0].service is Service.SERVICE_HEALTH
        cloud = self._tenant.cloud
        urls = [cloud.login_url, cloud.graph_url if is_health else cloud.management_url]
        ways = list(dict.fromkeys(way_to(url, self._tenant.network) for url in urls))
        yield self._proxy(ways)
        yield await self._dns(ways)
        yield await self._tls(ways)
        said = next((seen for seen in self._seen if seen.date), self._seen[0])
        yield reachable.judge_clock(said.date, said.at or self._means.clock.now())
        reached = self._means.reach(self._tenant)
        try:
            token = await (reached.announcements.tokens if is_health else reached.tokens).current()
        except CollectorError as error:
            yield reachable.judge_failure(Step.TOKEN, error)
            return
        yield await asyncio.to_thread(judge_token, self._means.settings, self._tenant, now)
        api = Api.GRAPH if is_health else Api.MANAGEMENT
        for finding in reachable.judge_claims(reachable.claims_of(token), self._tenant, services, api):
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
            yield reachable.judge_failure(Step.SUBSCRIPTIONS, failure)
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
            return reachable.judge_failure(Step.SERVED, error)
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
        lakes = [one for one in self._means.settings.outputs if isinstance(one, LakeSettings)]
        found = ((one.name, fault_of_lake(self._means.settings, one.directory)) for one in lakes)
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
