"""A recovery from Graph: built from settings, run to its end, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import SettingsRefused
from m365watch.common.missing_files import memory_name
from m365watch.common.model import ContentType, Feed, Service, TenantId, Window
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.http.client import Session
from m365watch.ledger.limits import HORIZON
from m365watch.ledger.quarantine import forget_memory
from m365watch.ledger.queries import (
    RecoveredSums,
    ledger_for_reading,
    read_missing,
    recovered_sums,
    wanted_bodies,
)
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.outputs.lake.spec import LakeSection
from m365watch.runtime.collector import Collector
from m365watch.runtime.collector_run import Outcome
from m365watch.sources.audit_search.tenant_recovery import RecoveryMeans, TenantRecovery, Witness
from m365watch.sources.factory import ReachedFeed, reach_queries
from m365watch.sources.page_spool import FOLDER, PREFIX, KeptPages, is_recovered
from m365watch.sources.poll_loop import OtherSources, SourceMeans

_NOTHING = RecoveredSums(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class RecoveryAsked:
    """What is to be recovered."""

    period: Window
    """By CreationTime; it may be longer than 24 h."""
    tenants: Collection[str] = ()
    """Ids of tenants or names of inputs; empty: all."""
    services: Collection[Service] = ()
    """Empty: all that the configuration collects."""
    may_repeat: bool = False
    """Whether records may arrive twice where nobody knows any more which of them were delivered."""
    output: str | None = None
    """The lake that alone gets what it lacks; None: every output gets what was delivered to none."""


@dataclass(frozen=True, slots=True)
class ServiceRecovered:
    """What a recovery found of one service of one tenant."""

    feed: Feed
    found: int
    had: int
    """Had been delivered before."""
    new: int
    """Are durable at every output now."""
    unfinished: int
    """Blobs that wait, or whose records are in an output's queue."""
    pieces: int
    """Pieces in quarantine."""


@dataclass(frozen=True, slots=True)
class RecoveryOutcome:
    """How a recovery ended."""

    exit_code: int
    """0 all is delivered; 1 something kept it from its end; 3 some of it waits for an output."""
    services: tuple[ServiceRecovered, ...]
    other: int
    """Records of services that are not collected or were not asked for."""
    queries: int
    pages: int
    went_on: bool
    """Whether it took up an earlier start."""
    problems: tuple[str, ...]
    is_done: bool


class Recovery:
    """One recovery; implements what the command line needs of a collector."""

    def __init__(self, settings: Settings, asked: RecoveryAsked, *, clock: Clock, random: Random) -> None:
        """Nothing is opened yet.

        Raises: SettingsRefused: what is asked for does not fit the settings.
        """
        self._settings = settings
        self._asked = asked
        self._clock = clock
        self._random = random
        if not settings.keeps_state:
            mistake = "persistence.type: a recovery needs a ledger that is kept, and memory keeps none"
            raise SettingsRefused([mistake], where=str(settings.path))
        self._tenants = _chosen_tenants(settings, asked)
        self._witness = _witness(settings, asked.output)
        _require_memory(settings, asked, now=clock.now(), witness=self._witness)
        self._recoveries: list[TenantRecovery] = []
        self.collector = Collector(settings, clock=clock, random=random, only_output=asked.output)

    async def run(self, stop: asyncio.Event) -> RecoveryOutcome:
        """Recover to the end, or until `stop`; the next start with the same arguments goes on.

        Raises: LedgerHeld: a collector is running; LedgerUnusable, OutputUnusable.
        """
        run = await self.collector.run(once=True, stop=stop, instead=self._instead)
        outcome = await asyncio.to_thread(self._outcome, run)
        if outcome.exit_code == 0:
            await asyncio.to_thread(self._end_loss)
        return outcome

    def _end_loss(self) -> None:
        """The lake that was asked for has all again that it lacked, if that was of this period."""
        asked, path = self._asked, self._settings.state_directory / LEDGER_FILE
        if asked.output is None or asked.tenants or asked.services:
            return
        with ledger_for_reading(path) as connection:
            missing = read_missing(connection).get(asked.output)
        if missing is None or missing.files:
            return
        first, last = (datetime.combine(day, time(), UTC) for day in (missing.first_day, missing.last_day))
        if asked.period.start <= first and last + timedelta(days=1) <= asked.period.end:
            forget_memory(path, memory_name(asked.output))

    def _instead(
        self, feeds: Mapping[Feed, ReachedFeed], session: Session
    ) -> tuple[Mapping[Feed, ReachedFeed], OtherSources]:
        tenant_ids = {tenant.tenant_id for tenant in self._tenants}
        types = _content_types(self._asked)
        chosen = {
            feed: reached
            for feed, reached in feeds.items()
            if feed.tenant_id in tenant_ids and feed.content_type in types
        }

        def start(means: SourceMeans) -> Sequence[TenantRecovery]:
            self._recoveries = [self._recovery(tenant, chosen, session, means) for tenant in self._tenants]
            return self._recoveries

        return chosen, OtherSources(start, lambda known: is_recovered(known.ref.content_id))

    def _recovery(
        self,
        tenant: TenantSettings,
        chosen: Mapping[Feed, ReachedFeed],
        session: Session,
        means: SourceMeans,
    ) -> TenantRecovery:
        tenant_id = tenant.tenant_id
        pages = KeptPages(self._settings.state_directory / FOLDER)
        return TenantRecovery(
            tenant_id,
            self._asked.period,
            {feed.audit_type: feed for feed in chosen if feed.tenant_id == tenant_id},
            RecoveryMeans(
                reach_queries(tenant, session, clock=self._clock),
                pages,
                self._witness,
                partial(self._sweep, pages, tenant_id),
                self._clock,
                self._random,
            ),
            means,
        )

    def _sweep(self, pages: KeptPages, tenant_id: TenantId) -> None:
        with ledger_for_reading(self._settings.state_directory / LEDGER_FILE) as connection:
            pages.sweep(tenant_id, wanted=wanted_bodies(connection, tenant_id, prefix=PREFIX))

    def _outcome(self, outcome: Outcome) -> RecoveryOutcome:
        services = [row for recovery in self._recoveries for row in self._sums(recovery)]
        courses = [one.course for one in self._recoveries if one.course is not None]
        problems = [str(one.problem) for one in self._recoveries if one.problem is not None]
        problems += [text for text in outcome.problems if text not in problems]
        is_done = len(courses) == len(self._tenants) and all(course.is_done for course in courses)
        waits = any(row.unfinished for row in services)
        exit_code = 1 if problems or not is_done else 3 if waits else 0
        slices = [one for course in courses for one in course.slices]
        return RecoveryOutcome(
            exit_code,
            tuple(services),
            sum(one.other for one in slices),
            sum(bool(one.query) for one in slices),
            sum(one.pages for one in slices),
            any(one.went_on for one in self._recoveries),
            tuple(problems),
            is_done,
        )

    def _sums(self, recovery: TenantRecovery) -> list[ServiceRecovered]:
        course = recovery.course
        if course is None:
            return []
        with ledger_for_reading(self._settings.state_directory / LEDGER_FILE) as connection:
            sums = recovered_sums(connection, recovery.tenant_id, prefix=PREFIX, queries=course.queries)
        rows = []
        for content_type, feed in recovery.feeds.items():
            tallies = [one.tallies[content_type] for one in course.slices if content_type in one.tallies]
            said = sums.get(content_type, _NOTHING)
            rows.append(
                ServiceRecovered(
                    feed,
                    found=sum(tally.found for tally in tallies),
                    had=sum(tally.had for tally in tallies) + said.duplicates,
                    new=said.records,
                    unfinished=said.blobs_unfinished,
                    pieces=said.pieces,
                )
            )
        return rows


