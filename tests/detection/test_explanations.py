"""What an analyst reads has no holes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.rules.rule import fill_placeholders
from rules import alerts_of, load_good, record, rule_text, view

VALUES = {"A": "one", "B": "", "C": "three"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{A} and {C}", "one and three"),
        ("{B}", "(unknown)"),
        ("{B|X|C}", "three"),
        ("{A|C}", "one"),
        ("{A}[[, from {B}]].", "one."),
        ("{A}[[, from {B} or {C}]].", "one, from (unknown) or three."),
        ("[[no placeholder]]", ""),
        ("a [b] c", "a [b] c"),
    ],
)
def test_an_explanation_names_what_there_is(text: str, filled: str) -> None:
    """{A|B} is the first with a value, and [[ ]] is left out where nothing in it has one."""
    assert fill_placeholders(text, VALUES) == filled


def test_a_value_with_brackets_is_only_text() -> None:
    """What a record says is never taken for a part of the explanation."""
    assert fill_placeholders("{A}", {"A": "[[{C}]]", "C": "secret"}) == "[[{C}]]"


def test_a_target_is_named_as_people_know_it() -> None:
    """Its display name, else its user principal name, else ObjectId."""
    named = {
        "Target": [{"ID": "User_1", "Type": 2}, {"ID": "ann@contoso.example", "Type": 5}],
        "ObjectId": "x",
    }
    label = {"Target": [{"ID": "Planner", "Type": 1}, {"ID": "p@contoso.example", "Type": 5}]}

    assert view(label).values("m365.target_name") == ("Planner",)
    assert view(named).values("m365.target_name") == ("ann@contoso.example",)
    assert view({"Target": "nonsense", "ObjectId": "x"}).values("m365.target_name") == ("x",)
    assert view({}).values("m365.target_name") == ()
    sign_in = {"Target": [{"ID": "00000003-0000-0000-c000-000000000000", "Type": 0}], "ObjectId": "x"}
    assert view(sign_in).values("m365.target_name") == ()


def test_the_domain_of_an_outsider_is_known() -> None:
    """Each domain once, whatever the case of letters; none where the target is inside."""
    shared = {"UserId": "ann@contoso.example", "TargetUserOrGroupName": "Bo@Rival.example;c@rival.example"}

    assert view(shared).values("m365.external_domain") == ("rival.example",)
    assert (
        view({**shared, "TargetUserOrGroupName": "bea@contoso.example"}).values("m365.external_domain") == ()
    )


def test_each_record_says_the_first_of_several_fields_that_it_has(tmp_path: Path) -> None:
    """One gives rights by User, the next by Trustee: the alert names both, in words and as entities."""
    extension = {
        "entity": {"user": "UserId", "grantee": "Parameters.User|Parameters.Trustee"},
        "group_by": ["UserId"],
        "explanation": "{user} let {grantee} in, or {Parameters.User|Parameters.Trustee}.",
    }
    rule = rule_text({"s": {"Workload": "Exchange"}, "condition": "s"}, m365watch=extension)
    given = [
        record(0, Workload="Exchange", Parameters=[{"Name": "User", "Value": "eve"}]),
        record(1, Workload="Exchange", Parameters=[{"Name": "Trustee", "Value": "fred"}]),
    ]
    [alert] = alerts_of(load_good(tmp_path, rule), given)

    assert alert.named("grantee") == ("eve", "fred")
    assert alert.explanation == "ann@contoso.example let eve, fred in, or eve, fred."
    assert alert.group == ("ann@contoso.example",)


def test_an_alert_of_a_group_names_nobody_else_of_its_records(tmp_path: Path) -> None:
    """Two guests joined and one left: the alert is about the one that did both."""
    rules = [
        rule_text(
            {"s": {"Operation": name}, "condition": "s"},
            title=name,
            name=name.lower(),
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
        )
        for number, name in enumerate(("Joins", "Leaves"))
    ]
    both = {
        "title": "Both",
        "id": "5f1c6c0e-7d0b-4a51-9a4e-000000000009",
        "correlation": {
            "type": "temporal_ordered",
            "rules": ["joins", "leaves"],
            "group-by": ["Members.UPN"],
            "timespan": "1h",
        },
        "level": "high",
        "m365watch": {"entity": {"guest": "Members.UPN"}, "explanation": "{Members.UPN} was here."},
    }
    members = [{"UPN": "pat@partner.example"}, {"UPN": "Eve@evil.example"}]
    given = [
        record(0, Operation="Joins", Members=members),
        record(60, Operation="Leaves", Members=members[1:]),
    ]
    found = alerts_of(load_good(tmp_path, *rules, yaml.safe_dump(both)), given)
    [alert] = [one for one in found if one.title == "Both"]

    assert alert.named("guest") == ("Eve@evil.example",)
    assert alert.explanation == "eve@evil.example was here."


def test_several_addresses_in_one_value_are_several_entities() -> None:
    """Cmdlets join them by semicolons, lists by commas."""
    assert split_line("ida@a.example;jo@b.example") == ["ida@a.example", "jo@b.example"]
    assert split_line("ida@a.example, jo@b.example") == ["ida@a.example", "jo@b.example"]
    assert split_line("a; b") == ["a; b"]


def test_a_group_of_several_names_in_one_text_keeps_each(tmp_path: Path) -> None:
    """The group is the text as it was written; the entities are the people in it."""
    rule = rule_text(
        {"s": {"Workload": "Exchange"}, "condition": "s"},
        m365watch={"entity": {"user": "Recipients"}, "group_by": ["Recipients"]},
    )
    given = record(0, Workload="Exchange", Recipients="Ann@contoso.example, bob@contoso.example")
    [alert] = alerts_of(load_good(tmp_path, rule), [given])

    assert alert.named("user") == ("Ann@contoso.example", "bob@contoso.example")


def test_of_many_members_the_group_s_own_is_named(tmp_path: Path) -> None:
    """A match keeps some of a field's values only; the others are not put in the place of the group's."""
    members = [{"UPN": f"u{number}@contoso.example"} for number in range(7)]
    rule = rule_text(
        {"s": {"Workload": "Teams"}, "condition": "s"},
        m365watch={"entity": {"user": "Members.UPN"}, "group_by": ["Members.UPN"]},
    )
    found = alerts_of(load_good(tmp_path, rule), [record(0, Workload="Teams", Members=members)])

    assert {alert.named("user") for alert in found} == {(one["UPN"],) for one in members}
