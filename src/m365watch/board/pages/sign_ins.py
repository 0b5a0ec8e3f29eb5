"""Sign-ins: who gets in and who does not, from where, with what, and what is new about it."""

from __future__ import annotations

import asyncio

from m365watch.board.pages import sign_in_firsts
from m365watch.board.pages import sign_in_map as sign_in_places
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.geolocation import Tally, locate, travellers
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.widgets.countries import country_words
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import counted, short, system_words
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import instant, number
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
        Panel("first-seen", "First seen networks", sign_in_firsts.networks, tall="rows"),
        Panel(
            "first-devices",
            "First seen devices",
            sign_in_firsts.devices,
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
