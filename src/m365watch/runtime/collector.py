"""The only place where things are built: a collector from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from m365watch import __version__
from m365watch.auth.app_registration import Registration
from m365watch.auth.rotation import Applications
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError
from m365watch.common.model import BlobRef, BlobState, Feed, TenantId
from m365watch.common.progress import RunProgress
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.detection.factory import make_detections
from m365watch.health.completeness.audit_scheduler import AuditProgress, audit_feeds
from m365watch.health.completeness.auditor import Auditor, AuditOrder
from m365watch.health.completeness.feed_audit import FeedAudit
from m365watch.health.devo_error_codes import devo_text
from m365watch.health.event_log import list_secrets, takers_among
from m365watch.health.expiry.watch import ExpiryWatch
from m365watch.http.client import Session, open_session
from m365watch.ledger.blob_states import Absent, read_states
from m365watch.ledger.bloom_filter import FilterSizes
from m365watch.ledger.ledger_database import DamageGuard
from m365watch.ledger.queries import ledger_for_reading, require_ledger, wanted_bodies
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.ledger.writer_thread import PATIENCE_ONCE_S, LedgerThread
from m365watch.notifications.factory import Notifications, notifying
from m365watch.outputs.factory import make_output
from m365watch.pipeline.batcher import pacing
from m365watch.pipeline.disk_queue import QUEUES_FOLDER
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.pipeline.output_startup import Opening, preload, queues_of
from m365watch.records.identity import IdentityMaker
from m365watch.registry.channel_specs import ChannelContext
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import MayBeAway, Output, TellsRecords
from m365watch.runtime.collector_run import (
    AuditRun,
    CollectorRun,
    Outcome,
    RunParts,
    audited_feeds,
    flight_for,
)
from m365watch.runtime.config_changes import Change
from m365watch.runtime.config_reload import Reload, Reloader
from m365watch.runtime.ledger_reconciliation import AdoptionParts, adopt
from m365watch.runtime.run_context import Lasting, LastingReach, Requests, begin_lasting, speaker_of
from m365watch.sources.factory import KeptAnnouncements, Reach, ReachedFeed, ask_registration, find_refusals
from m365watch.sources.feed_errors import Trouble, Troubles
from m365watch.sources.management_api.in_flight_limit import BytesInFlight
from m365watch.sources.page_spool import FOLDER as PAGES_FOLDER
from m365watch.sources.page_spool import KeptPages
from m365watch.sources.poll_loop import OtherSources
from m365watch.sources.pull_cycles import PullCycles
from m365watch.sources.service_health.health_poller import FOLDER as ANNOUNCED_FOLDER
from m365watch.sources.service_health.health_poller import PREFIX as ANNOUNCED_PREFIX

if TYPE_CHECKING:
    from m365watch.sources.management_api.webhook.notification_worker import NotificationDesk
    from m365watch.sources.management_api.webhook.webhook_server import Receiver

__all__ = ["Collector", "Outcome", "make_output"]

_log = structlog.get_logger(__name__)

Instead = Callable[[Mapping[Feed, ReachedFeed], Session], tuple[Mapping[Feed, ReachedFeed], OtherSources]]
"""Given the feeds of the settings: those of the run, and where its blobs come from."""


class Collector:
    """Collects every feed of the settings into every output of the settings."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
        on_change: Callable[[Trouble], None] | None = None,
        build_output: Callable[[OutputSettings], Output] | None = None,
        reload: Reload | None = None,
        lasting: Lasting | None = None,
        only_output: str | None = None,
    ) -> None:
        """`build_output` makes the outputs; left out, `make_output` does.

        With `reload`, a run that lasts takes up what changes in its configuration. `lasting` is what it has
        from the collector that it takes the place of. With `only_output`, what is new goes to that one alone.
        """
        self._settings = settings
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._reload = reload
        self._only_output = only_output
        self._build_output = build_output or self._make_output
        self._lasting = lasting or begin_lasting(settings, clock=clock)
        self.board = self._lasting.board
        """A structlog processor: the lines that it gets go to the outputs that take notices."""
        self.successor: Change | None = None
        """What a run has ended for: it is another collector that goes on with it."""
        self.has_begun = False
        """Whether all was opened, and collecting began."""
        self._run: CollectorRun | None = None
        self._shortening: asyncio.Task[None] | None = None

    @property
    def settings(self) -> Settings:
        """Those that it has by now."""
        return self._settings

    def progress(self) -> RunProgress:
        """The figures of all feeds, as committed; cheap enough to ask for many times a second."""
        if self._run is None:
            return RunProgress(started_at=self._lasting.started_at)
        return self._run.progress()

    async def run(
        self,
        *,
        once: bool,
        stop: asyncio.Event,
        instead: Instead | None = None,
        audit: AuditRun | None = None,
    ) -> Outcome:
        """Collect until `stop`; with `once`, until every feed is caught up and no blob is left to try.

        A changed configuration that a run cannot take up sets `stop` as well, and is the `successor` then.
        With `instead`, the blobs come from where that says, and not from Microsoft's listings. With
        `audit` and `once` an audit takes the place of polling; what waits is fetched and delivered.

        Raises: LedgerHeld, LedgerUnusable, OutputUnusable: nothing was started.
        """
        patience_s = PATIENCE_ONCE_S if once else None
        async with AsyncExitStack() as closing:
            calls = LedgerThread(self._clock, patience_s=patience_s)
            closing.callback(calls.close)
            outputs = self._build_outputs(once=once)
            preload(outputs)
            ledger = await self._open_ledger(calls, closing, mend=True)
            queued, kept = await self._open_queued(outputs, ledger, calls, closing)
            session = await self._session(closing)
            parts = self._parts(ledger, calls, flight_for(pacing(queued)))
            receiver = None if once or instead else await self._open_receiver(closing)
            reached = self._reach_on(session, parts.cycles, is_told=receiver is not None)
            feeds: Mapping[Feed, ReachedFeed] = reached.reach.feeds(self._settings.tenants)
            notifications = await closing.enter_async_context(self._notifying(session, once=once))
            sources = None
            if instead is not None:
                feeds, sources = instead(feeds, session)
            self._run = CollectorRun(
                parts,
                feeds,
                queued,
                started_at=self._lasting.started_at,
                patience_s=patience_s,
                instead=sources,
                before=self._lasting.before,
            )
            self._run.resume(kept)
            if receiver is not None:
                desk = self._notification_desk(feeds, self._run, parts)
                await closing.enter_async_context(receiver.working(desk))
            has_started = not stop.is_set()
            self._tell_start(feeds, outputs)
            if instead is None:
                watch = self._expiry_watch(session, reached.applications, ledger, calls)
                await closing.enter_async_context(watch.running())
                if self._reload is not None and not once:
                    reloader = self._reloader(
                        self._reload, self._run, reached.reach, watch, parts, receiver, notifications, stop
                    )
                    await closing.enter_async_context(reloader.running())
            self.has_begun = True
            outcome = await self._run.until_end(once=once, stop=stop, audit=audit)
            self._shortening = asyncio.create_task(_shorten(ledger, calls))
            return replace(outcome, has_started=has_started)

    async def _session(self, closing: AsyncExitStack) -> Session:
        """The run's connections, or those of this collector alone."""
        if self._lasting.session is not None:
            return self._lasting.session
        return await closing.enter_async_context(open_session(body_bytes_max=self._settings.answer_bytes_max))

    def _tell_start(self, feeds: Collection[Feed], outputs: Sequence[Output]) -> None:
        begins = "goes on" if self._lasting.was_started else "started"
        self._lasting.was_started = True
        _log.info(
            f"m365watch {__version__}: {begins}; tenants: {len(self._settings.tenants)}, "
            f"feeds: {len(feeds)}, outputs: {', '.join(sorted(one.name for one in outputs))}"
        )

    def _notifying(self, session: Session, *, once: bool) -> AbstractAsyncContextManager[Notifications]:
        settings = self._settings
        context = ChannelContext(
            session,
            self._clock,
            self._random,
            settings.collector_name,
            settings.outputs,
            self._build_output,
        )
        return notifying(settings, context, once=once)

    async def audit(
        self, order: AuditOrder, *, on_progress: Callable[[AuditProgress], Awaitable[None]]
    ) -> list[FeedAudit]:
        """Audit every feed against the ledger as it stands, which is only read; `order` asks for no repair.

        Raises: LedgerUnusable: there is no ledger yet.
        """
        path = self._settings.state_directory / LEDGER_FILE

        async def compare(feed: Feed, refs: Sequence[BlobRef]) -> list[BlobState | Absent]:
            return read_states(path, feed, refs)

        async def keep(_audit: FeedAudit) -> None:
            """Nothing is kept where nothing is written."""

        require_ledger(path)
        async with open_session(body_bytes_max=self._settings.answer_bytes_max) as session:
            feeds = self._reach(session, Requests(PullCycles(self._clock))).feeds(self._settings.tenants)
            auditor = Auditor(compare=compare, commit=None, clock=self._clock)
            return await audit_feeds(
                auditor, audited_feeds(feeds), order=order, keep=keep, on_progress=on_progress
            )

    async def validate(self) -> tuple[CollectorError, ...]:
        """What would keep a run from working: each output is opened, each tenant's subscriptions are listed.

        Raises: LedgerHeld, LedgerUnusable: the state cannot be used.
        """
        problems: list[CollectorError] = []
        async with AsyncExitStack() as closing:
            calls = LedgerThread(self._clock, patience_s=PATIENCE_ONCE_S)
            closing.callback(calls.close)
            ledger = await self._open_ledger(calls, closing)
            opening = Opening(ledger, calls, closing)
            is_unknown = await calls(ledger.held.is_adoption_due)
            for settings in self._settings.outputs:
                output = self._build_output(settings)
                try:
                    # What it holds is another ledger's: a run would read it, and then go on.
                    if not (is_unknown and isinstance(output, TellsRecords) and await output.take_over()):
                        await opening.open_output(output)
                except CollectorError as error:
                    problems.append(error)
                else:
                    problems += [output.trouble] if isinstance(output, MayBeAway) and output.trouble else []
            session = await closing.enter_async_context(
                open_session(body_bytes_max=self._settings.answer_bytes_max)
            )
            feeds = self._reach(session, Requests(PullCycles(self._clock))).feeds(self._settings.tenants)
            problems += await find_refusals(feeds.values())
        return tuple(problems)

    def _make_output(self, settings: OutputSettings) -> Output:
        name = self._settings.collector_name
        return make_output(settings, clock=self._clock, random=self._random, collector_name=name)

    def _build_outputs(self, *, once: bool) -> list[Output]:
        """The outputs in the order of the settings, and after them the detections."""
        outputs = [self._build_output(settings) for settings in self._settings.outputs]
        queues = self._settings.state_directory / QUEUES_FOLDER
        detections = self._detections = make_detections(
            self._settings, queues=queues, clock=self._clock, current=lambda: self._settings, once=once
        )
        if self._reload is not None:
            self._reload.also[:] = [] if detections is None else [detections.output.reread]
        if detections is None:
            return outputs
        return [*outputs, detections.output]

    def _expiry_watch(
        self, session: Session, applications: Applications, ledger: SqliteLedger, calls: LedgerThread
    ) -> ExpiryWatch:
        async def ask(tenant: TenantSettings) -> Registration:
            return await ask_registration(tenant, session, clock=self._clock, applications=applications)

        return ExpiryWatch(self._settings.tenants, ask=ask, ledger=ledger, calls=calls, clock=self._clock)

    def _parts(self, ledger: SqliteLedger, calls: LedgerThread, flight: BytesInFlight) -> RunParts:
        clock = self._clock
        troubles = Troubles(ledger, calls, clock, self._on_change)
        cycles = PullCycles(clock)
        return RunParts(ledger, calls, troubles, cycles, clock=clock, random=self._random, flight=flight)

    async def _open_receiver(self, closing: AsyncExitStack) -> Receiver | None:
        """The receiver of notifications, where one is wanted and can listen."""
        if self._settings.webhook is None:
            return None
        from m365watch.sources.management_api.webhook.webhook_server import Receiver

        tenants = [tenant.tenant_id for tenant in self._settings.tenants]
        receiver = Receiver(self._settings.webhook, tenants=tenants, clock=self._clock)
        return receiver if await receiver.open(closing) else None

    def _notification_desk(
        self, feeds: Mapping[Feed, ReachedFeed], run: CollectorRun, parts: RunParts
    ) -> NotificationDesk:
        from m365watch.sources.management_api.webhook.notification_worker import (
            NotificationDesk,
            known_contents,
        )

        return NotificationDesk(
            audited_feeds(feeds),
            ledger=parts.ledger,
            calls=parts.calls,
            known=partial(known_contents, self._settings.state_directory / LEDGER_FILE),
            clock=self._clock,
            on_listed=run.wake,
        )

    def _reach_on(self, session: Session, cycles: PullCycles, *, is_told: bool) -> LastingReach:
        """How the feeds are reached, as the collector before this one reached them where that can be."""
        webhook = self._settings.webhook if is_told else None
        reached = self._lasting.reached
        if reached is None or reached.webhook != webhook:
            applications, requests = Applications(session, self._clock), Requests(cycles)
            reach = self._reach(session, requests, applications, is_told=is_told)
            reached = self._lasting.reached = LastingReach(reach, applications, requests, webhook)
        reached.requests.cycles = cycles
        return reached

    def _reach(
        self,
        session: Session,
        requests: Requests,
        applications: Applications | None = None,
        *,
        is_told: bool = False,
    ) -> Reach:
        """How the feeds are reached; `is_told` says that a receiver waits for notifications."""
        return Reach(
            session,
            clock=self._clock,
            random=self._random,
            on_request=requests.count_request,
            on_throttled=requests.count_throttled,
            on_token=requests.note_token,
            pages=KeptPages(self._settings.state_directory / PAGES_FOLDER),
            announced=self._kept_announcements(),
            applications=applications,
            webhook=self._settings.webhook if is_told else None,
        )

    def _reloader(
        self,
        reload: Reload,
        run: CollectorRun,
        reach: Reach,
        watch: ExpiryWatch,
        parts: RunParts,
        receiver: Receiver | None,
        notifications: Notifications,
        stop: asyncio.Event,
    ) -> Reloader:
        """Brings all that knows tenants or detections to what a changed configuration says of them."""

        async def apply(change: Change) -> None:
            self._settings = change.settings
            self.board.change(speaker_of(self._settings), hide=list_secrets(self._settings))
            if change.detections and self._detections is not None:
                self._detections.change(self._settings.detections)
                await notifications.change(self._settings)
            await parts.calls(parts.ledger.routes.exclude, self._settings.excluded_outputs)
            feeds = reach.feeds(self._settings.tenants)
            await run.change(feeds)
            if receiver is not None:
                receiver.change(audited_feeds(feeds))
            watch.change(self._settings.tenants)

        def renew(change: Change) -> None:
            self.successor = change
            stop.set()

        return Reloader(
            reload,
            self._settings,
            apply=apply,
            renew=renew,
            ledger=parts.ledger,
            calls=parts.calls,
            clock=self._clock,
        )

    def _kept_announcements(self) -> KeptAnnouncements:
        state = self._settings.state_directory
        pages = KeptPages(state / ANNOUNCED_FOLDER, cure="the next change of the same is told as usual")

        def sweep(tenant_id: TenantId) -> None:
            with ledger_for_reading(state / LEDGER_FILE) as connection:
                pages.sweep(tenant_id, wanted=wanted_bodies(connection, tenant_id, prefix=ANNOUNCED_PREFIX))

        return KeptAnnouncements(pages, sweep)

    async def _open_ledger(
        self, calls: LedgerThread, closing: AsyncExitStack, *, mend: bool = False
    ) -> SqliteLedger:
        """The ledger; with `mend`, a new one in place of one that is damaged."""
        ledger = await calls(
            SqliteLedger,
            self._settings.state_directory,
            outputs=frozenset(self._settings.receivers),
            now=self._clock.now(),
            front_filter=_filter_sizes(self._settings),
            before_opening=DamageGuard(self._clock) if mend else None,
            lock=self._lasting.lock,
        )
        closing.push_async_callback(calls, ledger.close)
        calls.settle_with(await calls(ledger.durability.defer))
        closing.callback(calls.settle_with, None)  # To close it makes all of it durable.
        return ledger

    async def _adopt(self, outputs: Sequence[Output], ledger: SqliteLedger, calls: LedgerThread) -> None:
        """Let a ledger that is new, or was put back, learn what the outputs hold."""
        parts = AdoptionParts(
            ledger.held,
            IdentityMaker(ledger.identity_seed),
            calls,
            self._clock,
            [tenant.tenant_id for tenant in self._settings.tenants],
        )
        await adopt(parts, outputs, queues_of(self._settings, outputs))

    async def _open_queued(
        self, outputs: Sequence[Output], ledger: SqliteLedger, calls: LedgerThread, closing: AsyncExitStack
    ) -> tuple[list[QueuedOutput], dict[str, list[int]]]:
        """Every output opened, told what there is to tell, with its queue, and what that has from before.

        Raises: OutputUnusable, OutputUnavailable.
        """
        await calls(ledger.routes.exclude, self._excluded_outputs())
        await self._adopt(outputs, ledger, calls)
        opening = Opening(ledger, calls, closing)
        await self._open_outputs(outputs, opening)
        takers = takers_among(zip(self._settings.outputs, outputs, strict=False))
        posting = self.board.posting(takers, is_last=lambda: self.successor is None)
        await closing.enter_async_context(posting)
        queues = queues_of(self._settings, outputs)
        return await opening.open_queues(queues, outputs, at=self._clock.now())

    def _excluded_outputs(self) -> Mapping[TenantId, frozenset[str]]:
        if self._only_output is None:
            return self._settings.excluded_outputs
        others = frozenset(self._settings.receivers) - {self._only_output}
        return {tenant.tenant_id: others for tenant in self._settings.tenants}

    async def _open_outputs(self, outputs: Sequence[Output], opening: Opening) -> None:
        """Open every output; where one cannot be, those that take notices are told before the run ends.

        Raises: OutputUnusable, OutputUnavailable.
        """
        for count, output in enumerate(outputs):
            try:
                await opening.open_output(output)
            except CollectorError as error:
                if self._lasting.was_started:
                    raise  # There is a collector to tell of it.
                self.board.put("error", devo_text(error), module="app")
                takers = takers_among(zip(self._settings.outputs, outputs[:count], strict=False))
                async with self.board.posting(takers):
                    """All that is on the board is brought at the end of the block."""
                raise


def _filter_sizes(settings: Settings) -> FilterSizes:
    """What all services ask for together: one ledger keeps the identities of all."""
    services = [service for tenant in settings.tenants for service in tenant.services]
    return FilterSizes(
        sum(one.bloom_filter_size or 0 for one in services) or None,
        sum(one.bloom_filter_buffer_size or 0 for one in services) or None,
    )


async def _shorten(ledger: SqliteLedger, calls: LedgerThread) -> None:
    """Spare the ledger's end some work, while outputs end; where it fails, the ledger's end does it."""
    with suppress(CollectorError):
        await calls(ledger.shorten_wal)
