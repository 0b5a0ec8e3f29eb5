"""Sign-ins' panels of what is new about somebody who is known: networks with their countries, and devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.geolocation import UNKNOWN, operator_words
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.query.time_range import TimeRange
from m365watch.board.widgets.countries import country_words
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import program_words, system_words
from m365watch.board.widgets.record_text import address as address_cell
from m365watch.board.widgets.record_text import instant, number, person
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Shape
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
