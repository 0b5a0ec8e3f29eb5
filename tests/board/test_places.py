"""Sign-ins by place, where tables of addresses tell it; and journeys that nobody can have made."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asking import ask, board_of, view_of
from m365watch.board.pages import sign_in_map as sign_in_places
from m365watch.board.pages import sign_ins
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.geolocation import UNKNOWN, locate, travellers
from m365watch.board.query.impossible_travel import (
    alerts_by_pair,
    far_apart,
    how_often,
    list_journeys,
    worst_first,
)
from m365watch.board.query.sql import sign_in_queries as queries
from m365watch.board.widgets.labels import country_words
from m365watch.board.widgets.map_outline import HEIGHT, NORTH, WIDTH, place_on
from m365watch.board.widgets.widget_types import Grid, Several, WorldMap
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.fields.enrichment_context import Whereabouts
from m365watch.detection.rules.severity import Severity

ABOUT_EVE = Alert(
    id=AlertId("1"),
    rule_id="r",
    title="Password spray, then a success",
    severity=Severity.HIGH,
    tenant="t",
    group=(),
    entities=(("user", "Eve@x"), ("ip", "203.0.113.3")),
    first_at_ms=0,
    last_at_ms=0,
    count=1,
    evidence=(),
    explanation="",
)


class Atlas:
    """Two networks that are somewhere; the rest is nowhere."""

    def locate(self, address: str) -> Whereabouts:
        if address.startswith("192.0.2."):
            return Whereabouts(country="DE", asn="64500", latitude=53.08, longitude=8.8, city="Bremen")
        if address.startswith("203.0.113."):
            return Whereabouts("BR", "64501", -8.76, -63.9, network_name="Example Hosting")
        return Whereabouts()


class WideAtlas(Atlas):
    """All that is no IPv4 address is at the other end of the world."""

    def locate(self, address: str) -> Whereabouts:
        if ":" in address:
            return Whereabouts(country="AU", latitude=-31.95, longitude=115.86, city="Perth")
        return super().locate(address)


ROWS = [
    ("192.0.2.1", "ann@x", 5, 1),
    ("203.0.113.9", "ann@x", 2, 0),
    ("203.0.113.9", "bob@x", 3, 3),
    ("198.51.100.7", "bob@x", 1, 0),
]


def test_sign_ins_are_counted_by_country_and_operator() -> None:
    """Each counts once; what no table knows is counted as unknown, not left out."""
    located = locate(ROWS, Atlas())

    counts = {name: (one.count, one.failures, len(one.people)) for name, one in located.countries.items()}
    assert counts == {"DE": (5, 1, 1), "BR": (5, 3, 2), UNKNOWN: (1, 0, 1)}
    assert set(located.operators) == {"AS64500", "Example Hosting (AS64501)", UNKNOWN}


def test_whoever_only_failed_was_not_there() -> None:
    """A password that is tried from abroad does not make its owner a traveller."""
    assert travellers(locate(ROWS, Atlas())) == [("ann@x", {"DE": 4, "BR": 2})]


def test_countries_show_where_tables_tell_them(sources: Sources) -> None:
    """With tables there is a country for the addresses that they know; without, what to do is said."""
    view = view_of("range=30d")
    plain = asyncio.run(sign_ins.where_from(view, sources))
    located = asyncio.run(sign_ins.where_from(view, replace(sources, places=Atlas())))

    assert isinstance(plain, Several)
    assert isinstance(located, Several)
    [networks] = plain.parts
    countries = located.parts[0]
    assert isinstance(networks, Grid)
    assert isinstance(countries, Grid)
    assert networks.cut == ""
    assert {row[0].text for row in countries.rows} >= {"Germany"}


def test_a_journey_is_impossible_only_where_nobody_flies_so_fast() -> None:
    """Bremen to Porto Velho are 9,500 km: an hour is too short, half a day is not, nor is a place unknown."""
    hour = 3_600
    rows = [
        ("ann@x", "192.0.2.1", 0),
        ("ann@x", "203.0.113.9", hour),
        ("ann@x", "192.0.2.2", 3 * hour),
        ("bob@x", "192.0.2.1", 0),
        ("bob@x", "203.0.113.9", 12 * hour),
        ("eve@x", "198.51.100.7", 0),
        ("eve@x", "203.0.113.9", 1),
    ]

    [found] = list_journeys(rows, Atlas())

    assert (found.who, found.start.address, found.end.address) == ("ann@x", "192.0.2.1", "203.0.113.9")
    assert 9_300 < found.distance_km < 9_700
    assert found.speed_km_h == pytest.approx(found.distance_km)
    assert far_apart(how_often(ROWS, Atlas())) == ["ann@x"]


def test_journeys_of_alerts_come_first_and_then_from_where_nobody_comes() -> None:
    """A tunnel that somebody is in all day is last, however fast it seems to bring them there."""
    hour = 3_600
    tunnel = [("192.0.2.1", "ann@x", 50, 0), ("203.0.113.1", "ann@x", 50, 0)]
    once = [("192.0.2.1", "bob@x", 50, 0), ("203.0.113.2", "bob@x", 1, 0)]
    taken = [("192.0.2.1", "eve@x", 50, 0), ("203.0.113.3", "eve@x", 9, 0)]
    often = how_often([*tunnel, *once, *taken], Atlas())
    people = [("ann@x", 1), ("bob@x", hour), ("eve@x", 2 * hour)]
    found = list_journeys(
        [
            one
            for number, (who, span_s) in enumerate(people, 1)
            for one in ((who, "192.0.2.1", 0), (who, f"203.0.113.{number}", span_s))
        ],
        Atlas(),
    )

    told = worst_first(found, often, alerts_by_pair([ABOUT_EVE]))

    assert [one.who for one in found] == ["ann@x", "bob@x", "eve@x"]
    assert [one.who for one in told] == ["eve@x", "bob@x", "ann@x"]
    assert far_apart(often) == ["bob@x", "eve@x", "ann@x"]


def test_where_no_table_tells_places_one_panel_says_so(sources: Sources) -> None:
    """And none of the others takes room for the same; a program may ask for any."""
    page = asyncio.run(ask(board_of(sources), "/sign-ins")).text
    located = asyncio.run(ask(board_of(replace(sources, places=Atlas())), "/sign-ins")).text
    needy = [one.name for one in sign_ins.PAGE.panels if one.needs_places]

    assert needy == ["map", "towns", "journeys", "countries"]
    assert [one for one in needy if f'id="panel-{one}"' in page] == ["map"]
    assert [one for one in needy if f'id="panel-{one}"' in located] == needy
    assert 'w12 " id="panel-map"' in page


def test_a_country_is_called_by_its_name() -> None:
    """What is no country's code stays as it is."""
    assert [country_words(one) for one in ("BR", "TR", "ZZ", "")] == ["Brazil", "Türkiye", "ZZ", ""]


