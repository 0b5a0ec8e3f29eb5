"""Sign-ins: who gets in and who does not, from where, with what, and what is new about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from m365watch.board.pages import sign_in_map as sign_in_places
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.geolocation import UNKNOWN, Tally, locate, operator_words, travellers
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.query.time_range import TimeRange
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import counted, country_words, program_words, short, system_words
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import address as address_cell
from m365watch.board.widgets.record_text import instant, number, person
from m365watch.board.widgets.time_series import chart_of
from m365watch.board.widgets.widget_types import (
    Cell,
    Empty,
    Grid,
    Heading,
    Ranked,
    Ranking,
    Several,
    Shape,
    Tile,
)
from m365watch.detection.fields.enrichment_context import Enrichment

LEARNED_S = 14 * 86_400
"""How long before the view somebody's networks and devices count as known."""
_Firsts = Mapping[tuple[str, str], int]
"""When something was first seen of somebody, by both."""


def _with_before(view: View) -> View:
    """The view with the time in which people are learned."""
    return replace(view, range=TimeRange(view.range.start_s - LEARNED_S, view.range.end_s))


async def _firsts(view: View, sources: Sources, part: str) -> list[Row]:
    """One of both lists; the panels ask for them together."""
    rows = await sources.ask(_with_before(view), sign_ins.FIRSTS, since_s=view.range.start_s)
    return [row[1:] for row in rows if row[0] == part]


async def networks(view: View, sources: Sources) -> Shape:
    """Networks that somebody who is known came from for the first time, and countries and operators so."""
    since_s, longer = view.range.start_s, _with_before(view)
    rows = await _firsts(view, sources, "networks")
    headings = ["First (UTC)", "Who", "New network"]
    between = ["Country", "Operator"] if sources.knows_places else ["System"]
    people = sorted({row[0] for row in rows}) if sources.knows_places else []
    arrived = await sources.ask(longer.narrowed("user", people), sign_ins.ARRIVALS) if people else []
    countries, operators = firsts_of(arrived, sources.places)

    def told(user: str, address: str, system: str) -> list[Cell]:
        if not sources.knows_places:
            return [Cell(system_words(system), tone="muted")]
        where = sources.places.locate(address)
        return [
            _first(countries, user, where.country, since_s, words=country_words(where.country)),
            _first(operators, user, operator_words(where), since_s),
        ]

    grid = [
        [
            instant(first),
            person(user),
            Cell(network or "no address", narrows=("ip", address) if address else None),
            *told(user, address, system),
            number(count),
        ]
        for user, network, system, address, first, count in rows
    ]
    return Grid(
        [*(Heading(one) for one in (*headings, *between)), Heading("Sign-ins", numeric=True)],
        grid,
        empty=None if rows else await _nothing_new(view, sources, "came from a new network"),
    )


def firsts_of(arrived: Iterable[Row], places: Enrichment) -> tuple[_Firsts, _Firsts]:
    """When each person first came from each country, and by each operator; of rows as `ARRIVALS` has them."""
    countries: dict[tuple[str, str], int] = {}
    operators: dict[tuple[str, str], int] = {}
    for user, address, first in arrived:
        where = places.locate(address)
        for known, name in ((countries, where.country), (operators, operator_words(where))):
            known[user, name] = min(first, known.get((user, name), first))
    return countries, operators


def _first(firsts: _Firsts, user: str, name: str, since_s: int, *, words: str = "") -> Cell:
    """A country or an operator; if the person was not known to come from there, that says so."""
    if name in {"", UNKNOWN}:
        return Cell("not known", tone="muted")
    if firsts.get((user, name), 0) < since_s:
        return Cell(words or name, tone="muted")
    return Cell(f"{words or name}, new", tone="medium")


async def devices(view: View, sources: Sources) -> Shape:
    """Systems with browsers that somebody who is known used for the first time."""
    rows = await _firsts(view, sources, "devices")
    headings = (
        Heading("First (UTC)"),
        Heading("Who"),
        Heading("New device"),
        Heading("From"),
    )
    grid = [
        [instant(first), person(user), Cell(device_words(system, browser)), address_cell(ip)]
        for user, system, browser, ip, first, _ in rows
    ]
    return Grid(
        headings, grid, empty=None if rows else await _nothing_new(view, sources, "used a new device")
    )


