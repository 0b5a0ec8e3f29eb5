"""Health: whether everything arrives, and what to do where it does not."""

from __future__ import annotations

import asyncio

from m365watch.board.pages.health import delivery_health as health_delivery
from m365watch.board.pages.health import detection_health as health_detecting
from m365watch.board.pages.health import hourly_completeness as health_hours
from m365watch.board.pages.health import issues as health_needs
from m365watch.board.pages.health.health_cells import (
    ago_cell,
    counted_cell,
    days_words,
    feed_words,
    names_of,
    no_ledger,
)
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import Names
from m365watch.board.query.ledger_queries import list_applications, see_collector, sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import counted, short, span_words
from m365watch.board.widgets.widget_types import Cell, Grid, Heading, Shape, Tile, Tiles
from m365watch.common.progress import FeedProgress
from m365watch.health.expiry.credential_expiry import judge
from m365watch.health.tenant_status import LATE_S, RANKS, TenantStanding, TenantState
from m365watch.lake.sql_sandbox.confinement import is_root, probe

FEEDS_SHOWN_MAX = 200
_TONES = {
    TenantState.NO_CONSENT: "critical",
    TenantState.REFUSED: "critical",
    TenantState.IN_TROUBLE: "critical",
    TenantState.FAILING: "high",
    TenantState.THROTTLED: "high",
    TenantState.POISONED: "high",
    TenantState.SILENT: "medium",
    TenantState.BEHIND: "medium",
    TenantState.NEW: "medium",
    TenantState.RUNNING: "ok",
    TenantState.STOPPED: "muted",
}
_WORDS = {
    TenantState.RUNNING: "in order",
    TenantState.NEW: "not listed yet",
    TenantState.POISONED: "blobs fail",
    TenantState.IN_TROUBLE: "in trouble",
    TenantState.NO_CONSENT: "no consent",
}
_SOON_D = 30


async def figures(view: View, sources: Sources) -> Shape:
    """Numbers that are zero or small where everything is healthy, and what confines SQL queries."""
    tenants, ends = await asyncio.gather(sources.list_tenants(view), _ends_tile(view, sources))
    feeds = [feed for tenant in tenants for feed in tenant.feeds]
    if not feeds:
        return Tiles([], empty=no_ledger(view, sources))
    states = [state for tenant in tenants for state in tenant.states.values()]
    going = [one for one in states if one is not TenantState.STOPPED]
    collector = await see_collector(sources, feeds)
    stopped = collector.stopped_words(view.now)
    well = 0 if stopped else sum(one is TenantState.RUNNING for one in going)
    throttled = sum(one is TenantState.THROTTLED for one in states)
    return Tiles(
        [
            Tile(
                "Feeds in order",
                f"{well} of {len(going)}",
                stopped or f"{throttled or 'none'} throttled now",
                tone="ok" if well == len(going) else "high",
            ),
            _lag_tile(view, tenants, await names_of(view, sources, (one.feed for one in feeds))),
            *_blob_tiles(feeds),
            ends,
            *([_confinement_tile()] if sees_every_tenant(view) else ()),
        ]
    )


def _lag_tile(view: View, tenants: list[TenantStanding], named: Names) -> Tile:
    going = [feed for one in tenants if one.state is not TenantState.STOPPED for feed in one.feeds]
    lags = [(lag_s, feed) for feed in going if (lag_s := feed.lag_s(view.now)) is not None]
    if not lags:
        return Tile("Furthest behind", "none", "nothing was listed yet", tone="medium")
    lag_s, feed = max(lags, key=lambda one: one[0])
    tone = "medium" if lag_s > LATE_S else "ok"
    return Tile("Furthest behind", span_words(lag_s), feed_words(feed.feed, named=named), tone=tone)


def _blob_tiles(feeds: list[FeedProgress]) -> list[Tile]:
    waiting = sum(one.blobs_waiting for one in feeds)
    pieces = sum(one.records_quarantined - one.pieces_dropped for one in feeds)
    lost = sum(one.blobs_lost for one in feeds)
    unlisted_s = sum(one.unlisted_s for one in feeds)
    duplicates = sum(one.records_duplicate for one in feeds)
    records = sum(one.records_delivered for one in feeds)
    share = duplicates / (records + duplicates) if records + duplicates else 0.0
    never = f", {span_words(unlisted_s)} never listed" if unlisted_s else ""
    is_lost = bool(lost or unlisted_s)
    return [
        Tile("Waiting", short(waiting), "blobs on their way", tone="medium" if waiting else "ok"),
        Tile(
            "Lost",
            short(lost),
            f"and {pieces:,} in quarantine{never}",
            tone="critical" if is_lost else "high" if pieces else "ok",
        ),
        Tile("Duplicates", f"{share:.1%}".replace("%", " %"), f"{short(duplicates)} kept out"),
    ]


async def _ends_tile(view: View, sources: Sources) -> Tile:
    title = "Credential ends in"
    known = [
        one
        for application in await list_applications(view, sources) or []
        for one in judge(application.credentials, view.now)
    ]
    left = [one.days_left for one in known if one.days_left is not None]
    if not left:
        return Tile(title, "unknown", "no end of a credential is known", tone="muted")
    days = min(left)
    tone = "critical" if days <= 0 else "medium" if days <= _SOON_D else "ok"
    note = f"of {counted(len(known), 'credential', 'credentials')}"
    return Tile(title, "has ended" if days <= 0 else days_words(days), note, tone=tone)


