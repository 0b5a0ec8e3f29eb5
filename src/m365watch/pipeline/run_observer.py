"""What a run learns: latency, throttling, the roles of tokens, and the vocabulary of each tenant.

It never holds a record up and loses nothing that matters: what it learned since it was last remembered
goes with a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from m365watch.auth import permissions
from m365watch.common.clock import Clock
from m365watch.common.model import Batch, GraphContent, Header, KnownBlob, TenantId
from m365watch.ledger.writer_thread import LedgerCalls, settled_later
from m365watch.pipeline import latency, schema_drift
from m365watch.pipeline.latency import LatencyBook
from m365watch.pipeline.schema_drift import Vocabulary
from m365watch.registry.ports import Ledger
from m365watch.sources import throttling
from m365watch.sources.pull_cycles import PullCycles

REMEMBER_EVERY_S = 30.0
"""How often what was learned goes to the ledger, where there is anything new."""
TENANTS_MAX = 1_000
"""Tenants whose vocabulary is kept."""


class RunObserver:
    """Sees each blob once it can go on, and each batch that an output acknowledged."""

    def __init__(self, ledger: Ledger, calls: LedgerCalls, clock: Clock, cycles: PullCycles) -> None:
        """Knows nothing before `begin`; `cycles` has what was throttled and the roles of tokens."""
        self._throttling = cycles.throttling
        self._granted = cycles.granted
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._latency = LatencyBook()
        self._vocabularies: dict[TenantId, Vocabulary] = {}
        self._remembered_at_s = clock.monotonic_s()

    async def begin(self, tenants: Iterable[TenantId]) -> None:
        """Go on from what the ledger remembers of `tenants`, at most `TENANTS_MAX` of them."""
        self._latency = LatencyBook.of_body(
            await self._calls(settled_later(self._ledger.remembered), latency.MEMORY)
        )
        self._throttling.add(await self._calls(settled_later(self._ledger.remembered), throttling.MEMORY))
        self._granted.add(await self._calls(settled_later(self._ledger.remembered), permissions.MEMORY))
        await self.watch(tenants)

    async def watch(self, tenants: Iterable[TenantId]) -> None:
        """Learn from `tenants` as well, as far as `TENANTS_MAX` allows."""
        new = sorted(set(tenants) - self._vocabularies.keys())
        for tenant_id in new[: TENANTS_MAX - len(self._vocabularies)]:
            body = await self._calls(settled_later(self._ledger.remembered), schema_drift.MEMORY + tenant_id)
            self._vocabularies[tenant_id] = Vocabulary.of_body(tenant_id, body)

    def note_fetched(
        self, known: KnownBlob, headers: Sequence[Header], records: Sequence[bytes], *, fetched_at: datetime
    ) -> None:
        """One blob's headers and records, masked where the settings say so; announcements are let be."""
        if isinstance(known.ref.feed.content_type, GraphContent):
            return
        self._latency.note_fetched(known, headers, fetched_at=fetched_at)
        words = self._vocabularies.get(known.ref.feed.tenant_id)
        if words is not None:
            words.note(known.ref, headers, records, fetched_at)

    def note_delivered(self, batch: Batch, output: str) -> None:
        """`output` has acknowledged `batch` now."""
        self._latency.note_delivered(batch, output, at=self._clock.now())

    async def remember(self, *, at_once: bool = False) -> None:
        """Put what is new into the ledger, unless that was done just now."""
        now_s = self._clock.monotonic_s()
        if not at_once and now_s < self._remembered_at_s + REMEMBER_EVERY_S:
            return
        self._remembered_at_s = now_s
        if self._latency.is_changed:
            self._latency.is_changed = False
            await self._calls(settled_later(self._ledger.remember), latency.MEMORY, self._latency.body())
        if self._throttling.is_changed:
            self._throttling.is_changed = False
            await self._calls(
                settled_later(self._ledger.remember), throttling.MEMORY, self._throttling.body()
            )
        if self._granted.is_changed:
            self._granted.is_changed = False
            await self._calls(settled_later(self._ledger.remember), permissions.MEMORY, self._granted.body())
        for tenant_id, words in list(self._vocabularies.items()):
            if words.is_changed:
                words.is_changed = False
                await self._calls(
                    settled_later(self._ledger.remember), schema_drift.MEMORY + tenant_id, words.body()
                )