def _chosen_tenants(settings: Settings, asked: RecoveryAsked) -> list[TenantSettings]:
    """One entry for each tenant that is asked for, once each.

    Raises: SettingsRefused: a name fits none, or a cloud names no Graph.
    """
    names = {name.lower() for name in asked.tenants}
    known = {name for tenant in settings.tenants for name in _names_of(tenant)}
    mistakes = [
        f"--tenant {name}: the configuration has no tenant and no input of this name"
        for name in sorted(names - known)
    ]
    chosen: dict[TenantId, TenantSettings] = {}
    for tenant in settings.tenants:
        if (not names or names & _names_of(tenant)) and _collects(tenant, _content_types(asked)):
            chosen.setdefault(tenant.tenant_id, tenant)
    mistakes += [
        f"inputs.{tenant.input_name}.cloud.graph_url: name the host of Microsoft Graph"
        for tenant in chosen.values()
        if not tenant.cloud.graph_url
    ]
    if not chosen and not mistakes:
        mistakes.append("--service: the configuration collects none of these services")
    if mistakes:
        raise SettingsRefused(mistakes, where=str(settings.path))
    return list(chosen.values())


def _names_of(tenant: TenantSettings) -> set[str]:
    return {tenant.tenant_id, tenant.input_name.lower()}


def _collects(tenant: TenantSettings, content_types: Collection[ContentType]) -> bool:
    return any(service.service.content_type in content_types for service in tenant.services)


def _content_types(asked: RecoveryAsked) -> frozenset[ContentType]:
    types = (service.content_type for service in asked.services or tuple(Service))
    return frozenset(one for one in types if one is not None)


def _witness(settings: Settings, output: str | None) -> Witness | None:
    """The lake `output`, or else the first of the outputs; None where there is none.

    Raises: SettingsRefused: that output is no lake.
    """
    every = [one for one in settings.outputs if isinstance(one, LakeSection)]
    lakes = [one for one in every if output in (None, one.name)]
    if output is not None and not lakes:
        fix = (
            f"name one of: {', '.join(one.name for one in every)}" if every else "add an output of type lake"
        )
        mistake = f"--output {output}: no lake of the configuration is called so"
        raise SettingsRefused([mistake], where=str(settings.path), fix=fix)
    if not lakes:
        return None
    from m365watch.lake.stored_records import LakeWitness

    return LakeWitness(lakes[0].folder)


def _require_memory(
    settings: Settings, asked: RecoveryAsked, *, now: datetime, witness: Witness | None
) -> None:
    """Nothing, where it can be known which records of the period were delivered.

    Raises: SettingsRefused: they are older than what the ledger remembers, and there is no lake to ask.
    """
    if witness is not None or asked.may_repeat or asked.period.start >= now - HORIZON:
        return
    mistake = (
        f"--from: the ledger remembers records for {HORIZON.days} days, and no lake can be asked about older "
        "ones; what of them was delivered would arrive twice, which --may-repeat allows"
    )
    raise SettingsRefused([mistake], where=str(settings.path), fix="begin later, or allow it")
