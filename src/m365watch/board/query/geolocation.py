"""Where addresses are: sign-ins by country and network operator, and people who were in several countries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from m365watch.board.widgets.labels import country_words
from m365watch.detection.fields.enrichment_context import Enrichment, Whereabouts

UNKNOWN = "unknown"


@dataclass
class Tally:
    """What was counted of one country or operator."""

    count: int = 0
    failures: int = 0
    people: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Located:
    """Sign-ins by place."""

    countries: Mapping[str, Tally]
    operators: Mapping[str, Tally]
    """By the name and number of the autonomous system, as in Example Hosting (AS64500)."""
    countries_of: Mapping[str, Mapping[str, int]]
    """Successful sign-ins by person and country."""


def locate(rows: Iterable[tuple[str, str, int, int]], places: Enrichment) -> Located:
    """The rows (address, person, sign-ins, failures) by place."""
    countries: dict[str, Tally] = defaultdict(Tally)
    operators: dict[str, Tally] = defaultdict(Tally)
    countries_of: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for address, person, count, failures in rows:
        found = places.locate(address)
        country = found.country or UNKNOWN
        for tally in (countries[country], operators[operator_words(found)]):
            tally.count += count
            tally.failures += failures
            tally.people.add(person)
            tally.addresses.add(address)
        if found.country and count > failures:
            countries_of[person][found.country] += count - failures
    return Located(countries, operators, countries_of)


def place_words(where: Whereabouts) -> str:
    """The town with its country; the country alone where it is all that is known."""
    return ", ".join(one for one in (where.city, country_words(where.country)) if one) or "somewhere"


def operator_words(found: Whereabouts) -> str:
    """Who runs the network."""
    number = f"AS{found.asn}" if found.asn else ""
    if found.network_name:
        return f"{found.network_name} ({number})" if number else found.network_name
    return number or UNKNOWN


def travellers(located: Located) -> list[tuple[str, Mapping[str, int]]]:
    """People who signed in from several countries, those of most countries first."""
    several = [(who, where) for who, where in located.countries_of.items() if len(where) > 1]
    return sorted(several, key=lambda one: (-len(one[1]), one[0]))
