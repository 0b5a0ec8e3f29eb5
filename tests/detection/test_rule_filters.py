"""A Sigma filter takes out of rules what it says, and out of no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from verdicts import packs

from m365watch.detection.rules.rule_library import load_beside_packs, load_packs
from rules import RULE_ID, alerts_of, load_good, load_text, record, rule_text

RULE = rule_text({"s": {"Operation": "New-InboxRule"}, "condition": "s"}, name="mine")
OTHER_ID = "5f1c6c0e-7d0b-4a51-9a4e-000000000002"
OTHER = rule_text({"s": {"Operation": "New-InboxRule"}, "condition": "s"}, title="Other", id=OTHER_ID)
CORRELATION = yaml.safe_dump(
    {
        "title": "Many",
        "name": "many",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-000000000003",
        "level": "high",
        "correlation": {
            "type": "event_count",
            "rules": ["mine"],
            "group-by": ["UserId"],
            "timespan": "1h",
            "condition": {"gte": 2},
            "generate": True,
        },
    }
)


def filter_text(rules: Any, condition: str = "not robot", **keys: Any) -> str:
    """A filter about the robot's records."""
    return yaml.safe_dump(
        {
            "title": "The robot may",
            "logsource": {"product": "m365", "service": "exchange"},
            "filter": {"rules": rules, "robot": {"UserId|startswith": "robot"}, "condition": condition},
            **keys,
        }
    )


ROBOT = record(1, Operation="New-InboxRule", UserId="robot@contoso.example")
ANN = record(2, Operation="New-InboxRule")


def titles(tmp_path: Path, *texts: str) -> list[tuple[str, str]]:
    """Title and user of each alert."""
    found = alerts_of(load_good(tmp_path, *texts), [ROBOT, ANN])
    return sorted((alert.title, alert.group[0].partition("@")[0]) for alert in found)


@pytest.mark.parametrize("reference", ["mine", RULE_ID])
def test_a_filter_is_about_the_rules_that_it_names(tmp_path: Path, reference: str) -> None:
    """By name or id, wherever in the files they stand."""
    assert titles(tmp_path, filter_text([reference]), RULE, OTHER) == [
        ("A rule", "ann"),
        ("Other", "ann"),
        ("Other", "robot"),
    ]


def test_a_filter_may_be_about_any_rule_of_its_logsource(tmp_path: Path) -> None:
    """Rules of another service are left as they are."""
    other = yaml.safe_load(OTHER) | {"logsource": {"product": "m365", "service": "audit"}}

    assert titles(tmp_path, RULE, yaml.safe_dump(other), filter_text("any")) == [
        ("A rule", "ann"),
        ("Other", "ann"),
        ("Other", "robot"),
    ]


def test_a_correlation_joins_what_is_left(tmp_path: Path) -> None:
    """The robot's second rule within the hour is none any more."""
    again = [record(second, Operation="New-InboxRule", UserId="robot@contoso.example") for second in (5, 6)]
    before = alerts_of(load_good(tmp_path, RULE, CORRELATION), again)
    after = alerts_of(load_good(tmp_path, RULE, CORRELATION, filter_text(["mine"])), again)

    assert {alert.title for alert in before} == {"A rule", "Many"}
    assert after == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (filter_text(["nobody"]), "filter.rules.0: there is no rule nobody"),
        (filter_text(["many"]), "filter.rules.0: many is a correlation; name the rules that it joins"),
        (filter_text("any", logsource={"product": "windows"}), "logsource.product: windows is not m365"),
        (
            filter_text(["mine"], logsource={"product": "m365", "service": "audit"}),
            "filter.rules.0: mine is about exchange, and the filter about audit",
        ),
        (
            filter_text("any", condition="not cat"),
            "filter.condition: there is no selection cat; the selections are robot",
        ),
    ],
)
def test_a_mistake_of_a_filter_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    """The rules stay in force without it."""
    library = load_text(tmp_path, RULE, CORRELATION, text)

    assert [rule.title for rule in library.rules] == ["A rule", "Many"]
    [mistake] = library.mistakes
    head, _, _ = str(mistake).partition(" ")
    assert int(head.rpartition(":")[2]) > RULE.count("\n") + CORRELATION.count("\n") + 3
    assert "(The robot may): " in str(mistake)
    assert line in mistake.text


def test_a_filter_of_the_user_is_about_a_rule_of_the_packs(tmp_path: Path) -> None:
    """Nobody has to copy a rule to leave something out of it."""
    path = tmp_path / "mine.yml"
    path.write_text(filter_text(["b02_inbox_rule_hides_mail"]))
    [before] = packs().find("b02_inbox_rule_hides_mail")
    library = load_packs(directories=[tmp_path])
    [after] = library.find("b02_inbox_rule_hides_mail")

    assert library.mistakes == ()
    assert after.condition != before.condition


@pytest.mark.slow
def test_a_file_that_is_tried_alone_may_name_rules_of_the_packs(tmp_path: Path) -> None:
    """As it will be read by a run; only its own rules count."""
    path = tmp_path / "mine.yml"
    path.write_text("---\n".join([RULE, filter_text(["b02_inbox_rule_hides_mail", "nobody"])]))
    library = load_beside_packs([path])

    assert [rule.title for rule in library.rules] == ["A rule"]
    assert [mistake.text for mistake in library.mistakes] == [
        "filter.rules.1: there is no rule nobody; name one by its name or id"
    ]
