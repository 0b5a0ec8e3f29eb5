"""What is well-formed and can never do what was meant: told like any other mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee
from verdicts import packs

from library_rules import DETECTION
from m365watch.detection.rules.validation.field_names import TRUTHS
from rules import load_good, load_text, rule_text, view

ROLLING = {"period": "24h", "back_period": "1h"}


def selection(**fields: Any) -> dict[str, Any]:
    """A detection with one selection."""
    return {"detection": {"s": fields, "condition": "s"}}


def made(keys: dict[str, Any]) -> str:
    """A rule with these keys."""
    others = dict(keys)
    return rule_text(others.pop("detection", DETECTION), **others)


@guarantee(36)
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (selection(**{"m365.ok": "yes"}), "detection.s.m365.ok: is true or false, and never yes"),
        (selection(**{"m365.tor": ["true", "no"]}), "detection.s.m365.tor.1: is true or false, and never no"),
        (selection(Operation=[]), "detection.s.Operation: is empty; give a value, or take it out"),
        (
            selection(Operation={"A": "B"}),
            "detection.s.Operation: is a map; what lies deeper is written with a dot, as Operation.A",
        ),
        (selection(Operaton="A"), "detection.s.Operaton: no record has this field; did you mean Operation?"),
        (selection(**{"userid|contains": "A"}), "no record has this field; did you mean UserId?"),
        (selection(**{"Parameter.ForwardTo": "A"}), "no record has this field; did you mean Parameters?"),
        (
            {"detection": {"s": {"Operation": "A"}, "t": {"Operation": "B"}, "condition": "s and t"}},
            "detection.condition: no record is of two operations; join them by `or`, or write one list",
        ),
        (
            {"m365watch": {"entity": {"user": "UserKey|UserID"}}},
            "m365watch.entity.user: no record has UserID; did you mean UserId?",
        ),
        (
            {"m365watch": {"group_by": ["UserID"]}},
            "m365watch.group_by: no record has UserID; did you mean UserId?",
        ),
        (
            {"m365watch": {"first_seen": {"key": ["Parameter.Name"], "learn": "7d", "period": "30d"}}},
            "m365watch.first_seen.key: no record has Parameter.Name; did you mean Parameters?",
        ),
        (
            {"m365watch": {"explanation": "It was {userid}"}},
            "m365watch.explanation: {userid} is neither an entity nor a field",
        ),
        (
            {"m365watch": {"explanation": "It was {UserID}"}},
            "m365watch.explanation: no record has UserID; did you mean UserId?",
        ),
        (
            {"m365watch": {"rolling": ROLLING}},
            "m365watch.rolling.back_period: is shorter than the period: what lies between is never looked at",
        ),
        (
            {"m365watch": {"explanation": "It was {user"}},
            "m365watch.explanation: a { has no }; close it, as {UserId}",
        ),
        (
            {"m365watch": {"check": ["Ask {user}[[ of {count}"]}},
            "m365watch.check.0: a [[ has no ]]; close it, or take it out",
        ),
        ({"lvl": "high", "level": None, "levle": "high"}, "levle: is no key of a rule; did you mean level?"),
        ({"tags": ["attack.t99"]}, "tags.0: attack.t99 is no technique; write it as attack.t1114.003"),
    ],
)
def test_what_never_does_what_was_meant_is_told(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    """Where, what, and what to do; the rule would be in force and silent."""
    [mistake] = load_text(tmp_path, made(keys)).mistakes

    assert told in str(mistake)


@pytest.mark.parametrize(
    "keys",
    [
        {"simulation": [{"type": "x"}], "regression_tests_path": "x", "foo": 1, "version": 2},
        {"tags": ["attack.t1078.004", "attack.g0016", "attack.s0002", "attack.initial-access", "cve.2024-1"]},
        selection(**{"m365.ok": True, "m365.human": "False", "m365.vip|exists": True}),
        selection(OperationId="x", ClientIPs="x", ResultsStatus="x", Object1Id="x", UserIds="x"),
        selection(ResultStatus=None, Operation=["A", "B"]),
        {"detection": {"s": {"Operation": ["A", "B"]}, "t": {"Operation": "B"}, "condition": "s and t"}},
        {"detection": {"s": {"Operation": "A"}, "t": {"Operation": "B"}, "condition": "s and not t"}},
        {
            "m365watch": {
                "explanation": "{user} wrote } and ]] [[to {UserId}]]",
                "rolling": ROLLING | {"period": "1h"},
            }
        },
    ],
)
def test_what_only_looks_like_a_mistake_is_none(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Keys of others' own are Sigma's custom attributes, and fields come that nobody knew."""
    load_good(tmp_path, made(keys))


def test_the_fields_that_are_true_or_false_are_those_that_say_so() -> None:
    """Of the records of each kind that a rule can ask for them."""
    for name in TRUTHS:
        for fields in ({}, {"UserType": 4}, {"Operation": "UserLoginFailed"}, {"ClientIP": "192.0.2.1"}):
            assert set(map(type, view(fields).values(f"m365.{name}"))) <= {bool}


def test_no_rule_of_the_packs_is_refused() -> None:
    """None is so cautious that it takes our own for a mistake."""
    assert packs().mistakes == ()


@pytest.mark.parametrize(
    ("correlation", "told"),
    [
        (
            {"type": "temporal", "rules": ["one", "two"], "condition": "one"},
            "two; name each, or take it out of `rules`",
        ),
        (
            {"type": "event_count", "rules": ["one"], "group-by": ["UserID"], "condition": {"gte": 2}},
            "correlation.group-by: no record has UserID; did you mean UserId?",
        ),
        (
            {"type": "value_count", "rules": ["one"], "condition": {"gte": 2, "field": "Operaton"}},
            "correlation.condition.field: no record has Operaton; did you mean Operation?",
        ),
    ],
)
def test_what_is_said_of_a_correlation_has_the_right_cure(
    tmp_path: Path, correlation: dict[str, Any], told: str
) -> None:
    """A number is none for an expression that lacks a rule; a field that no record has counts nothing."""
    two = rule_text(DETECTION, name="two", id="5f1c6c0e-7d0b-4a51-9a4e-000000000002")
    joint = {"title": "N", "level": "high", "correlation": {"timespan": "5m", **correlation}}
    library = load_text(tmp_path, rule_text(DETECTION, name="one"), two, yaml.safe_dump(joint))

    assert [told in str(one) for one in library.mistakes] == [True], library.mistakes
