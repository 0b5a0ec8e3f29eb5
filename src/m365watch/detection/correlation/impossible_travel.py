"""Kind travel: two places of one group, too far apart for the time between."""

from __future__ import annotations

from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.episode import Episode, are_trusted
from m365watch.detection.rules.extension import Travel

PLACE = "m365.place"
_EARTH_KM = 6_371.0
_LEAST_H = 1 / 3_600
"""Two records of one second have at least a second between them."""


def travel_episodes(
    matches: Sequence[Match], wanted: Travel, *, quiet_s: int, trusted: str = ""
) -> list[Episode]:
    """Episodes of impossible journeys; `matches` of one group, in their order.

    Each match is compared with the one before that has a place; journeys within `quiet_s` are one episode.
    Both ends of a journey on devices that are `trusted` are a VPN, and no journey.
    """
    episodes: list[Episode] = []
    last: Match | None = None
    for match in matches:
        if not match.values.get(PLACE):
            continue
        journey = _journey(last, match, wanted) if last is not None else None
        if journey is not None and not are_trusted(journey.matches, trusted):
            _add(episodes, journey, quiet_s=quiet_s)
        last = match
    return episodes


def _journey(before: Match, after: Match, wanted: Travel) -> Episode | None:
    """The journey from one to the other, if nobody can have made it."""
    hours = (after.at_ms - before.at_ms) / 3_600_000
    if hours * 3_600 > wanted.within:
        return None
    distance = between(before.values[PLACE], after.values[PLACE])
    speed = distance / max(hours, _LEAST_H)
    if distance <= wanted.distance_km or speed <= wanted.speed_km_h:
        return None
    values = {
        "distance": f"{distance:.0f} km",
        "speed": f"{speed:.0f} km/h",
        "from": _where(before),
        "to": _where(after),
    }
    return Episode([before, after], after.at_ms, distance, values=values, held_ms=(after.at_ms,))


def _where(match: Match) -> str:
    parts = (match.values.get("m365.ip", ""), match.values.get("m365.country", ""))
    return " ".join(part for part in parts if part)


def _add(episodes: list[Episode], journey: Episode, *, quiet_s: int) -> None:
    last = episodes[-1] if episodes else None
    if last is None or journey.matches[0].at_ms - last.matches[-1].at_ms > quiet_s * 1000:
        episodes.append(journey)
        return
    known = {match.identity for match in last.matches}
    added = [match for match in journey.matches if match.identity not in known]
    longest = max(last, journey, key=lambda one: one.value)
    episodes[-1] = Episode(
        [*last.matches, *added],
        last.reached_ms,
        longest.value,
        values=longest.values,
        held_ms=(*last.held_ms, *journey.held_ms),
    )


def between(one: str, other: str) -> float:
    """Kilometres from one place to another; 0 where one cannot be read."""
    if one == other:
        return 0.0  # as nearly all are
    first, second = _degrees(one), _degrees(other)
    return 0.0 if first is None or second is None else distance_km(first, second)


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Along the earth's surface, between two latitudes and longitudes in degrees."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(radians, place)) for place in (one, other))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * _EARTH_KM * asin(min(1.0, sqrt(half)))


def _degrees(place: str) -> tuple[float, float] | None:
    latitude, comma, longitude = place.partition(",")
    try:
        return (float(latitude), float(longitude)) if comma else None
    except ValueError:
        return None
