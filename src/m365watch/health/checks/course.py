"""The whole preflight: this machine, the network, each tenant, the outputs; tenants several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from m365watch.auth.registration import Registration
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import SettingsRefused
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.health.checks.credentials import Reach, Registrations
from m365watch.health.checks.machine_checks import (
    FreeBytes,
    check_configuration,
    check_confinement,
    check_disks,
    check_permissions,
    check_state,
    free_bytes,
)
from m365watch.health.checks.network import Network, ways_of
from m365watch.health.checks.notifications import check_notifications
from m365watch.health.checks.output_checks import check_context, check_output
from m365watch.health.checks.response_checks import ResponseMeans
from m365watch.health.checks.tenant import TenantMeans, check_tenant
from m365watch.health.checks.webhook import check_webhook
from m365watch.http.session import Session
from m365watch.ledger.sqlite import LEDGER_FILE
from m365watch.notifications.factory import NotifyingMeans
from m365watch.outputs.factory import refuse_to_make
from m365watch.registry.report import Check, Checked, Group, Place, Preflight, all_skipped, bad
from m365watch.sources.factory import ReachedTenant, ask_registration, reach_tenant
from m365watch.sources.management_api.request_budget import RequestBudget

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
    settings = means.settings
    steps = [*check_configuration(settings), *check_permissions(settings), *check_confinement(settings)]
    steps.append(await asyncio.to_thread(check_state, settings))
    steps += await asyncio.to_thread(check_disks, settings, means.free)
    steps += await asyncio.to_thread(check_webhook, settings)
    steps += await asyncio.to_thread(_check_detections, settings, means.clock)
    return Group(Place.MACHINE, steps=tuple(steps))


def _check_detections(settings: Settings, clock: Clock) -> list[Checked]:
    """What reads rules is loaded only where there are any to be read."""
    if not settings.detections.enabled:
        return []
    from m365watch.health.checks.detection_checks import check_detections, check_file
    from m365watch.health.checks.enrichment import check_enrichment

    return [*check_detections(settings), *check_file(settings, clock), *check_enrichment(settings, clock)]


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
    told = NotifyingMeans(means.session, refuse_to_make, means.clock, means.random)
    found = asyncio.gather(
        *(check_output(context, one) for one in means.settings.outputs),
        check_notifications(means.settings, told, limit_s=means.limit_s),
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
    response = means.settings.detections.response
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
