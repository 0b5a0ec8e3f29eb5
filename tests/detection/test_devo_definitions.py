"""A rule as an alert definition of Devo: its trigger, its words, and what cannot be said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from verdicts import packs

from linq_syntax import Call, Literal, Where, calls_in, expressions_of, parse
from m365watch.detection.export.linq.alert_definitions import Exported, export_rule, export_rules
from m365watch.detection.export.linq.linq_syntax import quoted
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from rules import load_text, rule_text

SEEN = {"s": {"Operation": "Send"}, "condition": "s"}


def made_of(directory: Path, detection: dict[str, Any], **keys: Any) -> Exported:
    """A rule of that detection, exported."""
    library = load_text(directory, rule_text(detection, **keys))
    assert library.mistakes == ()
    return export_rule(library.rules[0], every=library.by_id(), knowledge=NOTHING_KNOWN)


def trigger_of(directory: Path, **extension: Any) -> dict[str, Any]:
    """The trigger of a rule with that extension."""
    return made_of(directory, SEEN, m365watch=extension).definition.trigger.document()


def test_each_kind_has_the_trigger_of_its_name(tmp_path: Path) -> None:
    """Kinds that have Devo's names become Devo's triggers, times in milliseconds."""
    day, hour = 86_400_000, 3_600_000
    several = {"kind": "several", "period": hour, "threshold": 4, "keys": ["m365_by_UserId"]}
    rolling = {"kind": "rolling", "period": hour, "backPeriod": day}
    changed = {"threshold": 3.0, "absolute": False, "aggregationColumn": ["m365_value"]}
    tripled = {"period": "1h", "threshold": 3}

    assert trigger_of(tmp_path) == {"kind": "each"}
    assert trigger_of(tmp_path, several={"threshold": 4, "period": "1h"}, group_by=["UserId"]) == several
    assert trigger_of(tmp_path, low={"period": "1d"}) == {"kind": "low", "period": day, "threshold": 0}
    assert trigger_of(tmp_path, rolling={"period": "1h", "back_period": "1d"}) == rolling
    assert trigger_of(tmp_path, gradient=tripled) == {"kind": "gradient", **changed}
    assert trigger_of(tmp_path, deviation=tripled) == {
        "kind": "deviation",
        **changed,
    }


def test_what_was_never_seen_is_looked_for_once_a_day(tmp_path: Path) -> None:
    """First seen is a rolling alert over the span that is learned, for the day that is over."""
    made = made_of(tmp_path, SEEN, m365watch={"first_seen": {"key": ["UserId"], "period": "14d"}})

    assert made.definition.trigger.document() == {
        "kind": "rolling",
        "period": 86_400_000,
        "backPeriod": 16 * 86_400_000,
    }
    assert 'm365_seen >= today("UTC") - 1d and m365_seen < today("UTC")' in made.definition.query


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        ({"low": {"period": "1d"}, "group_by": ["UserId"]}, "not by group"),
    ],
)
def test_a_kind_without_a_trigger_is_refused(tmp_path: Path, extension: dict[str, Any], reason: str) -> None:
    """What Devo has no trigger for is not exported as something else."""
    with pytest.raises(Unsayable, match=reason):
        made_of(tmp_path, SEEN, m365watch=extension)


def test_the_words_name_columns_of_the_query() -> None:
    """Each $column of an alert's words is one that the query ends with."""
    found = export_rules(packs().rules, every=packs().by_id(), knowledge=NOTHING_KNOWN)
    named = 0
    for one in found.exported:
        columns = parse(one.definition.query).columns
        words = f"{one.definition.headline} {one.definition.description}"
        assert "{" not in words, one.definition.name
        for column in re.findall(r"\$(\w+)", words):
            named += 1
            assert column in columns, one.definition.name

    assert named > 100


@guarantee(36)
@pytest.mark.parametrize(
    "value",
    [
        'x" or true or "',
        "x\\",
        'x\\" or true',
        "$UserId",
        'a"}) or matches(UserId, re("."',
        "// no comment",
        "İstanbul ß",
    ],
)
def test_a_value_is_never_more_than_a_value(tmp_path: Path, value: str) -> None:
    """Whatever a rule compares with stands in the query as that very text, and adds no condition."""
    detection = {"s": {"Operation": "Send", "UserId": value}, "condition": "s"}
    query = parse(made_of(tmp_path, detection).definition.query)
    last = [clause for clause in query.clauses if isinstance(clause, Where)][-1]
    texts = [
        argument.value
        for expression in expressions_of(query)
        for call in calls_in(expression)
        for argument in call.arguments
        if isinstance(argument, Literal)
    ]

    assert value in texts
    assert [type(one).__name__ for one in last.conditions] == ["Call"]
    assert isinstance(last.conditions[0], Call)
    assert last.conditions[0].name == "and"
    assert len(last.conditions[0].arguments) == 2


@pytest.mark.parametrize("field", ['UserId"]) as x', "Parameters.a\nb", "x`y", "Parameters.a\\"])
def test_a_field_that_is_no_name_is_refused(tmp_path: Path, field: str) -> None:
    """The name of a field goes into texts and column names: what is no name does not."""
    with pytest.raises(Unsayable, match="name that cannot stand in a query"):
        made_of(tmp_path, {"s": {"Operation": "Send", field: "x"}, "condition": "s"})


def test_control_characters_stand_in_no_query() -> None:
    """There is no escape for them, and a line break would end a clause for whoever reads it."""
    with pytest.raises(Unsayable, match="control characters"):
        quoted("a\nwhere true")


def test_a_query_without_end_is_refused(tmp_path: Path) -> None:
    """Thousands of words belong into a look-up table of Devo's."""
    words = [f"somebody-{number}@contoso.example" for number in range(3_000)]
    with pytest.raises(Unsayable, match="characters"):
        made_of(tmp_path, {"s": {"Operation": "Send", "UserId": words}, "condition": "s"})


def test_lists_of_people_are_written_into_the_query(tmp_path: Path) -> None:
    """Without a list a rule about administrators would find nothing for ever: so it is not exported."""
    detection = {"s": {"Operation": "Send", "m365.admin": True}, "condition": "s"}
    library = load_text(tmp_path, rule_text(detection))
    known = Knowledge(admins=frozenset({"root@contoso.example"}))
    made = export_rule(library.rules[0], every={}, knowledge=known)

    assert '"root@contoso.example"' in made.definition.query
    with pytest.raises(Unsayable, match="no list of them is set"):
        export_rule(library.rules[0], every={}, knowledge=NOTHING_KNOWN)
