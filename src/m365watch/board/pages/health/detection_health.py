"""Health's panels of detections and of those who are told of alerts; and of throttling over time."""

from __future__ import annotations

import asyncio
from datetime import datetime

from m365watch.board.pages.health.health_cells import ago_cell, counted_cell, no_ledger, sentence
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import names_among
from m365watch.board.query.ledger_queries import (
    list_latency,
    list_outputs,
    list_throttling,
    sees_every_tenant,
)
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import HOUR_S
from m365watch.board.widgets.labels import counted, span_words
from m365watch.board.widgets.time_series import chart_of
from m365watch.board.widgets.widget_types import Cell, Chart, Empty, Grid, Heading, Shape
from m365watch.common.errors import OutputUnusable
from m365watch.common.timestamps import instant_of_ms
from m365watch.config.models.detections import DETECTIONS
from m365watch.detection.alerts.triage import DetectionStanding
from m365watch.notifications.channel_status import TargetFigures
from m365watch.pipeline.latency import Histogram, Step
from m365watch.sources.throttling import HOURS_KEPT

_TOGETHER = Empty("This is of all tenants together, and your role sees some of them.")
_OFF = Empty(
    "Detections are off.", "They are on with an output of type lake, or with detections.enabled: true."
)
_COLOURS = ("c5", "c2", "c4", "c1", "c3", "c6", "c7")
_DAYS = HOURS_KEPT // 24


