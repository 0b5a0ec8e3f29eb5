"""Sign-ins' panels of the earth: where people came from, and journeys that nobody can have made."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from m365watch.board.query.alert_selection import to_mark
from m365watch.board.query.data_sources import ACTIVE, Sources
from m365watch.board.query.geolocation import Tally, place_words
from m365watch.board.query.impossible_travel import (
    Journey,
    Place,
    Seen,
    alert_of,
    alerts_by_pair,
    far_apart,
    how_often,
    list_journeys,
    placed,
    rarer_end,
    worst_first,
)
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sign_in_queries as sign_ins
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import counted, span_words
from m365watch.board.widgets.record_text import instant
from m365watch.board.widgets.widget_types import (
    Cell,
    Empty,
    Grid,
    Heading,
    Ranked,
    Ranking,
    Shape,
    Spot,
    Track,
    WorldMap,
)
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.fields.enrichment_context import Whereabouts

PEOPLE_MAX = 200
"""People whose ways are followed."""
SPOTS_MAX = 400
TRACKS_MAX = 40
JOURNEYS_SHOWN_MAX = 200
RANKED_MAX = 8
ADDRESSES_MAX = 20
"""A spot of more addresses leads nowhere: a URL has an end."""
NO_PLACES = Empty(
    "Audit records do not say where an address is.",
    "Name tables with cities and with networks (MMDB) in detections.enrich.databases, and here stand a map,"
    " places, impossible journeys, people in several countries, and the operators of networks.",
)
NO_SPOTS = Empty(
    "No address of these sign-ins has a place.",
    "Tables of countries alone have none: name one with cities in detections.enrich.databases.",
)


@dataclass(frozen=True, slots=True)
class _Journeys:
    """Impossible journeys, and what they are judged by."""

    found: Sequence[Journey]
    often: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    alerts: Mapping[tuple[str, str], Alert] = field(default_factory=dict)
    people: int = 0
    """Who were in places far apart; of `PEOPLE_MAX` the journeys are known."""


_Spots = dict[tuple[float, float], tuple[Whereabouts, Tally]]


async def _placed_sign_ins(view: View, sources: Sources) -> _Spots:
    """What was counted of each place."""
    found: _Spots = {}
    for address, person, count, failures in await sources.ask(view, sign_ins.PAIRS):
        where = sources.places.locate(address)
        place = placed(where)
        if place is None:
            continue
        _, tally = found.setdefault((round(place[0], 1), round(place[1], 1)), (where, Tally()))
        tally.count += count
        tally.failures += failures
        tally.people.add(person)
        tally.addresses.add(address)
    return found


async def _journeys(view: View, sources: Sources) -> _Journeys:
    """The worst first."""
    often = how_often(await sources.ask(view, sign_ins.PAIRS), sources.places)
    people = far_apart(often)
    if not people:
        return _Journeys([])
    asked = sources.ask(view.narrowed("user", people[:PEOPLE_MAX]), sign_ins.VISITS)
    rows, alerts = await asyncio.gather(asked, to_mark(sources.list_alerts(view)))
    found = list_journeys([(str(who), str(ip), int(at_s)) for who, ip, at_s in rows], sources.places)
    by_pair = alerts_by_pair(one.alert for one in alerts if one.state in ACTIVE)
    return _Journeys(worst_first(found, often, by_pair), often, by_pair, len(people))


async def _why_none(view: View, sources: Sources) -> Empty:
    return await no_records(view, sources, of="sign-ins") if not await _has_any(view, sources) else NO_SPOTS


async def _has_any(view: View, sources: Sources) -> bool:
    return bool(await sources.ask(view, sign_ins.PAIRS))


async def world(view: View, sources: Sources) -> Shape:
    """Where sign-ins came from, and the impossible journeys between them."""
    if not sources.knows_places:
        return WorldMap((), empty=NO_PLACES)
    spots = await _placed_sign_ins(view, sources)
    if not spots:
        return WorldMap((), empty=await _why_none(view, sources))
    most = max(tally.count for _, tally in spots.values())
    ordered = sorted(spots.items(), key=lambda one: -one[1][1].count)
    told = await _journeys(view, sources)
    return WorldMap(
        [_spot(view, place, *about, most=most) for place, about in ordered[:SPOTS_MAX]],
        [
            Track(start, end, f"{one.who}: {_where(one.start)} to {_where(one.end)}, {_speed(one)}")
            for one in told.found[:TRACKS_MAX]
            if (start := placed(one.start.where)) and (end := placed(one.end.where))
        ],
        cut=f"the {SPOTS_MAX} most frequent places" if len(ordered) > SPOTS_MAX else "",
    )


def _spot(view: View, place: tuple[float, float], where: Whereabouts, tally: Tally, *, most: int) -> Spot:
    says = (
        f"{place_words(where)}: {counted(tally.count, 'sign-in', 'sign-ins')}, {tally.failures:,} failed,"
        f" {counted(len(tally.people), 'person', 'people')}"
    )
    is_short = len(tally.addresses) <= ADDRESSES_MAX
    url = view.narrowed("ip", sorted(tally.addresses)).url("/sign-ins") if is_short else ""
    tone = "failed" if tally.failures == tally.count else "c1"
    return Spot(*place, says, math.sqrt(tally.count / most), tone, url)


async def towns(view: View, sources: Sources) -> Shape:
    """The places that most sign-ins came from."""
    if not sources.knows_places:
        return Ranking("", (), 0, empty=NO_PLACES)
    named: dict[str, Tally] = defaultdict(Tally)
    for where, one in (await _placed_sign_ins(view, sources)).values():
        tally = named[place_words(where)]
        tally.count += one.count
        tally.failures += one.failures
        tally.people |= one.people
    rows = [
        Ranked(
            name, one.count, note=f"{one.failures:,} failed, {counted(len(one.people), 'person', 'people')}"
        )
        for name, one in sorted(named.items(), key=lambda one: (-one[1].count, one[0]))[:RANKED_MAX]
    ]
    empty = None if rows else await _why_none(view, sources)
    return Ranking("", rows, sum(one.count for one in named.values()), empty=empty)


async def journeys(view: View, sources: Sources) -> Shape:
    """Two successful sign-ins of one person, further apart than an airliner flies in the time between."""
    if not sources.knows_places:
        return Grid((), (), empty=NO_PLACES)
    told = await _journeys(view, sources)
    headings = (
        Heading("When (UTC)"),
        Heading("Who"),
        Heading("Stands out", wide=True),
        Heading("From", wide=True),
        Heading("To", wide=True),
        Heading("Distance", numeric=True),
        Heading("Time between", numeric=True),
        Heading("Speed", numeric=True),
    )
    empty = Empty("Nobody was faster than an airliner.", "500 km and more at over 900 km/h would show here.")
    return Grid(
        headings,
        [_journey_row(view, one, told) for one in told.found[:JOURNEYS_SHOWN_MAX]],
        empty=None if told.found else empty,
        cut=_left_out(told),
    )


def _left_out(told: _Journeys) -> str:
    """What of the journeys is not shown, and how it is seen."""
    said = []
    if len(told.found) > JOURNEYS_SHOWN_MAX:
        said.append(f"{JOURNEYS_SHOWN_MAX} of {len(told.found):,}: narrow to a user to see all of theirs")
    if told.people > PEOPLE_MAX:
        said.append(f"of the {PEOPLE_MAX} among {told.people:,} people who were somewhere least often")
    return "; ".join(said)


def _journey_row(view: View, one: Journey, told: _Journeys) -> list[Cell]:
    return [
        instant(one.end.at_s),
        Cell(one.who, narrows=("user", one.who)),
        _why(view, one, told),
        *(Cell(_where(seen), narrows=("ip", seen.address)) for seen in (one.start, one.end)),
        Cell(f"{one.distance_km:,.0f} km", sorts=one.distance_km),
        Cell(span_words(one.span_s), sorts=one.span_s),
        Cell(_speed(one), sorts=one.speed_km_h),
    ]


def _why(view: View, one: Journey, told: _Journeys) -> Cell:
    """The alert that it is in; of any other, how often its person comes from the rarer end."""
    if (alert := alert_of(one, told.alerts)) is not None:
        url, severity = view.url("/alert", alert=alert.id), alert.severity
        return Cell(alert.title, tone=str(severity), sorts=severity.rank, url=url)
    seen, times = rarer_end(one, told.often)
    every = sum(told.often.get(one.who, {}).values())
    return Cell(f"{times:,} of {every:,} from {place_words(seen.where)}", sorts=-times, tone="muted")


def _speed(one: Journey) -> str:
    return f"{one.speed_km_h:,.0f} km/h" if one.speed_km_h < 100_000 else "at once"


def _where(seen: Seen) -> str:
    return f"{place_words(seen.where)} ({seen.address})"