def test_places_are_on_the_map(sources: Sources) -> None:
    """Every sign-in whose address has a place is in a spot, and what is impossible is a line between two."""
    view, located = view_of("range=30d"), replace(sources, places=WideAtlas())
    pairs = asyncio.run(sources.ask(view, queries.PAIRS))

    world = asyncio.run(sign_in_places.world(view, located))
    journeys = asyncio.run(sign_in_places.journeys(view, located))
    nowhere = asyncio.run(sign_in_places.world(view, replace(sources, places=NoPlaces())))

    assert isinstance(world, WorldMap)
    assert isinstance(journeys, Grid)
    assert any("Perth, Australia" in cell.text for row in journeys.rows for cell in row)
    placed = sum(count for address, _, count, _ in pairs if located.places.locate(address).country)
    assert sum(int(one.says.split(": ")[1].split()[0].replace(",", "")) for one in world.spots) == placed > 0
    assert 0 < len(world.tracks) <= len(journeys.rows)
    assert nowhere.empty == sign_in_places.NO_SPOTS
    assert asyncio.run(sign_in_places.world(view, sources)).empty == sign_in_places.NO_PLACES


class NoPlaces:
    """A table of countries."""

    def locate(self, address: str) -> Whereabouts:
        return Whereabouts(country="DE")


def test_a_place_beyond_the_edge_is_on_the_map() -> None:
    """A table may say anything of an address."""
    assert place_on(0, 0) == (WIDTH / 2, NORTH * 2)
    assert place_on(90, 200) == (WIDTH, 0)
    assert place_on(-90, -200) == (0, HEIGHT)
