"""What loaders read: the lake, the ledger and the alerts, each within the rights of who asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shlex import quote

from m365watch.board.access.redaction import NO_PLAN, SeenAlert, alert_for, deed_for
from m365watch.board.access.roles import Role
from m365watch.board.app.request_metrics import Requests
from m365watch.board.config_editor.config_file import ConfigurationDesk
from m365watch.board.query.caches import (
    AlertMemory,
    EvidenceMemory,
    Key,
    NameMemory,
    RecordKind,
    StatusMemory,
)
from m365watch.board.query.fact_queries import FactsReader, Row
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.search_queries import NOTHING_FOUND, PartFound, asked_of, without_contents
from m365watch.board.query.sql.entity_queries import KINDS
from m365watch.board.query.sql_queries import LIMIT_S as SQL_LIMIT_S
from m365watch.board.query.time_range import DAY_S, HOUR_S, TimeRange
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    LakeMissing,
    LedgerUnusable,
    OutputUnavailable,
    OutputUnusable,
)
from m365watch.common.progress import FeedProgress
from m365watch.common.timestamps import ms_of
from m365watch.config.models.settings import Settings
from m365watch.detection.alert_store_rebuild import loss_of_alerts
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import (
    AlertsAsked,
    DetectionStanding,
    NoSuchAlert,
    find_alert,
    find_related,
    list_history,
    read_standing,
    set_states,
)
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, make_risk_rule
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.factory import bring_by_hand, files_of, load_rules
from m365watch.detection.fields.enrichment_context import Enrichment, NoEnrichment
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.alert_history import StateChange
from m365watch.detection.store.database_recovery import rebuilt_percent
from m365watch.health.collector_status import fault_of_lake, has_had_records, read_status, read_tenants
from m365watch.health.tenant_status import TenantStanding
from m365watch.lake.audit_trail_table import Deed, DeedsAsked, list_deeds
from m365watch.lake.delta.missing_commits import Standing
from m365watch.lake.integrity_errors import Cause, cause_of_loss
from m365watch.lake.schema import AUDIT
from m365watch.lake.search.filter_parser import Term
from m365watch.lake.search.record_search import Hit
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer
from m365watch.lake.store import table_store
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.notifications.channel_status import TargetFigures, WhoKnows, read_standings, who_knows
from m365watch.response.execution.graph_client import own_apps
from m365watch.response.journal import Journal, Line
from m365watch.response.plans.alert_records import recall
from m365watch.response.plans.planner import plan_recalled
from m365watch.response.steps.step import Plan, cloud_of

WAITING = frozenset({AlertState.OPEN})
"""What waits for somebody; what is acknowledged, somebody looks into."""
ACTIVE = frozenset({AlertState.OPEN, AlertState.ACKNOWLEDGED})


@dataclass
class Sources:
    """Where everything on the pages comes from."""

    settings: Settings
    facts: FactsReader | None
    """None: no output of the configuration is a lake."""
    clock: Clock
    places: Enrichment = field(default_factory=NoEnrichment)
    """What is known of addresses: the tables of `detections.enrich`."""
    trail_trouble: Callable[[], str] = lambda: ""
    """Why who sees and does what cannot be written down; empty where it can."""
    trail_loss: Callable[[], str] = lambda: ""
    """Which lines of that had to go before a lake took them; empty for none."""
    requests: Requests = field(default_factory=Requests)
    """What was asked of the board."""
    count_sessions: Callable[[], int | None] = lambda: None
    """How many people's sessions are open; None where nobody signs in."""
    files: tuple[tuple[str, Path], ...] = ()
    """The configuration's files behind the options that name them for our commands."""
    desk: ConfigurationDesk = field(default_factory=ConfigurationDesk)
    """Reads and changes the configuration, for administrators."""
    app_names: NameMemory = field(default_factory=NameMemory)
    """What applications were found to be called."""
    site_names: NameMemory = field(default_factory=NameMemory)
    """How records were found to write the addresses of sites."""
    own_domains: dict[frozenset[str] | None, tuple[float, Mapping[str, frozenset[str]]]] = field(
        default_factory=dict
    )
    """When the lake said last whose domains are whose, for who may see which tenants."""
    _alerts: AlertMemory = field(default_factory=AlertMemory)
    _status: StatusMemory = field(default_factory=StatusMemory)
    _evidence: EvidenceMemory = field(default_factory=EvidenceMemory)
    _rules: Mapping[object, Library] = field(default_factory=dict)

    @property
    def knows_places(self) -> bool:
        """Whether addresses can be looked up at all."""
        return not isinstance(self.places, NoEnrichment)

    def command(self, view: View, words: str) -> str:
        """A command of ours for this configuration, to be pasted into a shell.

        Where the files are says more of the machine than everybody who looks has to know.
        """
        shows = view.access.tenants is None and view.access.may(Role.ADMIN)
        named = [(flag, str(path.absolute()) if shows else path.name) for flag, path in self.files]
        return " ".join(["m365watch", words, *(f"{flag} {quote(path)}" for flag, path in named)])

    async def take_up(self) -> None:
        """Go on with the settings as they stand in the file now; those of before where it has mistakes.

        The state, as for a collector, and what is known of addresses stay those of the start.
        """
        with suppress(CollectorError):
            now = await asyncio.to_thread(self.desk.settings_now, self.settings)
            state_directory, keeps_state = self.settings.state_directory, self.settings.keeps_state
            self.settings = replace(now, state_directory=state_directory, keeps_state=keeps_state)

    @property
    def lake(self) -> Path | None:
        """The lake that the pages show, which is the settings' as soon as `follow_lake` finds it usable."""
        return None if self.facts is None else self.facts.lake

    def turn_to(self, facts: FactsReader) -> None:
        """Show another lake from now on; who asks the one before is answered by it still."""
        self.facts = facts
        self._evidence = EvidenceMemory()
        self.app_names, self.site_names, self.own_domains = NameMemory(), NameMemory(), {}

    async def ask(self, view: View, query: Query, **given: object) -> list[Row]:
        """The query's rows; none where there is no lake yet.

        Raises: QueryStopped; LakeMissing: there was one; LakeUnusable.
        """
        if self.facts is None:
            return []
        await self._require_lake()
        return await self.facts.ask(view, query, **given)

    async def lost_lake(self) -> Cause | None:
        """That the lake is gone, and what to do; None while it is there, and before any delivery to it."""
        if self.facts is None or (standing := self.facts.standing) is Standing.THERE:
            return None
        is_lost = standing is Standing.LOST or await self.has_had_records()
        return cause_of_loss(table_store(self.facts.lake, AUDIT)) if is_lost else None

    async def fault_of_lake(self) -> Cause | None:
        """What is missing from the log of the lake that is there, and what to do; None for nothing."""
        if self.facts is None or self.facts.standing is not Standing.THERE:
            return None
        return await asyncio.to_thread(fault_of_lake, self.settings, self.facts.lake)

    async def has_had_records(self) -> bool:
        """Whether the lake that is shown was ever delivered anything."""
        lake = self.lake
        return lake is not None and await asyncio.to_thread(has_had_records, self.settings, lake)

    async def has_delivered(self) -> bool:
        """Whether any output was ever delivered a record."""
        with suppress(LedgerUnusable):
            progress = await asyncio.to_thread(read_status, self.settings, now=self.clock.now())
            return any(one.records_delivered for one in progress.feeds)
        return False

    async def _require_lake(self) -> None:
        lost = await self.lost_lake()
        if lost is not None:
            raise LakeMissing(lost.what, fix=lost.fix)

    async def find_hits(self, view: View, term: Term | None, *, before_s: int | None, rows: int) -> PartFound:
        """The records of the view that a filter holds for, in the newest part of the lake before `before_s`.

        Raises: FilterRefused; QueryStopped; LakeMissing; LakeUnusable.
        """
        if self.facts is None:
            return NOTHING_FOUND
        await self._require_lake()
        part = await self.facts.hits.find(
            asked_of(view, term), who=view.access.asker, before_s=before_s, rows=rows
        )
        if view.access.sees_contents:
            return part
        newest = [without_contents(hit) for hit in part.found.newest]
        return replace(part, found=replace(part.found, newest=newest))

    def read_hits(
        self, view: View, term: Term | None, *, most: int
    ) -> AsyncIterator[list[tuple[Hit, bytes]]]:
        """All such records as they were sent, at most so many, the newest days first.

        Raises: FilterRefused; and, as they are read, QueryStopped, LakeMissing and LakeUnusable.
        """
        asked = asked_of(view, term)
        if self.facts is None:
            return _nothing()
        chunks = self._read_there(self.facts.hits.read(asked, who=view.access.asker, most=most))
        return chunks if view.access.sees_contents else _bare(chunks)

    async def _read_there(
        self, chunks: AsyncIterator[list[tuple[Hit, bytes]]]
    ) -> AsyncIterator[list[tuple[Hit, bytes]]]:
        await self._require_lake()
        async for one in chunks:
            yield one

    async def ask_sql(
        self, view: View, sql: str, *, rows_max: int, limit_s: float = SQL_LIMIT_S
    ) -> QueryAnswer | None:
        """What an analyst's SQL says of the view's tenants, whatever its time; None before there is a lake.

        Raises: LakeMissing: there was one; QueryRefused; QueryStopped.
        """
        may = view.access.may(Role.ANALYST) and view.access.sees_contents
        assert may  # noqa: S101 - the page and the export ask before
        if self.facts is None:
            return None
        await self._require_lake()
        if not self.facts.is_there:
            return None
        return await self.facts.sql.ask(
            sql,
            who=view.access.asker,
            tenants=view.tenants,
            sees_trail=view.access.may(Role.ADMIN),
            rows_max=rows_max,
            limit_s=limit_s,
        )

    async def list_alerts(
        self,
        view: View,
        *,
        states: frozenset[AlertState] = frozenset(AlertState),
        severity_min: Severity = Severity.INFORMATIONAL,
    ) -> list[SeenAlert] | None:
        """Alerts of the view's time and tenants, the worst first; None where no detections have run.

        Raises: OutputUnusable: they cannot be read, or are being made anew.
        """
        tenants = view.tenants
        if tenants == ():
            return []
        asked = AlertsAsked(
            states=states,
            severity_min=severity_min,
            tenants=frozenset(tenants or ()),
            since_ms=view.range.start_s * 1000,
        )
        try:
            found = await asyncio.to_thread(
                self._alerts.list, self._alert_file, asked, now_s=view.now.timestamp()
            )
        except OutputUnusable as error:
            if (trouble := await self._trouble_in(error)) is None:
                return None
            raise trouble from error
        began = [one for one in found if one.alert.first_at_ms < view.range.end_s * 1000]
        return await self._seen(view, began)

    async def _seen(self, view: View, found: Sequence[KeptAlert]) -> list[SeenAlert]:
        """The alerts, as whoever looks may read them."""
        rules = {} if view.access.sees_contents else await self.list_rules_of_alerts()
        return [alert_for(view, one, rules) for one in found]

    async def kinds_of_evidence(self, view: View, alerts: Sequence[KeptAlert]) -> Mapping[Key, RecordKind]:
        """What is known of the records that such alerts rest on; those of others may be among it.

        Where the lake cannot be asked in time, nothing is learned, and it is not asked again for a while.
        """
        assert all(view.sees(one.alert.tenant) for one in alerts)  # noqa: S101
        now_s = view.now.timestamp()
        unknown = self._evidence.unknown(alerts, now_s=now_s)
        if unknown:
            start_s = min(one.alert.first_at_ms for one in unknown) // 1000 - DAY_S
            end_s = max(one.alert.last_at_ms for one in unknown) // 1000 + HOUR_S
            span = TimeRange(start_s // HOUR_S * HOUR_S, -(-end_s // HOUR_S) * HOUR_S)
            ids = sorted({one for kept in unknown for one in kept.alert.evidence})
            rows: list[Row] = []
            with suppress(CollectorError):
                rows = await self.ask(replace(view.of_everything, range=span), KINDS, ids=ids)
            self._evidence.learn(unknown, rows, now_s=now_s)
        return self._evidence.kinds

    @property
    def _alert_file(self) -> Path:
        return self.settings.state_directory / FILE_NAME

    @property
    def has_alerts(self) -> bool:
        """Whether detections have run and left their file, be it readable or not."""
        path = self._alert_file
        return path.exists() or rebuilt_percent(path) is not None

    async def _trouble_in(self, error: OutputUnusable) -> OutputUnusable | None:
        """Why there are no alerts, in whose place an error came; None where no detections have run."""
        return error if self.has_alerts else await asyncio.to_thread(loss_of_alerts, self.settings)

    async def alerts_trouble(self) -> OutputUnusable | None:
        """Why the alerts cannot be read, or are gone; None where they can be, or no detections have run."""
        asked = AlertsAsked(severity_min=Severity.CRITICAL)
        try:
            now_s = self.clock.now().timestamp()
            await asyncio.to_thread(self._alerts.list, self._alert_file, asked, now_s=now_s)
        except OutputUnusable as error:
            return await self._trouble_in(error)
        return None

    async def find_alert(self, view: View, given: str) -> SeenAlert | None:
        """The alert of that id, or of its first digits; None where the view's tenants have none.

        Raises: OutputUnusable: as `list_alerts`.
        """
        try:
            kept = await asyncio.to_thread(find_alert, self._alert_file, given)
        except NoSuchAlert:
            return None
        except OutputUnusable as error:
            if (trouble := await self._trouble_in(error)) is None:
                return None
            raise trouble from error
        return next(iter(await self._seen(view, [kept]))) if view.sees(kept.alert.tenant) else None

    async def list_changes(self, view: View, kept: KeptAlert) -> list[StateChange]:
        """What analysts have made of an alert that `find_alert` has found, the first change first."""
        assert view.sees(kept.alert.tenant)  # noqa: S101
        return await asyncio.to_thread(list_history, self._alert_file, kept.alert.id)

    async def list_related(self, view: View, kept: KeptAlert) -> list[SeenAlert]:
        """The alerts that share records with such an alert, the earliest first. Raises: OutputUnusable."""
        assert view.sees(kept.alert.tenant)  # noqa: S101
        found = await asyncio.to_thread(find_related, self._alert_file, kept.alert)
        return await self._seen(view, found)

    async def list_told(self, view: View, kept: KeptAlert) -> list[WhoKnows]:
        """Who was told of such an alert."""
        assert view.sees(kept.alert.tenant)  # noqa: S101
        now_ms = ms_of(view.now)
        with suppress(OutputUnusable, OutputUnavailable):
            return await asyncio.to_thread(
                who_knows, self.settings.state_directory, kept.alert.id, now_ms=now_ms
            )
        return []

    async def list_deeds(self, view: View, kept: KeptAlert) -> list[Line]:
        """What was done over Graph to contain such an alert. Raises: JournalUnreadable."""
        assert view.sees(kept.alert.tenant)  # noqa: S101
        if not view.access.sees_contents:
            return []
        journal = Journal(self.settings.state_directory)
        return await asyncio.to_thread(journal.list_deeds, kept.alert.id, *kept.alert.formerly)

    async def plan_for(self, view: View, kept: KeptAlert) -> Plan:
        """What would contain such an alert. Raises: OutputUnusable."""
        if not view.access.sees_contents:
            return Plan(kept.alert.id, kept.alert.tenant, kept.alert.title, (), notes=(NO_PLAN,))
        assert view.sees(kept.alert.tenant)  # noqa: S101
        recalled = await asyncio.to_thread(recall, self.settings.state_directory, kept)
        rules = await self.list_rules()
        return plan_recalled(
            kept.alert,
            recalled,
            rules=rules,
            cloud=cloud_of(self.settings, kept.alert.tenant),
            own_apps=own_apps(self.settings),
            spared=self.settings.detections.spared_accounts,
        )

    async def change_alerts(
        self, view: View, given: Sequence[str], state: AlertState, *, reason: str
    ) -> list[SeenAlert]:
        """Put alerts into a state, all of them or none, in the name of who looks.

        Raises: NoSuchAlert: one of them is not there, or another tenant's; OutputUnusable, OutputUnavailable.
        """
        for one in given:
            if await self.find_alert(view, one) is None:
                raise NoSuchAlert(f"{one}: there is no such alert")
        changed = await asyncio.to_thread(
            set_states,
            self._alert_file,
            given,
            state,
            reason=reason,
            by=view.access.name,
            at_ms=ms_of(view.now),
        )
        await asyncio.to_thread(bring_by_hand, self.settings, clock=self.clock)
        return await self._seen(view, changed)

    async def list_rules(self) -> Mapping[str, Rule]:
        """The rules by their ids, read again when their files or the settings have changed."""
        return {one.id: one for one in (await asyncio.to_thread(self._read_rules)).rules}

    async def list_rules_of_alerts(self) -> Mapping[str, Rule]:
        """The same with the rule about risk, which is in no file; its alerts stay where it is off now."""
        return {RISK_RULE_ID: make_risk_rule(), **await self.list_rules()}

    async def rule_library(self, view: View) -> Library:
        """The rules with the mistakes of those that are left out, for who may see every tenant."""
        assert view.access.tenants is None  # noqa: S101 - the panel asks before
        return await asyncio.to_thread(self._read_rules)

    async def detection_standing(self, view: View) -> DetectionStanding | None:
        """What the engine has judged, for who may see every tenant; None where it has not run."""
        assert view.access.tenants is None  # noqa: S101 - the panel asks before
        with suppress(OutputUnusable):
            return await asyncio.to_thread(read_standing, self._alert_file)
        return None

    async def list_targets(self, view: View) -> Sequence[TargetFigures]:
        """How the targets of notifications stand, for who may see every tenant."""
        assert view.access.tenants is None  # noqa: S101 - the panel asks before
        names = {one.name for one in self.settings.detections.channels}
        now_ms = ms_of(view.now)
        found = await asyncio.to_thread(read_standings, self.settings.state_directory, names, now_ms=now_ms)
        return found.figures

    def _read_rules(self) -> Library:
        detections = self.settings.detections
        files = tuple((path, path.stat().st_mtime_ns) for path in files_of(detections))
        key = (detections.packs, detections.accepted_domains, files)
        kept = self._rules  # as a whole: other threads read other files meanwhile
        if key not in kept:
            kept = self._rules = {key: load_rules(detections)}
        return kept[key]

    async def list_trail(self, view: View, asked: DeedsAsked) -> list[Deed]:
        """Who saw and did what, for administrators of all tenants. Raises: LakeUnusable."""
        assert view.access.tenants is None and view.access.may(Role.ADMIN)  # noqa: S101, PT018
        found = await asyncio.to_thread(list_deeds, self.lake, self.settings.state_directory, asked)
        return [deed_for(view, one) for one in found]

    async def list_feeds(self, view: View, *, is_live: bool = False) -> list[FeedProgress] | None:
        """How the feeds of the view's tenants stand; None where there is no ledger yet.

        With `is_live`, for pages that ask again and again, as it was when one of them asked a moment ago.

        Raises: LedgerUnusable: it cannot be read.
        """
        try:
            now_s = self.clock.monotonic_s()
            read = partial(self._status.read, now_s=now_s) if is_live else read_status
            progress = await asyncio.to_thread(read, self.settings, now=self.clock.now())
        except LedgerUnusable:
            if self.has_ledger:
                raise
            return None
        return [one for one in progress.feeds if view.sees(one.feed.tenant_id)]

    @property
    def has_ledger(self) -> bool:
        """Whether a collector has made its ledger, be it readable or not."""
        return (self.settings.state_directory / LEDGER_FILE).exists()

    async def list_tenants(self, view: View) -> list[TenantStanding]:
        """How the tenants of the view stand, the worst first; none where there is no ledger yet.

        Raises: LedgerUnusable: it cannot be read.
        """
        try:
            every = await asyncio.to_thread(read_tenants, self.settings, now=view.now)
        except LedgerUnusable:
            if self.has_ledger:
                raise
            return []
        return [one for one in every if view.sees(one.tenant_id)]


async def _nothing() -> AsyncIterator[list[tuple[Hit, bytes]]]:
    nothing: tuple[list[tuple[Hit, bytes]], ...] = ()
    for one in nothing:
        yield one


async def _bare(chunks: AsyncIterator[list[tuple[Hit, bytes]]]) -> AsyncIterator[list[tuple[Hit, bytes]]]:
    async for hits in chunks:
        yield [(without_contents(hit), b"") for hit, _ in hits]