def device_words(system: str, browser: str) -> str:
    """What is known of a device."""
    said = (system_words(system) if system else "", program_words(browser) if browser != "not said" else "")
    return ", ".join(one for one in said if one) or "other"


async def _nothing_new(view: View, sources: Sources, what: str) -> Empty:
    """Why nobody did what would be new: because it is so, or because nothing is known from before."""
    start_s = view.range.start_s
    before = replace(view, range=TimeRange(start_s - LEARNED_S, start_s))
    shorter = "Choose a shorter time: what came before it is what is known."
    if not await sources.ask(before, sign_ins.ANY):
        if not (await sources.ask(view, sign_ins.FIGURES) or [(0,)])[0][0]:
            return await no_records(view, sources, of="sign-ins")
        return Empty(
            f"Who {what} cannot be told: nobody's sign-ins of the 14 days before are in the lake.", shorter
        )
    return Empty(f"Nobody who signed in during the 14 days before {what}.", shorter)


_PLACE_HEADINGS = (
    Heading("Sign-ins", numeric=True),
    Heading("Failed", numeric=True),
    Heading("People", numeric=True),
    Heading("Addresses", numeric=True),
)
_NO_PLACES = "Name tables of addresses in detections.enrich.databases, and countries show here."


async def figures(view: View, sources: Sources) -> Shape:
    """Six numbers about sign-ins."""
    rows = await sources.ask(view, sign_ins.FIGURES)
    total, failed, persons, failing, addresses, sessions = rows[0] if rows else (0,) * 6
    total = total or 0
    share = f"{failed / total:.1%} of all" if total else "none at all"
    tiles = [
        Tile("Sign-ins", short(total)),
        Tile("Failed", short(failed), share, url=view.narrowed_url("/sign-ins", "result", "failed")),
        Tile("Accounts", short(persons), "of people and programs"),
        Tile("Accounts failing", short(failing)),
        Tile("Addresses", short(addresses)),
        Tile("Sessions", short(sessions), "that have an id"),
    ]
    return await figures_here(view, sources, tiles)


async def outcomes(view: View, sources: Sources) -> Shape:
    """Sign-ins over time, those that failed apart."""
    rows = await sources.ask(view, sign_ins.OUTCOMES)
    empty = None if rows else await no_records(view, sources, of="sign-ins")
    words = {"ok": "Succeeded", "failed": "Failed"}
    return chart_of(
        view.range,
        rows,
        colour=str,
        words=words.__getitem__,
        narrows=lambda name: ("result", name),
        empty=empty,
    )


async def errors(view: View, sources: Sources) -> Shape:
    """Why sign-ins failed, by Entra's own word for it."""
    rows = await sources.ask(view, sign_ins.ERRORS)
    ranked = [
        Ranked(error or "not said", count, colour="failed", note=counted(persons, "person", "people"))
        for error, count, persons in rows
    ]
    empty = None if rows else await good_news(view, sources, "No sign-in failed in this view.")
    return Ranking.of_all(ranked, empty)


async def _tops(view: View, sources: Sources, part: str) -> list[Row]:
    """One of the lists of who came from where; all panels ask for them together."""
    return [row[1:] for row in await sources.ask(view, sign_ins.WHO_WHERE) if row[0] == part]


async def failing(view: View, sources: Sources) -> Shape:
    """Whose sign-ins fail most, and from which addresses."""
    people = await _tops(view, sources, "persons failing")
    addresses = await _tops(view, sources, "addresses failing")
    parts = [
        Ranking(
            title,
            [
                Ranked(who, failed, (name, who), "failed", note=f"of {total:,}, {counted(others, *nouns)}")
                for who, total, failed, others, _ in rows
            ],
            sum(row[2] for row in rows),
        )
        for title, name, nouns, rows in (
            ("People", "user", ("address", "addresses"), people),
            ("Addresses", "ip", ("person", "people"), addresses),
        )
    ]
    empty = None if people else await good_news(view, sources, "No sign-in failed in this view.")
    return Several(parts, empty=empty)