def _confinement_tile() -> Tile:
    """What the kernel keeps from a query, which runs as the user of the board."""
    found = probe()
    if is_root() and not found.is_complete:
        return Tile("SQL confinement", "as root", found.held or "none", tone="medium")
    return Tile(
        "SQL confinement",
        "complete" if found.is_complete else "partial" if found.held else "none",
        found.held or "not offered by the kernel",
        tone="ok" if found.is_complete else "medium",
    )


async def feeds(view: View, sources: Sources) -> Shape:
    """Each feed: its state, how far it is, and what it brought."""
    tenants = await sources.list_tenants(view)
    rows = [(one.states[feed.feed], feed) for one in tenants for feed in one.feeds]
    if not rows:
        return Grid((), (), empty=no_ledger(view, sources))
    collector = await see_collector(sources, (feed for _, feed in rows))
    named = await names_of(view, sources, (feed.feed for _, feed in rows))
    rows.sort(key=lambda one: (RANKS[one[0]], str(one[1].feed)))
    more = len(rows) - FEEDS_SHOWN_MAX
    headings = (
        Heading("Feed", wide=True),
        Heading("State"),
        Heading("Listed up to", numeric=True),
        Heading("Last listing", numeric=True),
        Heading("Records", numeric=True),
        Heading("Duplicates", numeric=True),
        Heading("Waiting", numeric=True),
        Heading("Quarantined", numeric=True),
        Heading("Lost", numeric=True),
    )
    return Grid(
        headings,
        [
            _feed_row(view, state, feed, named=named, goes_on=not collector.has_stopped)
            for state, feed in rows[:FEEDS_SHOWN_MAX]
        ],
        cut=f"and {more:,} more feeds, none of them in a worse state" if more > 0 else "",
    )


def _feed_row(
    view: View, state: TenantState, feed: FeedProgress, *, named: Names, goes_on: bool
) -> list[Cell]:
    words, tone = _WORDS.get(state, str(state)), _TONES[state]
    if state is TenantState.RUNNING and not goes_on:
        words, tone = "not running", "medium"
    return [
        Cell(feed_words(feed.feed, named=named), narrows=("tenant", feed.feed.tenant_id) if named else None),
        Cell(words, tone=tone, sorts=RANKS[state]),
        ago_cell(feed.watermark, view.now),
        ago_cell(feed.listed_at, view.now),
        Cell(f"{feed.records_delivered:,}", sorts=feed.records_delivered),
        Cell(f"{feed.records_duplicate:,}", sorts=feed.records_duplicate, tone="muted"),
        counted_cell(feed.blobs_waiting, "medium"),
        counted_cell(feed.records_quarantined - feed.pieces_dropped, "high"),
        counted_cell(feed.blobs_lost, "critical"),
    ]


PAGE = Page(
    "health",
    "Health",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("needs", "What is wrong, and what to do", health_needs.needs, tall="rows", is_live=True),
        Panel(
            "hours",
            "Completeness by hour",
            health_hours.hours,
            says="Each hour by the time at which Microsoft made the content. The stronger, the more of it.",
            tall="chart",
            is_live=True,
        ),
        Panel("feeds", "Feeds", feeds, tall="rows", is_live=True),
        Panel(
            "latency",
            "How long records take",
            health_delivery.latency,
            width=7,
            says="Today and yesterday; one record of each blob speaks for it.",
            tall="chart",
            is_live=True,
        ),
        Panel(
            "spread",
            "Blobs by the time they take",
            health_delivery.spread,
            width=5,
            says="The whole way, from what happened to what one output has; today and yesterday.",
            tall="chart",
        ),
        Panel(
            "gaps",
            "Gaps",
            health_hours.gaps,
            says="Hours without content, and why. Unusual is what the feed's own past makes unlikely.",
            tall="rows",
        ),
        Panel("outputs", "Outputs", health_delivery.outputs, width=5, tall="rows", is_live=True),
        Panel("credentials", "Credentials", health_delivery.credentials, width=7, tall="rows"),
        Panel(
            "detections",
            "Detections",
            health_detecting.detections,
            width=5,
            says="Whether every record is judged, and by how many rules.",
            tall="rows",
            is_live=True,
        ),
        Panel(
            "notifications",
            "Notifications",
            health_detecting.notifications,
            width=7,
            says="Who is told of alerts, and whether it reaches them.",
            tall="rows",
            is_live=True,
        ),
        Panel(
            "throttling",
            "Throttling",
            health_detecting.throttling,
            says="How often Microsoft asked for fewer requests. Whatever was asked is asked again.",
            tall="chart",
            is_live=True,
        ),
        Panel("waiting", "Failed and tried again", health_delivery.waiting, width=6, tall="rows"),
        Panel("quarantine", "Quarantine", health_delivery.quarantine, width=6, tall="rows"),
        Panel(
            "audits",
            "Audits",
            health_hours.audits,
            says="What Microsoft lists beside what the ledger knows: the proof that nothing is missing.",
            tall="rows",
        ),
    ),
    says="Whether everything arrives, in time and once, and what to do where it does not.",
    narrowed_by=frozenset({"tenant"}),
)
