"""What a ledger says of some feeds, read in one go beside a collector."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

from m365watch.common.model import Feed, TenantId, content_named
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.config.models.settings import Settings
from m365watch.ledger.overview import Overview, last_batches, overview_of
from m365watch.ledger.queries_reading import feed_progress, ledger_for_reading, output_progress, remembered
from m365watch.ledger.sqlite import LEDGER_FILE
from m365watch.pipeline import latency
from m365watch.pipeline.latency import LatencyBook, Step, recent


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The ledger's side of a diagnosis."""

    feeds: list[FeedProgress]
    overview: Overview
    outputs: list[OutputProgress]
    """Those that have an error or lack something."""
    last_batches: dict[str, int]
    workloads: dict[Feed, list[str]]
    """What records of today and yesterday said, by feed."""


def view_ledger(settings: Settings, feeds: AbstractSet[Feed], *, now: datetime) -> LedgerView:
    """What the ledger of `settings` says of `feeds`.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        book = LatencyBook.of_body(remembered(connection, latency.MEMORY))
        return LedgerView(
            [row for row in feed_progress(connection, now) if row.feed in feeds],
            overview_of(connection, feeds),
            output_progress(connection),
            last_batches(connection),
            _workloads(book, now),
        )


def _workloads(book: LatencyBook, now: datetime) -> dict[Feed, list[str]]:
    found: dict[Feed, list[str]] = {}
    for key in recent(book, now.date()):
        if key.step is Step.DELIVERED and key.workload not in ("", latency.TOGETHER):
            feed = Feed(TenantId(key.tenant_id), content_named(key.content_type))
            found.setdefault(feed, []).append(key.workload)
    return found
