"""What loaders read: the lake, the ledger and the alerts, each within the rights of who asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from m365watch.board.lake_reader import FactsReader, Query, Row
from m365watch.board.view import View
from m365watch.clock import Clock
from m365watch.config.settings import Settings
from m365watch.detect.desk import AlertsAsked, list_alerts
from m365watch.detect.extension import Severity
from m365watch.detect.kept import AlertState, KeptAlert
from m365watch.detect.knowledge import Enrichment, NoEnrichment
from m365watch.detect.output import FILE_NAME
from m365watch.errors import LedgerUnusable, OutputUnusable
from m365watch.inspection import read_status, read_tenants
from m365watch.progress import FeedProgress
from m365watch.tenancy.standing import TenantStanding

ACTIVE = frozenset({AlertState.OPEN, AlertState.ACKNOWLEDGED})


@dataclass(frozen=True)
class Sources:
    """Where everything on the pages comes from."""

    settings: Settings
    facts: FactsReader | None
    """None: no output of the configuration is a lake."""
    clock: Clock
    places: Enrichment = field(default_factory=NoEnrichment)
    """What is known of addresses: the tables of `detections.enrich`."""

    @property
    def knows_places(self) -> bool:
        """Whether addresses can be looked up at all."""
        return not isinstance(self.places, NoEnrichment)

    async def ask(self, view: View, query: Query, **given: object) -> list[Row]:
        """The query's rows; none where there is no lake.

        Raises: QueryStopped; LakeUnusable.
        """
        return [] if self.facts is None else await self.facts.ask(view, query, **given)

    async def list_alerts(
        self,
        view: View,
        *,
        states: frozenset[AlertState] = frozenset(AlertState),
        severity_min: Severity = Severity.INFORMATIONAL,
    ) -> list[KeptAlert] | None:
        """Alerts of the view's time and tenants, the worst first; None where no detections have run."""
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
            found = await asyncio.to_thread(list_alerts, self.settings.state_directory / FILE_NAME, asked)
        except OutputUnusable:
            return None
        return [one for one in found if one.alert.first_at_ms < view.range.end_s * 1000]

    async def list_feeds(self, view: View) -> list[FeedProgress] | None:
        """How the feeds of the view's tenants stand; None where there is no ledger yet."""
        try:
            progress = await asyncio.to_thread(read_status, self.settings)
        except LedgerUnusable:
            return None
        tenants = view.tenants
        return [one for one in progress.feeds if tenants is None or one.feed.tenant_id.lower() in tenants]

    async def list_tenants(self, view: View) -> list[TenantStanding]:
        """How the tenants of the view stand, the worst first; none where there is no ledger yet."""
        try:
            every = await asyncio.to_thread(read_tenants, self.settings, now=view.now)
        except LedgerUnusable:
            return []
        tenants = view.tenants
        return [one for one in every if tenants is None or one.tenant_id.lower() in tenants]
