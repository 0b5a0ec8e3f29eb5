"""Sign-ins by place, where tables of addresses tell it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from asking import view_of
from m365watch.board.pages import sign_ins
from m365watch.board.places import UNKNOWN, locate, travellers
from m365watch.board.shapes import Grid, Several
from m365watch.board.sources import Sources
from m365watch.detect.knowledge import Whereabouts


class Atlas:
    """Two networks that are somewhere; the rest is nowhere."""

    def locate(self, address: str) -> Whereabouts:
        if address.startswith("192.0.2."):
            return Whereabouts(country="DE", asn="64500")
        return Whereabouts(country="NO", asn="64501") if address.startswith("203.0.113.") else Whereabouts()


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
    assert counts == {"DE": (5, 1, 1), "NO": (5, 3, 2), UNKNOWN: (1, 0, 1)}
    assert set(located.operators) == {"AS64500", "AS64501", UNKNOWN}


def test_whoever_only_failed_was_not_there() -> None:
    """A password that is tried from abroad does not make its owner a traveller."""
    assert travellers(locate(ROWS, Atlas())) == [("ann@x", {"DE": 4, "NO": 2})]


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
    assert "detections.enrich.databases" in networks.cut
    assert {row[0].text for row in countries.rows} >= {"DE"}
