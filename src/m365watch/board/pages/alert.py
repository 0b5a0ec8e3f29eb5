"""One alert: what happened, the records that say so, what to look at next, and what would end it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from m365watch.board.access.redaction import told_lines
from m365watch.board.access.roles import Role
from m365watch.board.pages.alerts import OFF, PATH, instant, waiting_of
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import Narrowing
from m365watch.board.query.display_names import name_applications, name_entities, name_tenants
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.time_range import DAY_S, HOUR_S, TimeRange
from m365watch.board.widgets.attack_matrix import tactic_words
from m365watch.board.widgets.entity_links import around, entity_ways, field_url
from m365watch.board.widgets.field_highlight import Light, lights_of, lines_of, lit_paths
from m365watch.board.widgets.labels import application_words, workload_words
from m365watch.board.widgets.previous_lake import words_of_earlier
from m365watch.board.widgets.widget_types import Case, Empty, Listing, Records, RecordShown, Said, Shape
from m365watch.common.errors import JournalUnreadable
from m365watch.common.timestamps import ms_of
from m365watch.config.models.clouds import Cloud
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_text import details_of, failure_of
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.episode_finder import PERIOD_KINDS, reach_s
from m365watch.detection.rules.extension_text import PERIOD_S_MAX
from m365watch.detection.rules.rule import Rule
from m365watch.response.journal import named
from m365watch.response.plans.powershell import commands, connections
from m365watch.response.plans.step_order import others_of, runs
from m365watch.response.steps.step import Step, cloud_of

_DAYS_S = 8 * DAY_S
"""Longer than any rule of the packs joins what belongs together."""
_LOOKED_AROUND_S = ((0, HOUR_S), (DAY_S, DAY_S), (_DAYS_S, _DAYS_S))
"""How far before and after an alert its records are looked for, until all are found."""
ALIKE_MIN = 4
"""Steps of one kind in a row that are one line."""
NOT_NAMED = Empty("This address names no alert.", "Choose one in the queue.")
NONE = Empty("There is no such alert.", "The queue shows those that there are.")


async def _alert(view: View, sources: Sources) -> KeptAlert | None:
    """The alert that the URL names."""
    given = view.given("alert")
    return await sources.find_alert(view, given) if given else None


def _none_for(view: View) -> Empty:
    return NONE if view.given("alert") else NOT_NAMED


async def case(view: View, sources: Sources) -> Shape:
    """What happened, to whom, and where the alert stands."""
    kept = await _alert(view, sources)
    if kept is None:
        return Listing([], empty=OFF if await sources.list_alerts(view) is None else _none_for(view))
    alert = kept.alert
    rule = (await sources.list_rules_of_alerts()).get(alert.rule_id)
    tenant = (await name_tenants(view, sources)).get(alert.tenant.lower(), alert.tenant)
    facts = [
        ("Records", f"{alert.count:,}"),
        ("First", f"{alert.first_seen_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Last", f"{alert.last_seen_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Risk", f"{alert.risk} points"),
        ("Rule", " ".join(filter(None, (alert.detection, rule.name if rule else alert.rule_id)))),
        ("Tenant", tenant if tenant == alert.tenant else f"{tenant} ({alert.tenant})"),
        ("Alert", alert.id),
    ]
    notes = list(alert.notes)
    if rule is not None:
        notes += [f"Looks for: {rule.description}"] if rule.description else []
        notes += [f"Can be harmless: {one}" for one in rule.false_positives]
    at = around(view, alert)
    apps = await name_entities(view, sources, alert.entities)
    return Case(
        waiting_of(at, kept, named={}, apps=apps),
        alert.explanation,
        [tactic_words(one) for one in alert.tactics],
        facts,
        notes,
        back=view.url(PATH, alert=""),
    )


async def evidence(view: View, sources: Sources) -> Shape:
    """The records it rests on; what the rule looked at is lit up, every value leads to all that has it."""
    kept = await _alert(view, sources)
    if kept is None:
        return Records([], empty=_none_for(view))
    alert = kept.alert
    at = around(view, alert)
    rules = await sources.list_rules()
    once = await _find_evidence(at, sources, alert, back_s=_back_s(rules.get(alert.rule_id)))
    lights = lights_of(rules.get(alert.rule_id), rules)
    missing = [one for one in alert.evidence if one not in once]
    elsewhere = await words_of_earlier(at, sources) if missing else ""
    uncounted = alert.count - len(alert.evidence)
    cut = [
        f"and {len(missing):,} more, which the lake does not hold (any more)" if missing else "",
        elsewhere.rstrip("."),
        f"and {uncounted:,} more, of which the alert keeps the count alone" if uncounted > 0 else "",
    ]
    apps = await name_apps_of(view, sources, once.values())
    shown = [record_shown(at, row, lights, apps) for row in once.values()]
    first = next((place for place, one in enumerate(shown) if one.tone != "failed"), 0)
    shown[first : first + 1] = [replace(one, is_open=True) for one in shown[first : first + 1]]
    return Records(
        shown,
        cut="; ".join(filter(None, cut)) if once else "",
        empty=None if once else _no_evidence(alert, elsewhere),
    )


async def _find_evidence(view: View, sources: Sources, alert: Alert, *, back_s: int) -> dict[str, Row]:
    """The rows of its records by their ids: those of joined alerts may be older than the alert, and later."""
    ids = list(alert.evidence)
    once: dict[str, Row] = {}
    looked_around_s = [*_LOOKED_AROUND_S, *([(back_s, _DAYS_S)] if back_s > _DAYS_S else [])]
    for before_s, after_s in looked_around_s:
        start_s = (alert.first_at_ms // 1000 - before_s) // HOUR_S * HOUR_S
        span = TimeRange(start_s, -(-(alert.last_at_ms // 1000 + after_s) // HOUR_S) * HOUR_S)
        rows = await sources.ask(_of_tenant(view, alert.tenant, span), trails.BY_ID, ids=ids)
        once = {row[0]: row for row in rows}
        if len(once) == len(ids):
            break
    return once


def _back_s(rule: Rule | None) -> int:
    """How long before an alert its rule may have looked: a silence begins after what was seen last."""
    if rule is None:
        return PERIOD_S_MAX
    return reach_s(rule) if rule.kind in PERIOD_KINDS or rule.correlation is not None else 0


def _no_evidence(alert: Alert, elsewhere: str) -> Empty:
    ids = _ids(alert.evidence)
    return Empty("The lake does not hold its records (any more).", f"{elsewhere} {ids}".strip())


def _ids(ids: tuple[str, ...]) -> str:
    return f"Their ids: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}"


def _of_tenant(view: View, tenant: str, span: TimeRange) -> View:
    """The tenant's records of that time, whatever the view is narrowed to."""
    return replace(view, narrowing=Narrowing({"tenant": (tenant.lower(),)}), range=span)