async def shared(view: View, sources: Sources) -> Shape:
    """Addresses of several people, and people of several addresses."""
    by_address = await _tops(view, sources, "shared addresses")
    by_person = await _tops(view, sources, "persons about")
    lone = ("Every address has one person only.", "Every person has one address only.")
    empties = await asyncio.gather(*(good_news(view, sources, one) for one in lone))
    parts = [
        Grid(
            (
                Heading(one),
                Heading(several, numeric=True),
                Heading("Sign-ins", numeric=True),
                Heading("Failed", numeric=True),
            ),
            [
                [
                    Cell(who, narrows=(name, who)),
                    number(count),
                    number(total),
                    number(failed, "failed" if failed else "muted"),
                ]
                for who, total, failed, count, _ in rows
            ],
            empty=None if rows else empty,
        )
        for (one, several, name, rows), empty in zip(
            (("Address", "People", "ip", by_address), ("Person", "Addresses", "user", by_person)),
            empties,
            strict=True,
        )
    ]
    return Several(parts)


async def where_from(view: View, sources: Sources) -> Shape:
    """From which countries, where tables of addresses tell them, and from which networks people come."""
    rows = await _tops(view, sources, "networks")
    empty = None if rows else await no_records(view, sources, of="sign-ins")
    networks = Grid(
        (Heading("Network"), *_PLACE_HEADINGS),
        [[Cell(network or "no address"), *_place_cells(*figures)] for network, *figures in rows],
    )
    if not rows or not sources.knows_places:
        return Several([networks], empty=empty)
    located = locate(await sources.ask(view, sign_ins.PAIRS), sources.places)
    ordered = sorted(located.countries.items(), key=lambda one: (-one[1].count, one[0]))
    countries = Grid(
        (Heading("Country"), *_PLACE_HEADINGS),
        [[Cell(country_words(name)), *_tally_cells(tally)] for name, tally in ordered],
    )
    return Several([countries, networks])


def _tally_cells(tally: Tally) -> list[Cell]:
    return _place_cells(tally.count, tally.failures, len(tally.people), len(tally.addresses))


def _place_cells(count: int, failed: int, persons: int, addresses: int) -> list[Cell]:
    return [
        number(count),
        number(failed, "failed" if failed else "muted"),
        number(persons),
        number(addresses),
    ]


async def countries(view: View, sources: Sources) -> Shape:
    """People who signed in from several countries, and the operators of the networks that people came by."""
    if not sources.knows_places:
        return Several([], empty=Empty("Audit records do not say the country.", _NO_PLACES))
    located = locate(await sources.ask(view, sign_ins.PAIRS), sources.places)
    abroad = Grid(
        (Heading("Person"), Heading("Countries", numeric=True), Heading("Which, and how often", wide=True)),
        [
            [
                Cell(who, narrows=("user", who)),
                Cell(str(len(where)), sorts=len(where), tone="medium"),
                Cell(", ".join(f"{country_words(name)} {count:,}" for name, count in sorted(where.items()))),
            ]
            for who, where in travellers(located)[:60]
        ],
        empty=None if travellers(located) else Empty("Nobody signed in from more than one country."),
    )
    ordered = sorted(located.operators.items(), key=lambda one: (-one[1].count, one[0]))[:40]
    operators = Grid(
        (Heading("Operator"), *_PLACE_HEADINGS),
        [[Cell(name), *_tally_cells(tally)] for name, tally in ordered],
    )
    return Several([abroad, operators])


async def programs(view: View, sources: Sources) -> Shape:
    """With which browsers, systems and applications."""
    parts = []
    for title, query in (
        ("Browsers and programs", sign_ins.BROWSERS),
        ("Systems", sign_ins.SYSTEMS),
        ("Applications", sign_ins.APPLICATIONS),
    ):
        rows = await sources.ask(view, query)
        is_app = query is sign_ins.APPLICATIONS
        named = await name_applications(view, sources, (name for name, _ in rows)) if is_app else {}
        ranked = [
            Ranked(
                named.get(name, name) or "not said" if is_app else system_words(name) or "other",
                count,
                ("app", name) if is_app and name else None,
            )
            for name, count in rows
        ]
        parts.append(Ranking(title, ranked, sum(one.count for one in ranked)))
    empty = None if parts[0].rows else await no_records(view, sources, of="sign-ins")
    return Several(parts, empty=empty)


