"""Judgements on what the ledger says: listed, fetched, deduplicated, routed, delivered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from m365watch.common.model import BlobState, ContentType, Feed, GraphContent, TenantId, content_named
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.config.models.settings import ServiceSettings, Settings
from m365watch.health.checks.access_checks import LATER
from m365watch.health.checks.tenant_checks import Served
from m365watch.ledger.queries import (
    Overview,
    feed_progress,
    last_batches,
    ledger_for_reading,
    output_progress,
    overview_of,
    remembered,
)
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.pipeline import latency
from m365watch.pipeline.latency import LatencyBook, recent
from m365watch.records.routing import UNION_TABLE, table_of
from m365watch.registry.checks import Finding, Step, broken, note, ok

if TYPE_CHECKING:
    from m365watch.lake.integrity_errors import Cause


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
        if key.step is latency.Step.DELIVERED and key.workload not in ("", latency.TOGETHER):
            feed = Feed(TenantId(key.tenant_id), content_named(key.content_type))
            found.setdefault(feed, []).append(key.workload)
    return found


STALE_S = 7_200.0
"""A feed whose last listing is older has no collector; longer where its request period is."""
TABLES_NAMED_MAX = 3
OUTPUT_LATER = (
    "nothing if it passes; if it stays, make room, mend what it names, or see to the way to its receiver"
)
_RUN = "start `m365watch run`, and read what it says of this tenant"
_GONE = (BlobState.QUARANTINED, BlobState.LOST)


def judge_listed(
    feeds: Sequence[FeedProgress],
    served: Mapping[ContentType, Served],
    services: Sequence[ServiceSettings],
    now: datetime,
) -> Finding:
    """Whether the collector lists, and knows content."""
    rows = {row.feed.content_type: row for row in feeds}
    listed_at = max((row.listed_at for row in feeds if row.listed_at), default=None)
    count = sum(row.blobs_listed for row in feeds)
    if listed_at is None and count:
        seen = f"{count:,} blobs known, of an audit or of a first listing that is not complete yet"
        error = next((row for row in feeds if row.last_error), None)
        if error is not None:
            return note(Step.LISTED, f"{seen}; {error.last_error}", fix=error.fix or _RUN)
        return note(Step.LISTED, seen, fix=_RUN)
    if listed_at is None:
        return _with_error(feeds, "the collector has listed nothing of it yet", fix=_RUN)
    age_s = (now - listed_at).total_seconds()
    if age_s > max(STALE_S, 3 * max(one.request_period_s for one in services)):
        return _with_error(feeds, f"the collector last listed {_ago(age_s)} ago: it does not run", fix=_RUN)
    seen = f"{count:,} blobs known, last listed {_ago(age_s)} ago"
    if not count:
        late = [one for one in services if _starts_after(one, served)]
        if late:
            names = ", ".join(one.service for one in late)
            fix = "set start_time_in_utc earlier, or wait for content that is newer"
            return broken(Step.LISTED, f"all content is older than start_time_in_utc: {names}", fix=fix)
        return broken(Step.LISTED, seen, fix="wait for the next poll; if it stays so, report it")
    failing = [row for row in rows.values() if row.last_error]
    if failing:
        return note(Step.LISTED, f"{seen}; {failing[0].last_error}", fix=failing[0].fix)
    return ok(Step.LISTED, seen)


def judge_fetched(overview: Overview, feeds: Sequence[FeedProgress]) -> Finding:
    """Whether blobs are fetched: what waits, and what is gone for good."""
    fetched, waiting = overview.fetched, overview.waiting
    gone = {"quarantined": sum(row.blobs_quarantined for row in feeds)}
    gone["lost"] = sum(row.blobs_lost for row in feeds)
    # Blobs that were forgotten count too: only their sums stay.
    fetched = max(fetched, sum(row.blobs_delivered for row in feeds))
    rest = "".join(f", {number:,} {name}" for name, number in gone.items() if number)
    seen = f"{fetched:,} blobs fetched, {waiting:,} waiting{rest}"
    if not fetched and overview.last_error:
        return broken(Step.FETCHED, f"{seen}; {overview.last_error}", fix=_error_fix(feeds))
    if not fetched and gone["quarantined"]:
        fix = "look at what came with `m365watch quarantine`; once the cause is gone, `m365watch retry`"
        return broken(Step.FETCHED, seen, fix=fix)
    if not fetched and gone["lost"]:
        fix = "keep the collector running: content is served for 7 days; export what is lost from Purview"
        return broken(Step.FETCHED, seen, fix=fix)
    if not fetched:
        return broken(Step.FETCHED, seen, fix=_RUN)
    if overview.last_error or any(gone.values()):
        return note(Step.FETCHED, seen, fix="`m365watch blobs` names each, and what to do")
    return ok(Step.FETCHED, seen)


def judge_duplicates(feeds: Sequence[FeedProgress]) -> Finding:
    """Whether anything but duplicates came."""
    records = sum(row.records_delivered for row in feeds)
    duplicates = sum(row.records_duplicate for row in feeds)
    seen = f"{records:,} records went on, {duplicates:,} duplicates left out"
    if not records and duplicates:
        fix = "look for them where they went first: they were delivered before by this ledger"
        return broken(Step.DEDUPLICATED, seen, fix=fix)
    return ok(Step.DEDUPLICATED, seen)


def judge_routed(services: Sequence[ServiceSettings], tables: Sequence[str]) -> Finding:
    """Where records go; nothing there can hold them up."""
    seen = f"into {_some(tables) or 'the table that each Workload names'}"
    masked = [one.service for one in services if one.masks]
    tagged = [f"{one.service} as {one.override_tag}" for one in services if one.override_tag]
    odd = [f"override_tag: {', '.join(tagged)}"] if tagged else []
    odd += [f"masked by obfuscation_data: {', '.join(masked)}"] if masked else []
    return note(Step.ROUTED, f"{seen}; {'; '.join(odd)}") if odd else ok(Step.ROUTED, seen)


def tables_of(
    tenant_id: TenantId, services: Sequence[ServiceSettings], workloads: Mapping[Feed, Sequence[str]]
) -> list[str]:
    """The tables of the records that came lately, by name."""
    found = set()
    for one in services:
        content_type = one.service.content
        if content_type is GraphContent.SERVICE_HEALTH:
            found.add(one.override_tag or UNION_TABLE)
        elif content_type is not None:
            seen = workloads.get(Feed(tenant_id, content_type), ())
            found |= {one.override_tag or table_of(workload) for workload in seen}
    return sorted(found)


def judge_delivered(
    names: Sequence[str],
    last_batches: Mapping[str, int],
    lacking: Sequence[OutputProgress],
    faults: Mapping[str, Cause],
) -> list[Finding]:
    """Each output, up to the first that takes nothing; `faults` are of lakes that no run goes on with."""
    troubles = {one.name: one for one in lacking}
    findings = []
    for name in names:
        finding = _judge_output(name, last_batches.get(name, 0), troubles.get(name), faults.get(name))
        findings.append(finding)
        if finding.verdict == "broken":
            break
    return findings


def _judge_output(name: str, last_batch: int, trouble: OutputProgress | None, fault: Cause | None) -> Finding:
    seen = f"{name}: " + (f"acknowledged up to batch {last_batch:,}" if last_batch else "nothing yet")
    if trouble is not None and trouble.blobs_missing:
        left_out = trouble.blobs_missing - trouble.blobs_queued
        seen += f", {trouble.blobs_queued:,} blobs in its queue, {left_out:,} left out or under way"
    if fault is not None:
        return broken(Step.DELIVERED, f"{seen}; {fault.what}", fix=fault.fix)
    if trouble is not None and trouble.last_error:
        return broken(Step.DELIVERED, f"{seen}; {trouble.last_error}", fix=trouble.fix or OUTPUT_LATER)
    if not last_batch:
        return broken(Step.DELIVERED, seen, fix="look again in a minute; if it stays so, see what `run` says")
    if trouble is not None and trouble.blobs_missing:
        return note(Step.DELIVERED, seen)
    return ok(Step.DELIVERED, seen)


def _starts_after(service: ServiceSettings, served: Mapping[ContentType, Served]) -> bool:
    content_type = service.service.content_type
    newest_at = served[content_type].newest_at if content_type and content_type in served else None
    return service.start_at is not None and newest_at is not None and service.start_at > newest_at


def _with_error(feeds: Sequence[FeedProgress], seen: str, *, fix: str) -> Finding:
    """Broken, with what the collector last said of it and its cure."""
    failing = next((row for row in feeds if row.last_error), None)
    if failing is None:
        return broken(Step.LISTED, seen, fix=fix)
    return broken(Step.LISTED, f"{seen}; {failing.last_error}", fix=failing.fix or fix)


def _error_fix(feeds: Sequence[FeedProgress]) -> str:
    return next((row.fix for row in feeds if row.fix), LATER)


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"


def next_place(tables: Sequence[str], delivered_at: datetime | None, now: datetime) -> str:
    """Where to look where nothing is broken."""
    last = f"; the last ones {_ago((now - delivered_at).total_seconds())} ago" if delivered_at else ""
    return f"records arrive in {_some(tables) or 'the outputs'}{last}"


def _some(tables: Sequence[str]) -> str:
    """The first tables by name, and how many more there are."""
    more = len(tables) - TABLES_NAMED_MAX
    return ", ".join(tables[:TABLES_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