async def name_apps_of(view: View, sources: Sources, rows: Iterable[Row]) -> Mapping[str, str]:
    """What the applications are called that rows of `trails` name, or are about."""
    return await name_applications(view, sources, (one for row in rows for one in (row[7], row[9]) if one))


def record_shown(
    view: View, row: Sequence[Any], lights: Sequence[Light], apps: Mapping[str, str]
) -> RecordShown:
    """A row of `trails` as a record that can be opened; `apps` are what applications are called."""
    record, at_s, workload, operation, user, address, outcome, target, session, app, _, raw = row
    entities = [("user", user), ("address", address), ("app", app), ("session", session)]
    ways = entity_ways(view, entities, apps)
    about = target or ""
    failed = failure_of(raw)
    return RecordShown(
        record or "",
        f"{datetime.fromtimestamp(at_s, UTC):%m-%d %H:%M:%S}",
        f"{workload_words(workload)} · {operation}",
        "; ".join(
            filter(None, (failed, details_of(raw) or apps.get(about.lower()) or application_words(about)))
        ),
        ways,
        told_lines(
            view, lines_of(raw, lit_paths(raw, lights), lambda name, value: field_url(view, name, value))
        ),
        raw,
        tone="failed" if failed or outcome == "failed" else "",
        who=user or "",
    )


async def related(view: View, sources: Sources) -> Shape:
    """The alerts that rest on some of its records, such as those that it joins."""
    kept = await _alert(view, sources)
    if kept is None:
        return Listing([], empty=_none_for(view))
    rows = [
        Said(
            one.alert.title,
            f"{one.alert.first_seen_at:%m-%d %H:%M}",
            str(one.alert.severity).capitalize(),
            tone=str(one.alert.severity),
            url=view.url("/alert", alert=one.alert.id),
        )
        for one in await sources.list_related(view, kept)
    ]
    return Listing(rows, empty=None if rows else Empty("No other alert rests on any of its records."))


async def check(view: View, sources: Sources) -> Shape:
    """What to look at next."""
    kept = await _alert(view, sources)
    if kept is None:
        return Listing([], empty=_none_for(view))
    rows = [Said(one) for one in kept.alert.check]
    return Listing(rows, empty=None if rows else Empty("The rule names nothing in particular."))