async def odd_ways(view: View, sources: Sources) -> Shape:
    """Sign-ins by password alone, by device code, and by tools."""
    rows = await sources.ask(view, sign_ins.ODD_WAYS)
    headings = (
        Heading("Way"),
        Heading("Who"),
        Heading("From"),
        Heading("Sign-ins", numeric=True),
        Heading("Failed", numeric=True),
        Heading("Program"),
        Heading("Last (UTC)"),
    )
    tones = {"password alone": "high", "device code": "medium", "tool": "low"}
    grid = [
        [
            Cell(way, tone=tones[way]),
            Cell(user, narrows=("user", user)),
            Cell(address, narrows=("ip", address) if address else None),
            number(count),
            number(failed, "failed" if failed else "muted"),
            Cell(agent, tone="muted"),
            instant(last),
        ]
        for way, user, address, agent, count, failed, last in rows
    ]
    said = "Nobody signed in by password alone, device code or a tool."
    empty = None if rows else await good_news(view, sources, said)
    return Grid(headings, grid, empty=empty)


async def sessions(view: View, sources: Sources) -> Shape:
    """Sessions that were in several networks, systems or programs: one of them may be stolen."""
    rows = await sources.ask(view, sign_ins.SESSIONS)
    headings = (
        Heading("Session"),
        Heading("Who"),
        Heading("Networks", numeric=True),
        Heading("Addresses", numeric=True),
        Heading("Systems", numeric=True),
        Heading("Programs", numeric=True),
        Heading("Sign-ins", numeric=True),
        Heading("Last (UTC)"),
    )
    grid = [
        [
            Cell(session[:13] + ("…" if len(session) > 13 else ""), tone="muted"),
            Cell(user, narrows=("user", user)),
            Cell(str(networks), sorts=networks, tone="medium" if networks > 1 else ""),
            Cell(str(addresses), sorts=addresses),
            Cell(str(systems), sorts=systems, tone="high" if systems > 1 else ""),
            Cell(str(agents), sorts=agents, tone="medium" if agents > 1 else ""),
            number(count),
            instant(last),
        ]
        for session, user, addresses, networks, systems, agents, count, last in rows
    ]
    said = "Every session stayed in one network, on one system."
    empty = None if rows else await good_news(view, sources, said)
    return Grid(headings, grid, empty=empty)


async def accounts(view: View, sources: Sources) -> Shape:
    """New people and guests, changes of sign-in methods, and what Entra found risky."""
    rows = await sources.ask(view, sign_ins.ACCOUNTS)
    headings = ("Time (UTC)", "Operation", "By", "From", "Result")
    grid = [
        [
            instant(at),
            Cell(operation.rstrip("."), narrows=("operation", operation)),
            Cell(user, narrows=("user", user) if user else None),
            Cell(address, narrows=("ip", address) if address else None),
            Cell(outcome, tone=outcome),
        ]
        for at, operation, user, address, outcome, _ in rows
    ]
    empty = None if rows else await no_records(view, sources, of="changes of accounts")
    return Grid([Heading(one) for one in headings], grid, empty=empty)


PAGE = Page(
    "sign-ins",
    "Sign-ins",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("outcomes", "Succeeded and failed", outcomes, width=8, tall="chart", is_live=True),
        Panel("errors", "Why they failed", errors, width=4, tall="chart"),
        Panel("odd-ways", "Password alone, device code, tools", odd_ways, tall="rows"),
        Panel("sessions", "Sessions in several places", sessions, tall="rows"),
        Panel("first-seen", "First seen networks", networks, tall="rows"),
        Panel(
            "first-devices",
            "First seen devices",
            devices,
            width=6,
            says="A device is a system with a browser or program: what sign-ins say of it.",
            tall="chart",
        ),
        Panel("failing", "Most failures", failing, width=6, tall="chart"),
        Panel("where-from", "Countries and networks", where_from, tall="rows"),
        Panel("programs", "With what", programs, tall="rows"),
        Panel(
            "map",
            "Map of sign-ins",
            sign_in_places.world,
            width=8,
            tall="chart",
            is_live=True,
            needs_places=True,
        ),
        Panel("towns", "Places", sign_in_places.towns, width=4, tall="chart", needs_places=True),
        Panel(
            "journeys",
            "Impossible journeys",
            sign_in_places.journeys,
            says="Those of alerts first, then from where a person hardly ever comes. Places are those of the"
            " address tables, and rough; both addresses may be a VPN's.",
            tall="rows",
            needs_places=True,
        ),
        Panel(
            "countries",
            "Several countries, and operators of networks",
            countries,
            tall="rows",
            needs_places=True,
        ),
        Panel("shared", "Shared addresses, and people with several", shared, tall="rows"),
        Panel("accounts", "Accounts and sign-in methods", accounts, tall="rows"),
    ),
    says="Who gets in and who does not, from where, with what, and what is new about it.",
)
