"""Health's list of what is wrong, each with its cure: what needs a person first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import chain

from m365watch.board.access.audit_journal import LOSS_FIX
from m365watch.board.access.roles import Role
from m365watch.board.config_editor.config_status import Standing, read_standing
from m365watch.board.pages.health.health_cells import (
    bare_words,
    feed_words,
    names_of,
    no_ledger,
    sentence,
)
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import Names
from m365watch.board.query.ledger_queries import (
    FEEDS_READ_MAX,
    CollectorSeen,
    feeds_listed,
    list_applications,
    list_audits,
    list_gaps,
    list_outputs,
    list_pieces,
    see_collector,
    sees_every_tenant,
)
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import counted, span_words
from m365watch.board.widgets.widget_types import Empty, Listing, Said
from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.missing_files import fix_of
from m365watch.common.progress import RETRIED, FeedProgress, OutputProgress
from m365watch.health.checks.check_specs import Surface, trouble_for
from m365watch.health.completeness.content_gaps import GapsFound
from m365watch.health.completeness.feed_audit import FeedAudit
from m365watch.health.expiry.credential_expiry import judge
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.health.expiry.expiry_text import cure_of, expiry_text
from m365watch.health.tenant_status import TenantStanding, TenantState
from m365watch.lake.integrity_errors import Cause
from m365watch.registry.checks import Verdict

SHOWN_MAX = 40
_DAYS = 2
_TONES = ("critical", "high", "medium", "low")


def _of_trail(trouble: str, loss: str) -> list[Said]:
    said = []
    if trouble:
        text = f"Who sees and does what on the board cannot be written down: {trouble}"
        note = (
            "Looks go on without a line on the trail; nothing can be changed or taken along. Make room, or"
            " give the board the right to write, in its state directory."
        )
        said.append(Said(text, note=note, tone="critical"))
    if loss:
        text = f"The trail of the board lacks lines: {loss}"
        note = f"Who did what is nowhere else. {sentence(LOSS_FIX)}"
        said.append(Said(text, note=note, tone="critical"))
    return said


async def needs(view: View, sources: Sources) -> Listing:
    """Everything that is wrong now, the worst first."""
    every = await feeds_listed(view, sources)
    tenants, outputs, applications, audits, gaps, pieces = await asyncio.gather(
        sources.list_tenants(view),
        list_outputs(sources),
        list_applications(view, sources),
        list_audits(view, sources),
        list_gaps(view, sources, every[:FEEDS_READ_MAX], days=_DAYS),
        list_pieces(view, sources),
    )
    if outputs is None:
        return Listing((), empty=no_ledger(view, sources))
    seen = outputs.values() if sees_every_tenant(view) else ()
    named = await names_of(view, sources, (feed.feed for tenant in tenants for feed in tenant.feeds))
    run = await read_standing(view, sources) if sees_every_tenant(view) else None
    collector = await see_collector(sources, (feed for tenant in tenants for feed in tenant.feeds))
    lost, fault = await sources.lost_lake(), await sources.fault_of_lake()
    rows = [
        *_of_lake(view, sources, lost),
        *_of_fault(view, sources, fault),
        *(await _of_checks(view, sources) if sees_every_tenant(view) else ()),
        *_of_alerts(await sources.alerts_trouble()),
        *_of_alerts(await _notifications_trouble(view, sources)),
        *([] if run is None else _of_configuration(run)),
        *_of_collector(
            tenants,
            collector,
            view.now,
            command=sources.command(view, "run"),
            is_refused=lost is not None or fault is not None,
        ),
        *_of_feeds(tenants, view.now, named=named),
        *(one for output in seen for one in _of_output(output, view.now)),
        *_of_credentials(applications or (), view.now),
        *_of_audits(audits or (), sources.command(view, "audit --repair"), view.now, named=named),
        *([] if gaps is None else _of_gaps(gaps, named=named)),
        *(_of_trail(sources.trail_trouble(), sources.trail_loss()) if sees_every_tenant(view) else ()),
        *_of_pieces(len(pieces or ()), sources.command(view, "quarantine")),
    ]
    rows.sort(key=lambda one: _TONES.index(one.tone))
    more = len(rows) - SHOWN_MAX
    return Listing(
        rows[:SHOWN_MAX],
        cut=f"and {more:,} more, none of them worse" if more > 0 else "",
        empty=None if rows else Empty("Nothing is wrong.", "What goes wrong stands here, with its cure."),
    )


async def _of_checks(view: View, sources: Sources) -> list[Said]:
    """What the health checks of this machine find."""
    found = await asyncio.to_thread(trouble_for, Surface.HEALTH, sources.settings, sources.clock)
    names_it = view.access.may(Role.ADMIN)
    return [
        Said(
            sentence(step.told if names_it or not is_broken else f"the check {step.check} is broken"),
            note=sentence((step.fix or "").replace("`", "")),
            tone="critical" if is_broken else "low",
        )
        for step in chain.from_iterable(found.values())
        for is_broken in (step.verdict is Verdict.BROKEN,)
    ]


def _of_lake(view: View, sources: Sources, lost: Cause | None) -> list[Said]:
    if lost is None:
        return []
    text = f"{lost.what.replace('the lake', _lake_words(view, sources), 1)}."
    return [Said(text, note=sentence(lost.fix), tone="critical")]


def _of_fault(view: View, sources: Sources, fault: Cause | None) -> list[Said]:
    if fault is None:
        return []
    told = "is not whole, so that pages lack records or count some twice"
    text = f"{_lake_words(view, sources)} {told}: {fault.what}."
    return [Said(text, note=sentence(fault.fix.replace("`", "")), tone="critical")]


def _lake_words(view: View, sources: Sources) -> str:
    names_it = view.access.may(Role.ADMIN) and sees_every_tenant(view)
    return f"The lake at {sources.lake}" if names_it else "The lake"


async def _notifications_trouble(view: View, sources: Sources) -> CollectorError | None:
    """Why nobody is told of alerts, whoever the targets are."""
    detections = sources.settings.detections
    if not (sees_every_tenant(view) and detections.enabled and detections.channels):
        return None
    try:
        await sources.list_targets(view)
    except (OutputUnusable, OutputUnavailable) as error:
        return error
    return None


def _of_alerts(trouble: CollectorError | None) -> list[Said]:
    if trouble is None:
        return []
    return [
        Said(sentence(trouble.what), note=sentence((trouble.fix or "").replace("`", "")), tone="critical")
    ]


def _of_configuration(run: Standing) -> list[Said]:
    note = sentence(run.fix.replace("`", ""))
    return [
        Said(sentence(f"The collector refuses the configuration: {one}"), note=note, tone="critical")
        for one in run.mistakes[:1]
    ]


def _of_collector(
    tenants: Sequence[TenantStanding],
    seen: CollectorSeen,
    now: datetime,
    *,
    command: str,
    is_refused: bool,
) -> list[Said]:
    if not seen.has_stopped:
        return []
    late = sum(one is TenantState.BEHIND for tenant in tenants for one in tenant.states.values())
    behind = f"; {counted(late, 'feed is', 'feeds are')} behind" if late else ""
    text = sentence(f"{seen.stopped_words(now)}{behind}")
    start = "start it: it catches up by itself with all that is still served, which is the last 7 days"
    note = sentence(
        f"mend the lake first, as no start goes on without; then {start}" if is_refused else start
    )
    return [Said(text, note=note, tone="high", commands=(command,))]


def _of_feeds(tenants: Sequence[TenantStanding], now: datetime, *, named: Names) -> list[Said]:
    """One line for each error, with the feeds that are in it."""
    groups: dict[tuple[str, str, str | None], list[FeedProgress]] = {}
    for tenant in tenants:
        for feed in tenant.feeds:
            if feed.last_error and tenant.states.get(feed.feed) is not TenantState.STOPPED:
                what = bare_words(feed.last_error, feed.fix, feed=feed.feed)
                groups.setdefault((tenant.tenant_id, what, feed.fix), []).append(feed)
    return [
        Said(
            f"{', '.join(feed_words(one.feed, named=named) for one in feeds)}: {sentence(what)}",
            at=_ago(feeds[0].last_error_at, now),
            note=sentence(fix or RETRIED),
            tone="critical" if feeds[0].needs_operator else "medium",
        )
        for (_, what, fix), feeds in groups.items()
    ]


def _of_output(output: OutputProgress, now: datetime) -> list[Said]:
    return [*_of_missing_files(output, now), *_of_error(output, now)]


def _of_missing_files(output: OutputProgress, now: datetime) -> list[Said]:
    missing = output.missing_files
    if missing is None:
        return []
    return [
        Said(
            sentence(f"Output {output.name}: {missing.what}"),
            at=_ago(missing.found_at, now),
            note=sentence(fix_of(output.name, missing).replace("`", "")),
            tone="critical",
        )
    ]


def _of_error(output: OutputProgress, now: datetime) -> list[Said]:
    if not output.last_error:
        return []
    what = sentence(bare_words(output.last_error, output.fix))
    return [
        Said(
            f"Output {output.name}: {what}",
            at=_ago(output.last_error_at, now),
            note=sentence(output.next_step(now)),
            tone="critical" if output.needs_operator else "medium",
        )
    ]


def _of_credentials(applications: Sequence[KnownApplication], now: datetime) -> list[Said]:
    return [
        Said(
            sentence(expiry_text(known, one)),
            note=sentence(cure_of(known, one).replace("`", "")),
            tone="critical" if one.stops_collecting else "high",
        )
        for known in applications
        for one in judge(known.credentials, now)
        if one.threshold is not None
    ]


def _of_audits(audits: Sequence[FeedAudit], command: str, now: datetime, *, named: Names) -> list[Said]:
    rows = []
    for audit in audits:
        name, at = feed_words(audit.feed, named=named), _ago(audit.at, now)
        if audit.remaining:
            text = (
                f"{name}: {counted(audit.remaining, 'blob that is', 'blobs that are')} listed never arrived."
            )
            note = "An audit found it; with --repair what is missing is fetched."
            rows.append(Said(text, at, note, "critical", commands=(command,)))
        if audit.error:
            what = sentence(bare_words(audit.error, audit.fix, feed=audit.feed))
            note = sentence(audit.fix or "the next audit may read it")
            rows.append(Said(f"{name}: the audit could not read all: {what}", at, note, "medium"))
    return rows


def _of_gaps(found: GapsFound, *, named: Names) -> list[Said]:
    unusual = [one for one in found.gaps if one.is_unusual]
    return [
        Said(
            f"{feed_words(one.feed, named=named)}: no content for "
            f"{span_words((one.end - one.start).total_seconds())} from {one.start:%-d %b %H:%M} UTC on.",
            note=sentence(one.text.replace("`", "")),
            tone="high",
        )
        for one in unusual
    ]


def _of_pieces(count: int, command: str) -> list[Said]:
    if not count:
        return []
    text = f"{counted(count, 'piece', 'pieces')} in quarantine: what could not go on is kept byte for byte."
    note = "Look at it; once the cause is gone, retry has it fetched again."
    return [Said(text, note=note, tone="low", commands=(command,))]


def _ago(at: datetime | None, now: datetime) -> str:
    return "" if at is None else f"{span_words((now - at).total_seconds())} ago"
