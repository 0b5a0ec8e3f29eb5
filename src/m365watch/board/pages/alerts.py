"""Alerts: the queue that is worked on, whom the alerts are about, and what the rules look for at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.alert_selection import list_meant
from m365watch.board.query.data_sources import ACTIVE, WAITING, Sources
from m365watch.board.query.display_names import Names, name_entities, names_among
from m365watch.board.query.query_context import View
from m365watch.board.widgets.attack_matrix import matrix_of, technique_words, techniques_of
from m365watch.board.widgets.entity_links import entity_ways
from m365watch.board.widgets.labels import counted
from m365watch.board.widgets.widget_types import (
    Cell,
    Choice,
    Empty,
    Grid,
    Heading,
    Matrix,
    Queue,
    Shape,
    Tile,
    Tiles,
    Waiting,
    Way,
)
from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, closed_of, rank_alerts
from m365watch.detection.rules.extension import Severity

PATH = "/alerts"
SHOWN_MAX = 100
ENTITIES_MAX = 4
SHEETS_MAX = 1_000
STATES: dict[str, tuple[str, frozenset[AlertState]]] = {
    "open": ("Open", WAITING),
    "acknowledged": ("Acknowledged", frozenset({AlertState.ACKNOWLEDGED})),
    "active": ("Not closed", ACTIVE),
    "closed": ("Closed", frozenset({AlertState.CLOSED})),
    "all": ("All", frozenset(AlertState)),
}
SEVERITIES = {
    "medium": "Medium and worse",
    "high": "High and worse",
    "critical": "Critical",
    "informational": "All",
}
ALONE = {
    "only-high": ("High alone", frozenset({Severity.HIGH})),
    "only-medium": ("Medium alone", frozenset({Severity.MEDIUM})),
    "only-low": ("Low alone", frozenset({Severity.LOW})),
    "signals": ("Below medium", frozenset({Severity.LOW, Severity.INFORMATIONAL})),
}
"""What figures lead to, so that as many alerts stand there as they say."""
_ORDERS = {"severity": "Worst first", "newest": "Latest first"}
_ALONE_OF = {Severity.HIGH: "only-high", Severity.MEDIUM: "only-medium", Severity.LOW: "only-low"}
NONE_WAITS = Empty("No alert waits in this time.", "A longer time shows older ones.")
OFF = Empty(
    "No run has had its detections on.",
    "Run m365watch run with an output of type lake, or with detections.enabled: true.",
)


async def figures(view: View, sources: Sources) -> Shape:
    """How many wait, by severity, and what became of the others."""
    meant = await list_meant(view, sources)
    if meant is None:
        return Tiles([], empty=OFF)
    found = meant.alerts
    waiting = Counter(one.alert.severity for one in found if one.state in WAITING)
    states = Counter(one.state for one in found)
    tiles = [
        Tile(
            str(severity).capitalize(),
            f"{waiting[severity]:,}",
            "waiting",
            tone=str(severity) if waiting[severity] and severity is not Severity.LOW else "muted",
            url=queue_url(view, severity),
        )
        for severity in (Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM)
    ]
    signals = waiting[Severity.LOW] + waiting[Severity.INFORMATIONAL]
    url = _queue_url(view, severity="signals", state="")
    tiles.append(Tile("Low and below", f"{signals:,}", "waiting", tone="muted", url=url))
    for state, words in (
        (AlertState.ACKNOWLEDGED, "somebody looks into it"),
        (AlertState.CLOSED, "in this time"),
    ):
        name = str(state)
        url = _queue_url(view, state=name, severity="informational")
        tiles.append(Tile(name.capitalize(), f"{states[state]:,}", words, url=url))
    return Tiles(tiles)


def queue_url(view: View, severity: Severity, **options: str) -> str:
    """Where the open alerts of exactly that severity are."""
    return _queue_url(view, severity=_ALONE_OF.get(severity, str(severity)), state="", **options)


def _queue_url(view: View, **options: str) -> str:
    """The queue from its beginning."""
    return view.url(PATH, sheet="", **options)


async def queue(view: View, sources: Sources) -> Shape:
    """The alerts that wait, the worst first; so many on a page."""
    told = await list_meant(view, sources)
    if told is None:
        return Queue([], empty=OFF)
    found = told.alerts
    state = view.option("state", tuple(STATES))
    asked = view.option("severity", (*SEVERITIES, *ALONE))
    order = view.option("by", tuple(_ORDERS))
    in_state = [one for one in found if one.state in STATES[state][1]]
    severities = _severities_of(asked)
    meant = [one for one in in_state if one.alert.severity in severities]
    if order == "newest":
        meant.sort(key=lambda one: -one.alert.last_at_ms)
    else:
        ranks = rank_alerts((one.alert for one in found), closed=closed_of(found))
        meant.sort(key=lambda one: ranks[one.alert.id], reverse=True)
    choices = [
        _choice(view, "state", {name: words for name, (words, _) in STATES.items()}, state),
        _choice(view, "severity", SEVERITIES, asked),
        _choice(view, "by", _ORDERS, order),
    ]
    empty = None if meant else _why_none(view, len(found), len(in_state))
    number, begin = _sheet_of(view, len(meant))
    shown = meant[begin : begin + SHOWN_MAX]
    cut = f"{begin + 1:,} to {begin + len(shown):,} of {len(meant):,}" if len(meant) > SHOWN_MAX else ""
    known = {one.tenant_id.lower() for one in sources.settings.tenants}
    named = await names_among(view, sources, known if view.tenants is None else known & {*view.tenants})
    apps = await name_entities(view, sources, _entities_of(shown))
    return Queue(
        [waiting_of(view, one, named=named, apps=apps, most=ENTITIES_MAX) for one in shown],
        choices,
        _filters(view, found),
        cut="; ".join(filter(None, (cut, told.doubt))),
        before=view.url(PATH, sheet=str(number - 1) if number > 1 else "") if number else "",
        after=view.url(PATH, sheet=str(number + 1)) if begin + SHOWN_MAX < len(meant) else "",
        none=empty,
    )


def _severities_of(asked: str) -> frozenset[Severity]:
    """Those that are shown: one and what is worse, or those alone that the name says."""
    if asked in ALONE:
        return ALONE[asked][1]
    return frozenset(one for one in Severity if one.rank >= Severity(asked).rank)


def _sheet_of(view: View, count: int) -> tuple[int, int]:
    """The number of the page that is asked for, or of the last one, and where it begins."""
    given = view.given("sheet")
    asked = int(given) if given.isascii() and given.isdigit() and len(given) < 5 else 0
    number = min(asked, SHEETS_MAX, max(0, count - 1) // SHOWN_MAX)
    return number, number * SHOWN_MAX


def _choice(view: View, name: str, words: dict[str, str], chosen: str) -> Choice:
    first = next(iter(words))
    ways = [Way(text, _queue_url(view, **{name: "" if one == first else one})) for one, text in words.items()]
    return Choice(
        {"state": "State", "severity": "Severity", "by": "Order"}[name], ways, words.get(chosen, "")
    )


def _filters(view: View, found: Sequence[KeptAlert]) -> list[Way]:
    ways = []
    if (alone := view.given("severity")) in ALONE:
        ways.append(Way(ALONE[alone][0], _queue_url(view, severity=""), "Severity"))
    if rule := view.given("rule"):
        title = next((one.alert.title for one in found if one.alert.rule_id == rule), rule)
        ways.append(Way(title, _queue_url(view, rule=""), "Rule"))
    if technique := view.given("technique"):
        ways.append(Way(technique_words(technique), _queue_url(view, technique=""), "Technique"))
    return ways


def _why_none(view: View, in_time: int, in_state: int) -> Empty:
    if not in_time and (view.narrowing.values or view.given("rule") or view.given("technique")):
        return Empty(
            "No alert of this time is about all that this view is narrowed to.",
            "Take a filter out to see the others, or choose a longer time.",
        )
    if not in_time:
        return Empty(
            "There is no alert in this time.",
            "That is good news, if all feeds are in order; a longer time shows older ones.",
        )
    if not in_state:
        return Empty("No alert is in this state.", f"{counted(in_time, 'alert', 'alerts')} in others.")
    return Empty(
        "No alert is this severe.", f"{counted(in_state, 'signal', 'signals')} below: choose All severities."
    )


def _entities_of(alerts: Iterable[KeptAlert]) -> Iterator[tuple[str, str]]:
    return (entity for one in alerts for entity in one.alert.entities)


def _asked_first(view: View, entities: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    asked = {value.lower() for values in view.narrowing.values.values() for value in values}
    return sorted(entities, key=lambda one: one[1].lower() not in asked)


def waiting_of(
    view: View, kept: KeptAlert, *, named: Names, apps: Mapping[str, str], most: int | None = None
) -> Waiting:
    """An alert as a line of the queue; it says whose it is where there are several tenants.

    It may be about thirty people: those that it names, at `most`, begin with whom the view is narrowed to.
    """
    alert = kept.alert
    tenant = alert.tenant.lower()
    who = f"{kept.changed_by}: {kept.reason}" if kept.reason else kept.changed_by
    return Waiting(
        alert.id,
        str(alert.severity),
        alert.title,
        view.url("/alert", alert=alert.id),
        str(kept.state),
        entity_ways(view, _asked_first(view, alert.entities)[:most], apps),
        alert.count,
        instant(alert.first_at_ms),
        instant(alert.last_at_ms),
        [
            Way(one, _queue_url(view, technique=one, alert="", severity="informational"))
            for one in alert.techniques
        ],
        who,
        Way(named.get(tenant, tenant), view.narrowed_url(PATH, "tenant", tenant)) if named else None,
    )


def instant(at_ms: int) -> str:
    """An instant in UTC, short."""
    return f"{instant_of_ms(at_ms):%m-%d %H:%M}"


async def about(view: View, sources: Sources) -> Shape:
    """Whom the waiting alerts are about: who has most risk comes first."""
    meant = await list_meant(view, sources)
    found = [one for one in meant.alerts if one.state in ACTIVE] if meant else []
    by_entity: dict[tuple[str, str], list[KeptAlert]] = defaultdict(list)
    for kept in found:
        for kind, value in dict.fromkeys(kept.alert.entities):
            if kind in {"user", "actor", "address", "app"}:
                by_entity["user" if kind == "actor" else kind, value.lower()].append(kept)
    risks = {one: sum(kept.alert.risk for kept in of) for one, of in by_entity.items()}
    ordered = sorted(by_entity, key=lambda one: (-risks[one], one))[:40]
    apps = await name_entities(view, sources, ordered)
    headings = (
        Heading("Who or what"),
        Heading("Risk", numeric=True),
        Heading("Alerts", numeric=True),
        Heading("Worst"),
        Heading("Last (UTC)"),
    )
    return Grid(
        headings,
        [_about_row(view, one, by_entity[one], risks[one], apps) for one in ordered],
        empty=None if ordered else OFF if meant is None else NONE_WAITS,
    )


def _about_row(
    view: View, entity: tuple[str, str], of: Sequence[KeptAlert], risk: int, apps: Mapping[str, str]
) -> list[Cell]:
    worst = max((one.alert.severity for one in of), key=lambda one: one.rank)
    last_ms = max(one.alert.last_at_ms for one in of)
    [way] = entity_ways(view, [entity], apps)
    return [
        Cell(way.text, url=way.url),
        Cell(f"{risk:,}", sorts=risk),
        Cell(f"{len(of):,}", sorts=len(of)),
        Cell(str(worst).capitalize(), tone=str(worst), sorts=worst.rank),
        Cell(instant(last_ms), sorts=last_ms, tone="muted"),
    ]


async def by_rule(view: View, sources: Sources) -> Shape:
    """Which rules speak most, and how much of that was closed: a noisy one wants an exception."""
    found = await list_meant(view, sources)
    rules: dict[str, list[KeptAlert]] = defaultdict(list)
    for kept in found.alerts if found else ():
        rules[kept.alert.rule_id].append(kept)
    headings = (
        Heading("Rule", wide=True),
        Heading("Worst"),
        Heading("Alerts", numeric=True),
        Heading("Closed", numeric=True),
    )
    rows = []
    for rule_id, of in sorted(rules.items(), key=lambda one: (-len(one[1]), one[0]))[:40]:
        worst = max((one.alert.severity for one in of), key=lambda one: one.rank)
        closed = sum(1 for one in of if one.state is AlertState.CLOSED)
        url = _queue_url(view, rule=rule_id, severity="informational", state="all")
        rows.append(
            [
                Cell(of[0].alert.title, url=url),
                Cell(str(worst).capitalize(), tone=str(worst), sorts=worst.rank),
                Cell(f"{len(of):,}", sorts=len(of)),
                Cell(f"{closed:,}", sorts=closed, tone="" if closed else "muted"),
            ]
        )
    empty = OFF if found is None else None if rows else NONE_WAITS
    return Grid(headings, rows, empty=empty)


async def coverage(view: View, sources: Sources) -> Shape:
    """What the rules look for, by tactic of ATT&CK, in the colour of the worst alert of this time."""
    rules = list((await sources.list_rules()).values())
    meant = await list_meant(replace(view, options=()), sources)
    alerts = [one.alert for one in meant.alerts] if meant else []
    urls = {
        one: _queue_url(view, technique=one, severity="informational", state="all")
        for one in techniques_of(rules)
    }
    columns = matrix_of(rules, alerts, urls)
    total = sum(len(of) for _, of in columns)
    found = sum(1 for _, of in columns for one in of if one.alerts)
    cut = f"{total} techniques are looked for by {len(rules)} rules; {found} were found in this time."
    return Matrix(
        columns, cut=cut, empty=None if columns else Empty("No rule of this configuration names a technique.")
    )


PAGE = Page(
    "alerts",
    "Alerts",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel(
            "queue",
            "Queue",
            queue,
            says="What is open, the worst first.",
            tall="rows",
            is_live=True,
        ),
        Panel("about", "Who and what they are about", about, width=6, tall="rows", is_live=True),
        Panel("rules", "By rule", by_rule, width=6, tall="rows"),
        Panel("coverage", "ATT&CK coverage", coverage, tall="rows"),
    ),
    says="What was found and waits for somebody; what is closed can be opened again.",
    choices={"state": STATES, "severity": (*SEVERITIES, *ALONE), "by": _ORDERS},
)