async def throttling(view: View, sources: Sources) -> Shape:
    """Answers by which Microsoft asked for fewer requests, by tenant."""
    found = await list_throttling(view, sources)
    if found is None:
        return Chart((), HOUR_S, (), empty=no_ledger(view, sources))
    named = await names_among(view, sources, found)
    inside = range(view.range.start_s // HOUR_S, -(-view.range.end_s // HOUR_S))
    rows = [
        (hour * HOUR_S // view.range.step_s * view.range.step_s, tenant, count)
        for tenant, hours in found.items()
        for hour, count in hours.items()
        if hour in inside
    ]
    colours = dict(zip(sorted(found), _COLOURS * (len(found) // len(_COLOURS) + 1), strict=False))
    first = view.now.timestamp() - HOURS_KEPT * HOUR_S
    why = (
        f"The collector remembers the last {_DAYS} days, and none of this time."
        if view.range.end_s < first
        else "Microsoft has not asked for fewer requests in this time."
    )
    return chart_of(
        view.range,
        rows,
        colour=lambda one: colours[one],
        narrows=lambda one: ("tenant", one) if len(found) > 1 else None,
        words=lambda one: named.get(one.lower(), one) if named else "Throttled answers",
        empty=Empty(why, f"Each throttled answer is counted by the hour, for {_DAYS} days."),
    )


async def notifications(view: View, sources: Sources) -> Shape:
    """Each target of notifications: what it was told, what waits for it, what it refused."""
    if not sees_every_tenant(view):
        return Grid((), (), empty=_TOGETHER)
    targets = sources.settings.detections.channels
    if not sources.settings.detections.enabled or not targets:
        then = "detections.notifications names whom to tell: mail, chat, pager, or another system."
        return Grid((), (), empty=Empty("Nobody is told of alerts.", then))
    known = {one.name: one for one in await sources.list_targets(view)}
    headings = (
        Heading("Target"),
        Heading("State"),
        Heading("Sent", numeric=True),
        Heading("Waiting", numeric=True),
        Heading("Refused", numeric=True),
        Heading("Last sent", numeric=True),
        Heading("What is wrong", wide=True),
    )
    return Grid(headings, [_target_row(view, one.name, known.get(one.name)) for one in targets])


def _target_row(view: View, name: str, one: TargetFigures | None) -> list[Cell]:
    if one is None:
        return [
            Cell(name),
            Cell("no run yet", tone="muted"),
            *[Cell("0", sorts=0, tone="muted")] * 3,
            Cell("never", sorts=0, tone="muted"),
            Cell("The next run takes it up.", tone="muted"),
        ]
    failing = one.tries > 0
    state, tone = (
        ("fails", "high") if failing else ("refused some", "medium") if one.aside else ("in order", "ok")
    )
    aside = "m365watch alerts notify --again tries what was refused again." if one.aside else ""
    trouble = sentence(one.trouble) if failing or one.aside else ""
    return [
        Cell(name),
        Cell(state, tone=tone),
        Cell(f"{one.sent:,}", sorts=one.sent),
        counted_cell(one.waiting, "medium" if failing else "muted"),
        counted_cell(one.aside, "high"),
        ago_cell(_instant(one.last_sent_ms), view.now),
        Cell(f"{trouble} {aside}".strip()),
    ]


def _instant(at_ms: int) -> datetime | None:
    return instant_of_ms(at_ms) if at_ms else None


async def detections(view: View, sources: Sources) -> Shape:
    """Whether every record is judged, how soon, by how many rules, and what was left out."""
    if not sees_every_tenant(view):
        return Grid((), (), empty=_TOGETHER)
    if not sources.settings.detections.enabled:
        return Grid((), (), empty=_OFF)
    outputs, latency, standing, library = await asyncio.gather(
        list_outputs(sources),
        list_latency(view, sources),
        sources.detection_standing(view),
        sources.rule_library(view),
    )
    if outputs is None or latency is None:
        return Grid((), (), empty=no_ledger(view, sources))
    if standing is None:
        return Grid((), (), empty=_why_none(await sources.alerts_trouble()))
    behind = outputs[DETECTIONS].blobs_missing if DETECTIONS in outputs else 0
    whole = Histogram()
    for key, one in latency.items():
        if key.step is Step.DELIVERED and key.output == DETECTIONS:
            whole.merge(one)
    rows = [
        _row("Records judged", f"{standing.records:,}", "each once, whatever was repeated"),
        _behind_row(behind),
        _row("Time to judge", _soon(whole), "after a blob was fetched; today and yesterday, 95 % of them"),
        _row("Rules in force", f"{len(library.rules):,}", "as they stand in their files now"),
        _mistakes_row([str(one) for one in library.mistakes]),
        _search_row(standing),
    ]
    headings = (Heading("Figure"), Heading("Is", numeric=True), Heading("What it means", wide=True))
    return Grid(headings, rows)


def _why_none(trouble: OutputUnusable | None) -> Empty:
    if trouble is None:
        return Empty("No run has had its detections on.", "The next run takes them up.")
    return Empty(sentence(trouble.what), sentence((trouble.fix or "").replace("`", "")))


def _row(name: str, figure: str, says: str, *, tone: str = "") -> list[Cell]:
    return [Cell(name), Cell(figure, tone=tone), Cell(sentence(says), tone="muted" if not tone else "")]


def _behind_row(blobs: int) -> list[Cell]:
    if not blobs:
        return _row("Behind", "0", "every blob that was delivered is judged")
    says = f"{counted(blobs, 'blob waits', 'blobs wait')} to be judged, and alerts of them come later"
    return _row("Behind", f"{blobs:,}", says, tone="medium")


def _mistakes_row(mistakes: list[str]) -> list[Cell]:
    if not mistakes:
        return _row("Rules left out", "0", "no rule has a mistake")
    says = f"{mistakes[0]}; m365watch rules validate names {'it' if len(mistakes) == 1 else 'all of them'}"
    return _row("Rules left out", f"{len(mistakes):,}", says, tone="high")


def _search_row(standing: DetectionStanding) -> list[Cell]:
    if not standing.trouble:
        return _row("Second process", "in order", "it is started while much is to be judged")
    says = f"it {standing.trouble}; the collector judges by itself meanwhile, more slowly"
    return _row("Second process", "ended", says, tone="medium")


def _soon(histogram: Histogram) -> str:
    seconds = histogram.quantile(0.95)
    if seconds is None:
        return "none yet"
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else span_words(seconds)
