"""Rules that are left out could not have come to anything."""

from __future__ import annotations

import random

import pytest
from promises import guarantee

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.sliding_window import window_episodes
from m365watch.detection.engine.rule_pruning import list_promising
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge, Whereabouts
from m365watch.detection.rules.condition import Every, Like, Never, Order
from m365watch.detection.rules.condition import Test as Asked
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named, Rule
from rules import TENANT


class Places:
    """Knows everything."""

    def locate(self, address: str) -> Whereabouts:
        return Whereabouts(hosting=True)


HOSTING = Asked("m365.hosting", Like(("true",)))
WORK = Asked("Operation", Like(("work",)))
KNOWLEDGE = Knowledge(enrichment=Places(), tells=frozenset({"hosting"}))


def block(rule_id: str, *conditions: Asked | Never) -> Rule:
    """A rule that only serves correlations."""
    return Rule(rule_id, rule_id, Severity.LOW, "x.yml", condition=Every(conditions), alerts=False)


def joint(rule_id: str, joined: Joined, *sources: str, alerts: bool = True) -> Rule:
    """A correlation of those rules, all of which have to match where it is about which ones do."""
    correlation = Correlation(joined, sources, timespan_s=600, threshold=len(sources))
    return Rule(rule_id, rule_id, Severity.HIGH, "x.yml", correlation=correlation, alerts=alerts)


def promising(*rules: Rule, knowledge: Knowledge = NOTHING_KNOWN) -> list[str]:
    return [rule.id for rule in list_promising(rules, knowledge)]


def test_what_only_a_hopeless_rule_joins_is_left_out() -> None:
    """No record comes from servers where none are known: who else was at work need not be kept for that."""
    rules = (
        block("elsewhere", WORK, Never(HOSTING)),
        block("servers", WORK, HOSTING),
        joint("moves", Joined.ORDERED, "elsewhere", "servers", alerts=False),
        joint("moves twice", Joined.COUNT, "moves"),
    )

    assert promising(*rules) == []
    assert promising(*rules, knowledge=KNOWLEDGE) == ["elsewhere", "servers", "moves", "moves twice"]


def test_what_another_rule_needs_stays() -> None:
    """A rule that can do without the hopeless one keeps what it joins."""
    rules = (
        block("elsewhere", WORK),
        block("servers", HOSTING),
        joint("either", Joined.COUNT, "elsewhere", "servers"),
        joint("both", Joined.TEMPORAL, "elsewhere", "servers"),
    )

    assert promising(*rules) == ["elsewhere", "either"]


def make_expression(dice: random.Random, depth: int = 0) -> Expression:
    if depth > 2 or dice.random() < 0.4:
        return Named(dice.choice("abcd"))
    operator = dice.choice(["and", "or", "not"])
    count = 1 if operator == "not" else 2
    return Joint(operator, tuple(make_expression(dice, depth + 1) for _ in range(count)))


def make_match(number: int, source: str) -> Match:
    return Match(
        "rule", source, TENANT, ("ann",), number * 1000, f"{number:032}", "r", Severity.LOW, counted="1"
    )


@guarantee(34)
@pytest.mark.parametrize("seed", range(4))
def test_a_correlation_that_is_left_out_has_no_episode(seed: int) -> None:
    """For every kind of correlation, whatever it asks, of the rules that can match."""
    dice = random.Random(seed)
    left_out = 0
    for _ in range(1_000):
        joined = dice.choice([one for one in Joined if one is not Joined.RISK])
        is_about_rules = joined in {Joined.TEMPORAL, Joined.ORDERED}
        correlation = Correlation(
            joined,
            tuple("abcd"),
            timespan_s=dice.choice([2, 600]),
            order=dice.choice(list(Order)),
            threshold=dice.randrange(6),
            expression=make_expression(dice) if is_about_rules and dice.random() < 0.5 else None,
        )
        able = [name for name in "abcd" if dice.random() < 0.5]
        blocks = [block(name, WORK if name in able else HOSTING) for name in "abcd"]
        rule = Rule("rule", "a rule", Severity.HIGH, "x.yml", correlation=correlation)
        if "rule" in promising(*blocks, rule):
            continue
        left_out += 1
        matches = [make_match(number, dice.choice(able)) for number in range(6)] if able else []

        assert window_episodes(matches, correlation) == [], correlation
    assert left_out > 50