async def containment(view: View, sources: Sources) -> Shape:
    """What would end it. Nothing is done from here: the command line carries it out, step by step."""
    kept = await _alert(view, sources)
    if kept is None:
        return Listing([], empty=_none_for(view))
    plan = await sources.plan_for(view, kept)
    cloud = cloud_of(sources.settings, plan.tenant)
    rows = _steps(plan.steps, cloud)
    if lines := connections(plan, cloud=cloud):
        rows.insert(0, Said("Connect PowerShell before any of its lines below", commands=[*lines]))
    if view.access.may(Role.ANALYST) and not all(step.is_by_hand for step in plan.steps):
        carry = sources.command(view, f"respond {kept.alert.id[:8]} --apply")
        note = "asks for each step, and can be undone where it says so"
        rows.append(Said("Carry it out", note=note, commands=[carry]))
    rows += [
        Said(
            f"{one.title} is part of it",
            note=f"its own plan has more: {one.more}",
            url=view.url("/alert", alert=one.alert_id),
        )
        for one in plan.parts
    ]
    return Listing(rows, cut=" ".join(f"{one}." for one in (*plan.notes, *plan.permissions_told)))


def _steps(steps: Sequence[Step], cloud: Cloud) -> list[Said]:
    """The steps in their order; many of one kind in a row are one line, with all their commands."""
    rows: list[Said] = []
    for number, run in runs(steps):
        if len(run) >= ALIKE_MIN:
            rows.append(_steps_alike(number, run, cloud))
        else:
            rows += [_step(place, step, cloud) for place, step in enumerate(run, number)]
    return rows


def _steps_alike(number: int, run: Sequence[Step], cloud: Cloud) -> Said:
    first, others = run[0], others_of(run)
    return Said(
        f"{number} to {number + len(run) - 1}. {first.title}, and the same for {len(others)} more",
        at=first.way,
        note=" ".join((f"{', '.join(others)}.", *first.notes)),
        commands=[command for one in run for command in _commands(one, cloud)],
    )


def _step(number: int, step: Step, cloud: Cloud) -> Said:
    return Said(
        f"{number}. {step.title}", at=step.way, note=" ".join(step.notes), commands=_commands(step, cloud)
    )


def _commands(step: Step, cloud: Cloud) -> list[str]:
    return [*(one.line(cloud.graph_url) for one in step.calls), *commands(step, cloud=cloud)]


async def history(view: View, sources: Sources) -> Shape:
    """What became of it: who changed its state, who was told, and what was done over Graph."""
    kept = await _alert(view, sources)
    if kept is None:
        return Listing([], empty=_none_for(view))
    changes = await sources.list_changes(view, kept)
    rows = [
        (one.at_ms, Said(f"{str(one.state).capitalize()} by {one.by}", instant(one.at_ms), one.reason))
        for one in changes
    ]
    if kept.changed_at_ms and not changes:
        said = Said(
            f"{str(kept.state).capitalize()} by {kept.changed_by}", instant(kept.changed_at_ms), kept.reason
        )
        rows.append((kept.changed_at_ms, said))
    for told in await sources.list_told(view, kept):
        words = f"{told.target} was told" if told.at_ms else f"{told.target} is to be told"
        note = "with many others, in one notification" if told.in_digest else ""
        rows.append((told.at_ms, Said(words, instant(told.at_ms) if told.at_ms else "", note, tone="muted")))
    rows += await _done(view, sources, kept)
    first = Said("First of its records", instant(kept.alert.first_at_ms), tone="muted")
    last = Said("Last of its records", instant(kept.alert.last_at_ms), tone="muted")
    rows += [(kept.alert.first_at_ms, first), (kept.alert.last_at_ms, last)]
    return Listing([said for _, said in sorted(rows, key=lambda one: -one[0])])


async def _done(view: View, sources: Sources, kept: KeptAlert) -> list[tuple[int, Said]]:
    """What was done over Graph, with its time; or that it cannot be read."""
    try:
        deeds = await sources.list_deeds(view, kept)
    except JournalUnreadable as error:
        return [(ms_of(view.now), Said(error.what.capitalize(), note=error.fix, tone="failed"))]
    rows = []
    for deed in deeds:
        tone = "failed" if deed.outcome in {"failed", "unclear"} else ""
        words = f"{named(deed)} ({deed.outcome}), by {deed.by}"
        rows.append((ms_of(deed.at), Said(words, instant(ms_of(deed.at)), deed.error, tone)))
    return rows


PAGE = Page(
    "alert",
    "Alert",
    (
        Panel("case", "What happened", case, width=8, tall="rows", is_live=True),
        Panel("check", "What to check next", check, width=4, tall="rows"),
        Panel("evidence", "Evidence", evidence, width=8, tall="rows"),
        Panel("history", "History", history, width=4, tall="rows", is_live=True),
        Panel("containment", "What would contain it", containment, width=8, tall="rows"),
        Panel("related", "Alerts of the same records", related, width=4, tall="rows"),
    ),
    keys="a acknowledges, c closes with a reason, o opens again.",
    says="Every value leads to all that has it.",
    under="alerts",
    narrowed_by=frozenset(),
)
