"""What is not judged cannot have been an alert."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee
from verdicts import packs

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.alert_builder import sort_matches
from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.episode_finder import Moment, find_episodes
from m365watch.detection.correlation.impossible_travel import travel_episodes
from m365watch.detection.correlation.period_rules import SETTLED_S, deviation_episodes, gradient_episodes
from m365watch.detection.correlation.sliding_window import window_episodes
from m365watch.detection.engine import detection_engine as engines
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.group_tallies import PLACES_MAX, VALUES_MAX, Tallies, Tally, may_alert
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.extension import Change, Deviation, Extension, Kind, Several, Severity, Travel
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named, Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT

AFTER_MS = (SETTLED_S + 60) * 1000
KEY = GroupKey("rule", TENANT, ("user", "ann"))


def make_match(
    number: int, *, source: str = "a", counted: str = "", severity: str = "low", place: str = ""
) -> Match:
    """A match of the group, a second after the one before."""
    return Match(
        KEY.rule_id,
        source,
        TENANT,
        KEY.group,
        number * 1000,
        f"{number:032}",
        f"record-{number}",
        Severity(severity),
        {"m365.place": place},
        counted=counted,
    )


def make_rule(correlation: Correlation) -> Rule:
    return Rule(KEY.rule_id, "a rule", Severity.HIGH, "x.yml", correlation=correlation)


def make_expression(dice: random.Random, depth: int = 0) -> Expression:
    if depth > 2 or dice.random() < 0.4:
        return Named(dice.choice("abcd"))
    operator = dice.choice(["and", "or", "not"])
    count = 1 if operator == "not" else 2
    return Joint(operator, tuple(make_expression(dice, depth + 1) for _ in range(count)))


def make_correlation(dice: random.Random) -> Correlation:
    """Any that asks for few matches, so that some groups pass and some do not."""
    joined = dice.choice(list(Joined))
    expression = (
        make_expression(dice) if joined in {Joined.TEMPORAL, Joined.ORDERED} and dice.random() < 0.5 else None
    )
    return Correlation(
        joined,
        tuple("abcd"),
        timespan_s=dice.choice([2, 600]),
        order=dice.choice(list(Order)),
        threshold=dice.randrange(6),
        percentile=50,
        expression=expression,
    )


@guarantee(34)
@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_is_left_out_has_no_episode(seed: int) -> None:
    """For every kind of correlation, whatever it asks and whatever the group has."""
    dice = random.Random(seed)
    left_out = 0
    for _ in range(1_500):
        correlation = make_correlation(dice)
        matches = [
            make_match(number, source=dice.choice("abcd"), counted=dice.choice(["", "1", "2", "3"]))
            for number in range(dice.randrange(1, 7))
        ]
        tally = Tally()
        tally.add(matches)
        if not may_alert(make_rule(correlation), tally):
            left_out += 1

            assert window_episodes(sort_matches(matches), correlation) == []
    assert left_out > 100


def test_a_count_beyond_which_there_is_an_alert_is_judged() -> None:
    """`several` asks for more than its number."""
    rule = Rule(
        "r", "a rule", Severity.LOW, "x.yml", extension=Extension(several=Several(threshold=2, period=3_600))
    )

    assert [may_alert(rule, Tally(count=count)) for count in (2, 3)] == [False, True]


@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_is_left_out_has_no_change(seed: int) -> None:
    """Of how many there are in a period, and of what their values sum up to, negative ones among them."""
    dice = random.Random(seed)
    left_out = found = 0
    for _ in range(800):
        value, direction = dice.choice(["", "Size"]), dice.choice(["up", "down", "both"])
        least = dice.choice([0, 0.3, 2, 5])
        change = Change(2, 1.5, direction=direction, value=value, at_least=least)
        deviation = Deviation(2, 1, periods=2, direction=direction, value=value, at_least=least)
        matches = [
            make_match(number, counted=dice.choice(["", "x", "0.1", "2", "-1"]))
            for number in sorted(dice.sample(range(12), dice.randrange(1, 7)))
        ]
        tally = Tally()
        tally.add(matches)
        for extension, episodes in (
            (Extension(gradient=change), gradient_episodes(matches, change, now_ms=AFTER_MS)),
            (Extension(deviation=deviation), deviation_episodes(matches, deviation, now_ms=AFTER_MS)),
        ):
            found += bool(episodes)
            if not may_alert(Rule("r", "a rule", Severity.LOW, "x.yml", extension=extension), tally):
                left_out += 1

                assert episodes == []
    assert min(left_out, found) > 100


PLACES = ("53.08,8.8", "53.1,8.9", "52.52,13.4", "-8.76,-63.9", "nowhere")


@pytest.mark.parametrize("seed", range(4))
def test_a_group_that_is_left_out_has_no_journey(seed: int) -> None:
    """However many towns somebody was in, and whatever was kept before places were counted."""
    dice = random.Random(seed)
    left_out = found = 0
    for _ in range(600):
        wanted = Travel(distance_km=dice.choice([5, 200, 500]), speed_km_h=dice.choice([1, 900]))
        towns = dice.sample(PLACES, dice.randrange(1, 5))
        matches = [
            make_match(number, place=place, counted=place if dice.random() < 0.95 else "")
            for number, place in enumerate(dice.choices(towns, k=dice.randrange(1, 7)))
        ]
        tally = Tally()
        tally.add(matches)
        episodes = travel_episodes(matches, wanted, quiet_s=60)
        found += bool(episodes)
        if not may_alert(make_travel(wanted), tally):
            left_out += 1

            assert episodes == []
    assert min(left_out, found) > 100


def make_travel(wanted: Travel | None) -> Rule:
    return Rule("r", "a rule", Severity.LOW, "x.yml", extension=Extension(kind=Kind.TRAVEL, travel=wanted))


def test_places_of_one_town_are_no_journey_and_too_many_are_judged() -> None:
    """At home and in the office, half a kilometre apart or thirty; more are not compared with each other."""
    town = [f"53.0{number},8.8" for number in range(PLACES_MAX + 1)]
    tallies = [Tally(count=9, values=set(values)) for values in (town[:-1], town, ["53.08,8.8", "-8.7,-63"])]

    assert [may_alert(make_travel(None), tally) for tally in tallies] == [False, True, True]


def test_sign_ins_of_one_town_are_kept_and_never_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each batch somebody signs in where everybody does: the day's sign-ins are not read for that."""
    judged: list[str] = []

    def find(rule: Rule, matches: Sequence[Match], moment: Moment) -> list[Episode]:
        judged.append(rule.name)
        return find_episodes(rule, matches, moment)

    monkeypatch.setattr(engines, "find_episodes", find)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(packs().rules, state, knowledge=Knowledge(enrichment=Towns()))
    at = datetime(2026, 11, 16, tzinfo=UTC)
    for number, address in enumerate([*["192.0.2.1", "192.0.2.2"] * 10, "203.0.113.1", "203.0.113.1"]):
        records = [sign_in(number, at + timedelta(minutes=5 * number), address)]
        engine.take([Portion(TENANT, at, records, headers_of(records))], number=number + 1, now=at)
        assert ("i05_impossible_travel" in judged) == (number >= 20)
    state.close()

    assert judged.count("i05_impossible_travel") == 2


