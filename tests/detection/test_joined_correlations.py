"""Correlations of correlations: they see what they join for as long as it holds, and tell what it knows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee
from verdicts import packs

from m365watch.detection.alerts.alert import EVIDENCE_MAX, Alert, Match
from m365watch.detection.alerts.alert_exceptions import AlertException, Exceptions
from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.correlation.alert_links import GROUPS_MAX, STRETCHES
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule import Expression, Joined, Named
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.rules.severity import Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, alerts_of, load_good, record, rule_text

MINUTE = 60
HOUR = 3_600
STRETCH_S = 30 * MINUTE // STRETCHES
ONE = rule_text({"s": {"Operation": "One"}, "condition": "s"}, name="one")
TWO = rule_text(
    {"s": {"Operation": "Two"}, "condition": "s"}, name="two", id="5f1c6c0e-7d0b-4a51-9a4e-000000000002"
)


def joint(name: str, kind: str, rules: list[str], condition: Any = None, **keys: Any) -> str:
    """A correlation of that name."""
    extension = keys.pop("m365watch", {})
    correlation = {"type": kind, "rules": rules, "group-by": ["UserId"], "timespan": "10m", **keys}
    if condition is not None:
        correlation["condition"] = condition
    return yaml.safe_dump(
        {"title": name, "name": name, "level": "high", "correlation": correlation, "m365watch": extension}
    )


def many(**keys: Any) -> str:
    """At least three of One within five minutes."""
    return joint("many", "event_count", ["one"], {"gte": 3}, **{"timespan": "5m", **keys})


def told(library: Library, records: list[bytes]) -> list[Alert]:
    """The alerts of the rule that joins the others."""
    return [alert for alert in alerts_of(library, records) if alert.title == "outer"]


def ones(*seconds: int, **fields: Any) -> list[bytes]:
    """Records of the operation One at these seconds."""
    return [record(second, Operation="One", **fields) for second in seconds]


@guarantee(34)
@pytest.mark.parametrize("kind", ["temporal", "temporal_ordered"])
def test_two_hours_of_many_and_then_the_other_are_found(tmp_path: Path, kind: str) -> None:
    """What is joined holds for as long as its condition does, and not at its first instant alone."""
    library = load_good(tmp_path, ONE, TWO, many(), joint("outer", kind, ["many", "two"]))
    long = ones(*range(0, 2 * HOUR, MINUTE))

    assert len(told(library, [*long, record(2 * HOUR - 55, Operation="Two")])) == 1
    assert told(library, [*long, record(2 * HOUR + 9 * MINUTE, Operation="Two")])
    assert told(library, [*long, record(2 * HOUR + 10 * MINUTE, Operation="Two")]) == []
    assert bool(told(library, [record(0, Operation="Two"), *long])) is (kind == "temporal")


def test_the_other_may_come_first_while_many_go_on(tmp_path: Path) -> None:
    """An order in which what goes on comes last begins with a record in the midst of it."""
    library = load_good(tmp_path, ONE, TWO, many(), joint("outer", "temporal_ordered", ["two", "many"]))

    assert len(told(library, [*ones(*range(0, HOUR, MINUTE)), record(HOUR // 2, Operation="Two")])) == 1
    assert told(library, [*ones(*range(0, HOUR, MINUTE)), record(HOUR, Operation="Two")]) == []


THREE = rule_text(
    {"s": {"Operation": "Three"}, "condition": "s"}, name="three", id="5f1c6c0e-7d0b-4a51-9a4e-000000000003"
)


def in_order(
    steps: Sequence[str], records: Sequence[tuple[int, str]], *, within_s: int
) -> list[tuple[int, int, int]]:
    """Every order of three records, by looking at all of them."""
    first, middle, last = ([second for second, name in records if name == step] for step in steps)
    return [
        (one, two, three)
        for one in first
        for three in last
        if one <= three <= one + within_s
        for two in middle
        if one <= two <= three
    ]


@pytest.mark.parametrize("place", range(3))
def test_an_order_is_missed_only_where_a_step_shares_its_stretch(tmp_path: Path, place: int) -> None:
    """Beside what looks at every record: both ends of each stretch of what goes on are there to be joined."""
    dice = random.Random(place)
    names = ["Two", "Three"]
    names.insert(place, "One")
    rules = [{"One": "many", "Two": "two", "Three": "three"}[name] for name in names]
    goes_on = joint("many", "event_count", ["one"], {"gte": 1}, timespan="5m")
    outer = joint("outer", "temporal_ordered", rules, timespan="30m")
    library = load_good(tmp_path, ONE, TWO, THREE, goes_on, outer)
    found = missed = 0
    for _ in range(300):
        came = [*["One"] * dice.randrange(2, 30), *dice.choices(("Two", "Three"), k=dice.randrange(2, 5))]
        apart = [*range(STRETCH_S), *range(28 * MINUTE, 38 * MINUTE)]
        seconds = sorted(dice.sample(dice.choice([range(10 * MINUTE), range(90 * MINUTE), apart]), len(came)))
        records = list(zip(seconds, dice.sample(came, len(came)), strict=True))
        orders = in_order(names, records, within_s=30 * MINUTE)
        is_told = bool(told(library, [record(second, Operation=name) for second, name in records]))
        found += is_told
        if bool(orders) == is_told:
            continue
        missed += 1

        assert orders
        for steps in orders:
            stretches = [second // STRETCH_S for second in steps]
            assert len(set(stretches[max(0, place - 1) : place + 2])) == 1
            assert place == 1 or steps[2] - steps[0] > 30 * MINUTE - STRETCH_S
    assert min(found, missed) > 0


def test_a_middle_step_within_a_sixth_of_the_timespan_may_be_missed(tmp_path: Path) -> None:
    """Of each stretch of what goes on, the first and the last time are kept, as the docs say."""
    goes_on = joint("many", "event_count", ["one"], {"gte": 1}, timespan="5m")
    outer = joint("outer", "temporal_ordered", ["two", "many", "three"], timespan="30m")
    library = load_good(tmp_path, ONE, TWO, THREE, goes_on, outer)

    def is_found(two: int, *many: int, three: int) -> bool:
        steps = [record(two, Operation="Two"), record(three, Operation="Three")]
        return bool(told(library, [*steps, *ones(*many)]))

    assert is_found(60, 100, three=140)
    assert is_found(60, 0, 100, three=140)
    assert is_found(60, 100, 200, three=140)
    assert not is_found(60, 0, 100, 200, three=140)
    assert is_found(60, 0, 100, 200, three=60 + STRETCH_S)


def test_no_order_of_the_packs_has_three_steps() -> None:
    """So that none of theirs is missed; what adds one thinks of it."""
    joined = [rule.correlation for rule in packs().rules if rule.correlation is not None]
    ordered = [one for one in joined if one.joined is Joined.ORDERED]

    assert len(ordered) > 8
    assert {
        len(one.sources) if one.expression is None else count_steps(one.expression) for one in ordered
    } == {2}


def count_steps(expression: Expression) -> int:
    """How many records an expression asks for at most."""
    if isinstance(expression, Named):
        return 1
    counts = [count_steps(part) for part in expression.parts]
    return {"and": sum(counts), "or": max(counts), "not": 0}[expression.operator]


def test_what_stops_to_hold_is_not_joined_in_between(tmp_path: Path) -> None:
    """A count over a day that was reached at its beginning and at its end says nothing of its middle."""
    texts = (ONE, TWO, many(timespan="1d"), joint("outer", "temporal", ["many", "two"]))
    library = load_good(tmp_path, *texts)
    day = ones(0, 1, 2, 23 * HOUR)

    assert len(told(library, [*day, record(23 * HOUR + 60, Operation="Two")])) == 1
    assert told(library, [*day, record(12 * HOUR, Operation="Two")]) == []


def test_what_goes_on_is_counted_once(tmp_path: Path) -> None:
    """A count of alerts is no count of their records, and sees each for as long as it holds."""
    outer = joint("outer", "event_count", ["many"], {"gte": 2}, **{"group-by": ["ClientIP"]})
    library = load_good(tmp_path, ONE, many(**{"group-by": ["ClientIP", "UserId"]}), outer)
    ann = ones(*range(0, HOUR, MINUTE), ClientIP="192.0.2.1")
    bob = ones(*range(HOUR - 130, HOUR, MINUTE), ClientIP="192.0.2.1", UserId="bob")

    assert told(library, ann) == []
    assert len(told(library, [*ann, *bob])) == 1


def test_different_values_are_counted_of_what_goes_on_at_a_time(tmp_path: Path) -> None:
    """Three accounts that began hours apart, and are under attack at once."""
    outer = joint("outer", "value_count", ["many"], {"gte": 3, "field": "UserId"}, **{"group-by": ["m"]})
    outer = outer.replace("- m\n", "- ClientIP\n")
    library = load_good(tmp_path, ONE, many(), outer)
    records = [
        one
        for place, user in enumerate(("ann", "bob", "eve"))
        for one in ones(*range(place * HOUR, 4 * HOUR, MINUTE), UserId=user, ClientIP="192.0.2.1")
    ]

    assert [alert.group for alert in told(library, records)] == [("192.0.2.1",)]


@guarantee(34)
def test_an_alert_of_what_is_joined_tells_all_its_records(tmp_path: Path) -> None:
    """First and last time, the number, entities and evidence: no other alert need show them."""
    extension = {
        "entity": {"user": "UserId", "address": "ClientIP"},
        "explanation": "{count} from {address} between {first} and {last}",
    }
    outer = joint("outer", "temporal_ordered", ["many", "two"], m365watch=extension)
    library = load_good(tmp_path, ONE, TWO, many(), outer)
    records = [
        one for at in range(4) for one in ones(at * MINUTE, ClientIP=f"192.0.2.{at}", UserId="ann@x.example")
    ]
    other = record(300, Operation="Two", ClientIP="192.0.2.9", UserId="ann@x.example")
    [alert] = told(library, [*records, other])

    assert alert.evidence == ("record-0", "record-60", "record-120", "record-180", "record-300")
    assert alert.count == 5
    assert alert.named("address") == ("192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9")
    assert (alert.first_seen_at.minute, alert.last_seen_at.minute) == (0, 5)
    assert alert.explanation.startswith("5 from 192.0.2.0, 192.0.2.1, 192.0.2.2 and 2 more between 2026-")
    assert "00:00:00Z and" in alert.explanation


def test_what_two_of_the_joined_have_found_counts_once(tmp_path: Path) -> None:
    """Many accounts and many addresses, of the same records."""
    texts = [
        joint(name, "value_count", ["one"], {"gte": 3, "field": field}, **{"group-by": ["Place"]})
        for name, field in (("accounts", "UserId"), ("addresses", "ClientIP"))
    ]
    extension = {"entity": {"user": "UserId", "address": "ClientIP"}}
    outer = joint(
        "outer", "temporal", ["accounts", "addresses"], **{"group-by": ["Place"], "m365watch": extension}
    )
    library = load_good(tmp_path, ONE, *texts, outer)
    records = [
        record(at, Operation="One", UserId=f"u{at}", ClientIP=f"192.0.2.{at}", Place="here")
        for at in range(60)
    ]
    [alert] = told(library, records)

    assert (alert.count, len(alert.evidence), len(alert.named("user"))) == (60, EVIDENCE_MAX, 50)
    assert dict(alert.unnamed) == {"user": 10, "address": 10}


def test_a_flood_leaves_room_for_what_came_of_it(tmp_path: Path) -> None:
    """Evidence is bounded: each of the rules that are joined has its share of it."""
    library = load_good(
        tmp_path, ONE, TWO, many(), joint("outer", "temporal_ordered", ["many", "two"], timespan="1h")
    )
    [alert] = told(library, [*ones(*range(400)), record(500, Operation="Two")])

    assert (alert.count, len(alert.evidence)) == (401, EVIDENCE_MAX)
    assert (alert.evidence[0], alert.evidence[-1]) == ("record-0", "record-500")


def test_what_goes_on_after_the_end_is_no_part_of_it(tmp_path: Path) -> None:
    """The alert tells what led to it: what comes later than all that it joins is told by the other alert."""
    library = load_good(tmp_path, ONE, TWO, many(), joint("outer", "temporal", ["many", "two"]))
    [alert] = told(library, [*ones(*range(0, 5 * HOUR, MINUTE)), record(HOUR, Operation="Two")])

    assert alert.first_seen_at.hour == 0
    assert HOUR + 8 * MINUTE <= alert.last_at_ms // 1000 % 86_400 <= HOUR + 10 * MINUTE


def test_what_was_before_the_first_step_of_an_order_is_no_part_of_it(tmp_path: Path) -> None:
    """What comes second in an order may have begun long before."""
    library = load_good(tmp_path, ONE, TWO, many(), joint("outer", "temporal_ordered", ["two", "many"]))
    [alert] = told(library, [*ones(*range(0, 601, 60)), record(590, Operation="Two")])

    assert alert.evidence == ("record-590", "record-600")


def test_a_name_of_three_levels_is_told_through_all(tmp_path: Path) -> None:
    """What a correlation of correlations joins is told by what joins that in turn."""
    middle = joint("middle", "temporal_ordered", ["many", "two"], **{"group-by": ["who"]})
    middle = yaml.safe_load(middle)
    middle["correlation"]["aliases"] = {"who": {"many": "UserId", "two": "Owner"}}
    three = rule_text(
        {"s": {"Operation": "Three"}, "condition": "s"},
        name="three",
        id="5f1c6c0e-7d0b-4a51-9a4e-000000000003",
    )
    outer = yaml.safe_load(joint("outer", "temporal", ["middle", "three"], **{"group-by": ["whose"]}))
    outer["correlation"]["aliases"] = {"whose": {"middle": "who", "three": "UserId"}}
    outer["m365watch"] = {"entity": {"user": "whose"}, "explanation": "{rules}: {whose}"}
    texts = (ONE, TWO, three, many(), yaml.safe_dump(middle), yaml.safe_dump(outer))
    library = load_good(tmp_path, *texts)
    user = "ann@contoso.example"
    records = [
        *ones(0, 60, 120),
        record(200, Operation="Two", UserId="x", Owner=user),
        record(300, Operation="Three"),
    ]
    [alert] = told(library, records)

    assert alert.evidence == ("record-0", "record-60", "record-120", "record-200", "record-300")
    assert alert.explanation == f"middle, A rule: {user}"
    assert alert.named("user") == (user,)


@pytest.mark.parametrize("first", ["a", "b"])
def test_both_steps_of_one_second_are_evidence(tmp_path: Path, first: str) -> None:
    """Which of them sorts first is chance."""
    outer = joint("outer", "temporal_ordered", ["one", "two"])
    library = load_good(tmp_path, ONE, TWO, outer)
    second = "b" if first == "a" else "a"
    records = [record(0, Operation="One", Id=first), record(0, Operation="Two", Id=second)]
    [alert] = told(library, records)

    assert (alert.count, sorted(alert.evidence)) == (2, ["a", "b"])


NOW = datetime(2026, 11, 3, tzinfo=UTC)


def run(path: Path, library: Library, *batches: list[bytes]) -> list[Alert]:
    """The alerts of the rule outer that an engine has after these batches."""
    state = DetectionState(path / "detections.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    for number, batch in enumerate(batches, 1):
        engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
    found = [kept.alert for kept in state.alerts.list() if kept.alert.title == "outer"]
    state.close()
    return found


@guarantee(34)
def test_a_late_record_of_what_is_joined_is_told(tmp_path: Path) -> None:
    """It changes neither when that held nor what else is joined: only what there is to tell."""
    library = load_good(
        tmp_path, ONE, TWO, many(timespan="1h"), joint("outer", "temporal_ordered", ["many", "two"])
    )
    first = [*ones(1_000, 1_001, 1_002, 1_060), record(1_090, Operation="Two")]
    [alert] = run(tmp_path, library, first, ones(1_030))

    assert [alert] == told(library, [*first, *ones(1_030)])
    assert alert.count == 6


def test_two_alerts_on_one_that_goes_on_stay_apart(tmp_path: Path) -> None:
    """Each tells the whole of what it joins; when they came together tells them from each other."""
    texts = (ONE, TWO, many(timespan="1d"), joint("outer", "temporal", ["many", "two"], timespan="5m"))
    library = load_good(tmp_path, *texts)
    first = [
        *ones(0, 1, 2),
        record(60, Operation="Two"),
        *ones(9 * HOUR),
        record(9 * HOUR + 5, Operation="Two"),
    ]
    late = [record(9 * HOUR + 30, Operation="Two")]
    found = run(tmp_path, library, first, late)

    assert sorted(alert.id for alert in found) == sorted(alert.id for alert in told(library, [*first, *late]))
    assert sorted(alert.count for alert in found) == [4, 6]


def test_matches_around_one_that_is_gone_are_judged_again(tmp_path: Path) -> None:
    """What had to do with it lies beyond its own time, and further from what else has changed."""
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    key = GroupKey("rule", TENANT, ("ann",))
    for at_ms in (0, 3_000):
        state.matches.add([Match(*key[:1], "rule", TENANT, key.group, at_ms, f"{at_ms}", "r", Severity.LOW)])
    span = state.matches.read_span(key, low_ms=900, high_ms=3_000, reach_ms=1_000)
    state.close()

    assert [match.at_ms for match in span.matches] == [0, 3_000]


def test_an_exception_for_one_of_many_hides_no_alert_on_the_others(tmp_path: Path) -> None:
    """What is joined is excepted where all of its records are."""
    extension = {"entity": {"user": "UserId"}}
    spray = joint(
        "spray", "value_count", ["one"], {"gte": 3, "field": "UserId"}, **{"group-by": ["ClientIP"]}
    )
    outer = joint("outer", "event_count", ["spray"], {"gte": 1}, m365watch=extension)
    outer = outer.replace("- UserId", "- ClientIP")
    library = load_good(tmp_path, ONE, spray, outer)
    records = [record(at, Operation="One", UserId=f"u{at}", ClientIP="192.0.2.1") for at in range(4)]

    def shown(wanted: str) -> int:
        exceptions = Exceptions((AlertException("outer", "ours", {"user": wanted}),))
        found = find_alerts(
            library.rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, exceptions=exceptions
        )
        return len(found)

    assert (shown("u0"), shown("u?"), shown("x")) == (1, 0, 1)


SPRAY = joint("spray", "value_count", ["one"], {"gte": 3, "field": "UserId"}, **{"group-by": ["ClientIP"]})
SPRAYED = [record(at, Operation="One", UserId=f"u{at}", ClientIP="192.0.2.1") for at in range(10)]


@guarantee(34)
@pytest.mark.parametrize("user", ["u0", "u5", "u9", "U5"])
def test_what_is_joined_by_another_field_than_its_own_is_joined_by_each_value(
    tmp_path: Path, user: str
) -> None:
    """A spray from one address, then a sign-in of any of those who were sprayed, not of the first alone."""
    extension = {"entity": {"user": "UserId", "address": "ClientIP"}}
    outer = joint("outer", "temporal_ordered", ["spray", "two"], timespan="1h", m365watch=extension)
    library = load_good(tmp_path, ONE, TWO, SPRAY, outer)
    records = [*SPRAYED, record(60, Operation="Two", UserId=user, ClientIP="192.0.2.7")]

    for number, batches in enumerate(([records], [records[-1:], records[5:-1], records[:5]])):
        (tmp_path / f"{number}").mkdir()
        [alert] = run(tmp_path / f"{number}", library, *batches)

        assert [replace(alert, formerly=())] == told(library, records)
        assert (alert.group, alert.named("user"), alert.count) == ((user.lower(),), (user.lower(),), 11)
    assert told(library, [*SPRAYED, record(60, Operation="Two", UserId="somebody else")]) == []


def test_each_value_is_found_through_one_that_is_joined_in_turn(tmp_path: Path) -> None:
    """An alert between the two tells of the same records."""
    middle = joint("middle", "event_count", ["spray"], {"gte": 1}, **{"group-by": ["ClientIP"]})
    outer = joint("outer", "temporal_ordered", ["middle", "two"], timespan="1h")
    library = load_good(tmp_path, ONE, TWO, SPRAY, middle, outer)
    records = [*SPRAYED, record(60, Operation="Two", UserId="u5")]

    assert [alert.group for alert in told(library, records)] == [("u5",)]
    assert run(tmp_path, library, records) == told(library, records)


def test_the_values_by_which_one_alert_is_joined_are_bounded(tmp_path: Path) -> None:
    """The first of them, whatever a flood brings."""
    outer = joint("outer", "temporal_ordered", ["spray", "two"], timespan="1h")
    library = load_good(tmp_path, ONE, TWO, SPRAY, outer)
    flood = [
        record(at // 2, Id=f"r{at}", Operation="One", UserId=f"u{at:04}", ClientIP="192.0.2.1")
        for at in range(600)
    ]
    users = ("u0000", f"u{GROUPS_MAX - 3:04}", f"u{GROUPS_MAX + 3:04}")
    twos = [record(400 + n, Operation="Two", UserId=user) for n, user in enumerate(users)]

    assert {alert.group[0] for alert in told(library, [*flood, *twos])} == {*users[:2]}


def test_no_alert_id_is_told_as_a_value(tmp_path: Path) -> None:
    """A count of alerts has no values; by what the alerts are told apart says nothing to anybody."""
    said = {"explanation": "{distinct} alerts: [[{values}]]"}
    outer = joint("outer", "event_count", ["many"], {"gte": 1}, timespan="1h", m365watch=said)
    [alert] = told(load_good(tmp_path, ONE, many(), outer), ones(0, 1, 2))

    assert alert.explanation == "1 alerts: "
