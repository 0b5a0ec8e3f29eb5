"""Correlations that can never hold with the rules that they join: told like any other mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from m365watch.detection.rules.rule_library import Library, load_packs
from rules import alerts_of, load_good, load_text, record, rule_text

IDS = {name: f"5f1c6c0e-7d0b-4a51-9a4e-00000000000{n}" for n, name in enumerate(("one", "two"), 1)}
ONE, TWO = (rule_text({"s": {"Operation": name}, "condition": "s"}, name=name, id=IDS[name]) for name in IDS)
BOTH = {"type": "temporal", "rules": ["one", "two"]}
ORDERED = BOTH | {"type": "temporal_ordered"}
COUNT = {"type": "event_count", "rules": ["one", "two"]}
VALUES = {"type": "value_count", "rules": ["one", "two"]}
BY_WHO = {"group-by": ["who"]}


def joint(keys: dict[str, Any], name: str = "joint") -> str:
    """A correlation with these keys."""
    correlation = {"timespan": "10m", "group-by": ["UserId"], **keys}
    return yaml.safe_dump({"title": "Joint", "name": name, "level": "high", "correlation": correlation})


def fires(library: Library, *operations: str) -> bool:
    """Whether the correlation finds these operations, a minute apart."""
    records = [record(60 * n, Operation=name) for n, name in enumerate(operations)]
    return "Joint" in {one.title for one in alerts_of(library, records)}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            ORDERED | {"rules": ["one", "two", "one"]},
            (
                "correlation.rules.2: names one again, and each rule counts once, so that 3 are "
                "never reached; name it once and count to 2, or write `condition: one and two and one`"
            ),
        ),
        (
            BOTH | {"rules": ["one", "two", "one"]},
            (
                "correlation.rules.2: names one again, and each rule counts once, so that 3 are "
                "never reached; name it once and count to 2"
            ),
        ),
        (
            BOTH | {"rules": ["one", IDS["one"]]},
            (
                f"correlation.rules.1: names {IDS['one']} again, and each rule counts once, so that 2 are "
                "never reached; name it once and count to 1"
            ),
        ),
        (
            BOTH | {"condition": {"gte": 5}},
            (
                "correlation.condition.gte: of 2 rules no more than 2 match; give a number that this "
                "reaches, or join more rules"
            ),
        ),
        (ORDERED | {"condition": {"gt": 2}}, "correlation.condition.gt: of 2 rules no more than 2 match"),
        (BOTH | {"condition": {"gte": 10**12}}, "correlation.condition.gte: of 2 rules no more than 2 match"),
        (BOTH | {"condition": {"eq": 3}}, "correlation.condition.eq: of 2 rules no more than 2 match"),
        (
            COUNT | {"condition": {"lt": 0}},
            (
                "correlation.condition.lt: holds of no count, which is a whole number from 1 on; give "
                "another number, or find silence by a rule with `m365watch.low`"
            ),
        ),
        (
            COUNT | {"condition": {"lt": 1}},
            "correlation.condition.lt: holds of no count, which is a whole number from 1 on",
        ),
        (COUNT | {"condition": {"eq": 1.5}}, "holds of no count, which is a whole number from 1 on"),
        (
            COUNT | {"condition": {"eq": 0}},
            "correlation.condition.eq: holds of no count, which is a whole number from 1 on",
        ),
        (
            BOTH | {"condition": {"lte": 0}},
            "correlation.condition.lte: holds of no count, which is a whole number from 1 on",
        ),
        (
            ORDERED | {"condition": {"lt": 0}},
            "correlation.condition.lt: holds of no count, which is a whole number from 0 on",
        ),
        (
            VALUES | {"condition": {"lt": 0, "field": "ClientIP"}},
            "correlation.condition.lt: holds of no count, which is a whole number from 0 on",
        ),
        (
            BOTH | BY_WHO | {"aliases": {"who": {"one": "UserId"}}},
            (
                "correlation.aliases.who: says nothing of two, whose matches are never joined; add "
                "`two: ` and the field that it stands for there"
            ),
        ),
        (COUNT | BY_WHO | {"condition": {"gte": 2}, "aliases": {"who": {"two": "UserId"}}}, "nothing of one"),
        (
            VALUES | {"condition": {"gte": 2, "field": "who"}, "aliases": {"who": {"two": "ClientIP"}}},
            "correlation.aliases.who: says nothing of one",
        ),
    ],
)
def test_a_correlation_that_never_holds_is_told(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    """One line with where, why and what to do; it would be in force and silent."""
    library = load_text(tmp_path, ONE, TWO, joint(keys))

    [mistake] = library.mistakes
    assert told in str(mistake)
    assert [rule.name for rule in library.rules] == ["one", "two"]


@pytest.mark.parametrize(
    "keys",
    [
        BOTH | {"condition": {"gte": 2}, "rules": ["one", "two", "one"]},
        BOTH | {"condition": {"gt": 1}},
        BOTH | {"condition": {"neq": 5}},
        ORDERED | {"condition": "one and two and one"},
        COUNT | {"rules": ["one", "one"], "condition": {"gte": 100}},
        COUNT | {"condition": {"gte": 10**12}},
        COUNT | {"condition": {"gt": 0.5}},
        COUNT | {"condition": {"lt": 2}},
        COUNT | {"condition": {"neq": 0}},
        VALUES | {"condition": {"lt": 1, "field": "ClientIP"}},
        {"type": "value_sum", "rules": ["one"], "condition": {"lt": 0, "field": "Change"}},
        BOTH | BY_WHO | {"aliases": {"who": {"one": "UserId", IDS["two"]: "MailboxOwnerUPN"}}},
        BOTH | {"aliases": {"UserId": {"one": "MailboxOwnerUPN"}}},
        BOTH | {"aliases": {"unasked": {"one": "UserId"}}},
        COUNT
        | {"group-by": ["who", "UserId"], "condition": {"gte": 2}, "aliases": {"who": {"one": "SessionId"}}},
    ],
)
def test_a_correlation_that_can_hold_is_no_mistake(tmp_path: Path, keys: dict[str, Any]) -> None:
    """However odd it looks: it can hold, and somebody may mean it."""
    load_good(tmp_path, ONE, TWO, joint(keys))


def test_the_cure_of_a_rule_that_comes_again_finds_the_sequence(tmp_path: Path) -> None:
    """As an expression each step has a record of its own, and the order is kept."""
    library = load_good(tmp_path, ONE, TWO, joint(ORDERED | {"condition": "one and two and one"}))

    assert fires(library, "one", "two", "one")
    assert not fires(library, "one", "two")
    assert not fires(library, "one", "one", "two")


def test_an_alias_may_lack_a_correlation_that_is_grouped_by_it(tmp_path: Path) -> None:
    """Its alerts have what it groups by."""
    inner = {
        "type": "event_count",
        "rules": ["one"],
        "condition": {"gte": 2},
        "aliases": {"who": {"one": "UserId"}},
    }
    outer = {"type": "temporal", "rules": ["two", "inner"], "aliases": {"who": {"two": "UserId"}}}
    library = load_good(tmp_path, ONE, TWO, joint(inner | BY_WHO, "inner"), joint(outer | BY_WHO))

    records = [record(60 * n, Operation=name) for n, name in enumerate(("one", "one", "two"))]
    outermost = next(rule.id for rule in library.rules if rule.name == "joint")
    assert outermost in {one.rule_id for one in alerts_of(library, records)}


def test_a_rule_named_twice_by_the_name_of_the_packs_is_told(tmp_path: Path) -> None:
    """A copy of a packed rule keeps the name that it had there beside its own."""
    packed = next(one for one in load_packs(["core"]).rules if one.name and one.correlation is None)
    mine = tmp_path / "mine.yml"
    copy = rule_text({"s": {"Operation": "x"}, "condition": "s"}, name="mine", id=packed.id)
    mine.write_text(copy + "---\n" + joint(ORDERED | {"rules": [packed.name, "mine"]}), encoding="utf-8")

    mistakes = [str(one) for one in load_packs(["core"], directories=[mine]).mistakes]
    assert ["names mine again" in one for one in mistakes] == [True]


def test_a_rule_with_a_mistake_is_told_and_not_what_joins_it_twice(tmp_path: Path) -> None:
    """Nothing is known of it that could be told."""
    bad = rule_text({"s": {"m365.nothing": "x"}, "condition": "s"}, name="one", id=IDS["one"])
    library = load_text(tmp_path, bad, TWO, joint(ORDERED | {"rules": ["one", "two", "one"]}))

    assert ["joins is left out" in str(one) for one in library.mistakes] == [False, True]


def test_what_joins_a_correlation_that_never_holds_is_left_out_with_it(tmp_path: Path) -> None:
    """It could not hold either, and is told by itself."""
    never = joint(COUNT | {"condition": {"lt": 1}}, "never")
    library = load_text(tmp_path, ONE, TWO, never, joint(BOTH | {"rules": ["one", "never"]}))

    assert [rule.name for rule in library.rules] == ["one", "two"]
    assert ["joins is left out" in str(one) for one in library.mistakes] == [False, True]