class Towns:
    """Two networks of one town, and a third an ocean away."""

    def locate(self, address: str) -> Whereabouts:
        north, east = {"192.0.2.1": (53.08, 8.8), "192.0.2.2": (53.1, 8.9)}.get(address, (-8.76, -63.9))
        return Whereabouts("DE", "64500", north, east)


def sign_in(number: int, at: datetime, address: str) -> bytes:
    """A sign-in of one account on a managed device."""
    record = {
        "Id": f"{number}",
        "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
        "Operation": "UserLoggedIn",
        "RecordType": 15,
        "ResultStatus": "Success",
        "UserType": 0,
        "UserId": "ada@contoso.example",
        "ClientIP": address,
        "DeviceProperties": [{"Name": "IsCompliantAndManaged", "Value": "True"}],
    }
    return json.dumps(record).encode()


def test_a_tally_knows_what_was_kept_before_the_start(tmp_path: Path) -> None:
    """A group is as near to its alert after a restart as before."""
    before = [make_match(number, source="ab"[number % 2], counted=f"{number}") for number in range(5)]
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    state.matches.add([*before, *before])
    tallies = Tallies(state)
    more = [make_match(9, source="c", counted="9")]
    other = GroupKey("rule", TENANT, ("user", "bob"))
    tallies.load([KEY, other])
    tally = tallies.count_in(KEY, more)

    assert (tally.count, tally.sources) == (6, {"a", "b", "c"})
    assert tally.values == {"0", "1", "2", "3", "4", "9"}
    assert not tally.is_alerted
    assert tallies.count_in(other, []).count == 0
    state.close()


def test_a_tally_of_many_values_is_bounded_and_judges() -> None:
    """It forgets values, and never takes a group for harmless by that."""
    tally = Tally()
    tally.add([make_match(number, counted=f"{number}") for number in range(VALUES_MAX)])
    tally.add([make_match(number, counted=f"more {number}") for number in range(VALUES_MAX)])
    many = Correlation(Joined.DISTINCT, ("a",), 600, threshold=VALUES_MAX + 1)

    assert len(tally.values) == VALUES_MAX
    assert may_alert(make_rule(many), tally)
