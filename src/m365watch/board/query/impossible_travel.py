"""Journeys that nobody can have made: two sign-ins of one person, too far apart for the time between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.correlation.impossible_travel import distance_km
from m365watch.detection.fields.enrichment_context import Enrichment, Whereabouts

SPEED_KM_H = 900.0
DISTANCE_KM = 500.0
WITHIN_S = 24 * 3_600
"""As the rule that raises alerts about it has them, unless it is changed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A successful sign-in whose place is known."""

    at_s: int
    address: str
    where: Whereabouts


@dataclass(frozen=True, slots=True)
class Journey:
    """From one sign-in to the next of the same person."""

    who: str
    start: Seen
    end: Seen
    distance_km: float

    @property
    def span_s(self) -> int:
        """The time between; two in one second have at least a second between them."""
        return max(self.end.at_s - self.start.at_s, 1)

    @property
    def speed_km_h(self) -> float:
        """How fast they would have been."""
        return self.distance_km / self.span_s * 3_600


Place = tuple[float, float]
"""Latitude and longitude."""


def placed(where: Whereabouts) -> Place | None:
    """Latitude and longitude, where they are known."""
    if where.latitude is None or where.longitude is None:
        return None
    return where.latitude, where.longitude


def how_often(
    rows: Iterable[tuple[str, str, int, int]], places: Enrichment
) -> Mapping[str, Mapping[Place, int]]:
    """How often each person came from each place, of rows as `PAIRS` has them: the most frequent first."""
    found: dict[str, dict[Place, int]] = defaultdict(dict)
    for address, who, count, failures in rows:
        place = placed(places.locate(address))
        if place is not None and count > failures:
            found[who][place] = found[who].get(place, 0) + count - failures
    return found


def far_apart(often: Mapping[str, Mapping[Place, int]]) -> list[str]:
    """People who came from places further apart than `DISTANCE_KM`, those first who were least at one."""
    return sorted(
        (who for who, found in often.items() if _are_far([*found])),
        key=lambda who: (min(often[who].values()), who),
    )


def _are_far(found: Sequence[Place]) -> bool:
    return any(distance_km(found[0], one) > DISTANCE_KM / 2 for one in found[1:])


def rarer_end(journey: Journey, often: Mapping[str, Mapping[Place, int]]) -> tuple[Seen, int]:
    """The end from which its person came less often, and how often."""
    known = often.get(journey.who, {})
    ends = ((one, known.get(placed(one.where) or (0.0, 0.0), 0)) for one in (journey.end, journey.start))
    return min(ends, key=lambda one: one[1])


def worst_first(
    journeys: Iterable[Journey],
    often: Mapping[str, Mapping[Place, int]],
    alerts: Mapping[tuple[str, str], Alert],
) -> list[Journey]:
    """Those in the worst alerts, by person and address, then those from where people hardly ever come.

    Somebody who is in two places at once every day has a tunnel to one of them.
    """

    def order(one: Journey) -> tuple[int, int, float]:
        alert = alert_of(one, alerts)
        return (-alert.severity.rank if alert else 1, rarer_end(one, often)[1], -one.speed_km_h)

    return sorted(journeys, key=order)


def alert_of(journey: Journey, alerts: Mapping[tuple[str, str], Alert]) -> Alert | None:
    """The worst alert about the person at one of the two addresses."""
    known = (alerts.get((journey.who, one.address)) for one in (journey.start, journey.end))
    found = [one for one in known if one is not None]
    return max(found, key=lambda one: one.severity.rank, default=None)


def alerts_by_pair(alerts: Iterable[Alert]) -> Mapping[tuple[str, str], Alert]:
    """The worst alert that names a person and an address, by both."""
    found: dict[tuple[str, str], Alert] = {}
    for alert in sorted(alerts, key=lambda one: one.severity.rank):
        people = [value.lower() for kind, value in alert.entities if kind in {"user", "actor"}]
        for kind, address in alert.entities:
            if kind in {"ip", "address"}:
                found |= {(who, address.lower()): alert for who in people}
    return found


def list_journeys(rows: Sequence[tuple[str, str, int]], places: Enrichment) -> list[Journey]:
    """The impossible ones of rows (person, address, second), the fastest first.

    Of a person's journeys between the same two places, it is the fastest.
    """
    of: dict[str, list[Seen]] = defaultdict(list)
    for who, address, at_s in sorted(rows, key=lambda one: (one[0], one[2], one[1])):
        where = places.locate(address)
        if placed(where) is not None:
            of[who].append(Seen(at_s, address, where))
    found = [
        journey
        for who, seen in of.items()
        for one, other in pairwise(seen)
        if (journey := _journey(who, one, other)) is not None
    ]
    fastest: dict[object, Journey] = {}
    for one in sorted(found, key=lambda one: -one.speed_km_h):
        fastest.setdefault((one.who, frozenset((placed(one.start.where), placed(one.end.where)))), one)
    return list(fastest.values())


def _journey(who: str, one: Seen, other: Seen) -> Journey | None:
    start, end = placed(one.where), placed(other.where)
    if start is None or end is None or other.at_s - one.at_s > WITHIN_S:
        return None
    journey = Journey(who, one, other, distance_km(start, end))
    is_possible = journey.distance_km <= DISTANCE_KM or journey.speed_km_h <= SPEED_KM_H
    return None if is_possible else journey
