"""The records of an alert say what was done, to whoever is woken by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from m365watch.detection.alerts.alert_text import PAIRS_MAX, VALUE_MAX, details_of, failure_of


def raw(**fields: Any) -> str:
    return json.dumps({"Operation": "New-InboxRule", "Workload": "Exchange", **fields})


def named(*pairs: tuple[str, Any], key: str = "Value") -> list[dict[str, Any]]:
    return [{"Name": name, key: value} for name, value in pairs]


def test_what_was_set_is_shown_and_noise_is_not() -> None:
    """False may be the very news: logging that is switched off."""
    parameters = named(
        ("Force", "False"),
        ("Name", "."),
        ("ForwardTo", "x@evil.example"),
        ("Mode", ""),
        ("On", "False"),
    )

    assert details_of(raw(Parameters=parameters)) == "Name: .; ForwardTo: x@evil.example; On: False"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            '-SearchName "Budget" -Purge -PurgeType "HardDelete"',
            "SearchName: Budget; Purge: True; PurgeType: HardDelete",
        ),
        ('-Identity "Cards" -Mode "Disable" -Force -mode "Enable"', "Mode: Disable"),
        ('[{"Name":"Mode","Value":"Disable"}]', "Mode: Disable"),
        ("nothing of the kind", ""),
    ],
)
def test_what_was_set_is_shown_where_it_is_one_text(line: str, told: str) -> None:
    """As the compliance centre has it: an export and a purge looked alike."""
    assert details_of(raw(Parameters=line)) == told


def test_what_was_changed_is_shown_as_it_is_now() -> None:
    """Entra writes values as JSON lists, and ids that tell nobody anything."""
    changed = named(
        ("Role.ObjectID", "4a5d8f65-41da-4de4-8968-49691be8e735"),
        ("Role.DisplayName", "Company Administrator"),
        ("AccountEnabled", "[\r\n  true\r\n]"),
        ("Department", '[\r\n  "Sales"\r\n]'),
        ("Included Updated Properties", "Department"),
        key="NewValue",
    )

    told = "Role.DisplayName: Company Administrator; AccountEnabled: True; Department: Sales"
    assert details_of(raw(ModifiedProperties=changed)) == told


@pytest.mark.parametrize("nothing", ["[]", "", "[ ]", None])
def test_what_was_taken_away_is_shown_as_it_was(nothing: str | None) -> None:
    """Of all methods of a second factor that were gone the line of the record showed nothing."""
    method = '[{"MethodType":6,"Default":true}]'
    gone = {"Name": "StrongAuthenticationMethod", "OldValue": method, "NewValue": nothing}
    same = {"Name": "Department", "OldValue": "[]", "NewValue": nothing}
    unknown = {"Name": "Role.ObjectID", "OldValue": "4a5d8f65-41da-4de4-8968-49691be8e735", "NewValue": ""}

    other = {"Name": "Group.ObjectID", "OldValue": "Sales", "NewValue": unknown["OldValue"]}

    told = details_of(raw(ModifiedProperties=[gone, same, unknown, other]))
    assert told == f"StrongAuthenticationMethod: none, was {method}"


def test_values_are_bounded_and_harmless() -> None:
    """An intruder chooses them: no control character, no flood."""
    many = named(*((f"P{number}", "x" * 500) for number in range(20)))
    told = details_of(raw(Parameters=[*named(("Name", "a\x1b[31mb\nc")), *many]))

    assert told.startswith("Name: a [31mb c; P0: xxx")
    assert told.endswith("; and 13 more")
    assert len(told) < PAIRS_MAX * (VALUE_MAX + 10)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"Operation": "UserLoginFailed", "ResultStatus": "Success", "LogonError": "InvalidPassword"},
         "failed: InvalidPassword"),
        ({"Operation": "UserLoginFailed", "ErrorNumber": "50126"}, "failed: 50126"),
        ({"Operation": "UserLoggedIn", "ResultStatus": "Success", "ErrorNumber": "0"}, ""),
        ({"ResultStatus": "False"}, "failed"),
        ({"ResultStatus": "True"}, ""),
    ],
)  # fmt: skip
def test_a_failure_is_told_by_what_tells_it(fields: dict[str, Any], told: str) -> None:
    """A failed sign-in says Success."""
    assert failure_of(raw(**fields)) == told


def test_a_value_that_is_nothing_is_no_word() -> None:
    """So an emptied setting stands for whoever may not see what it was."""
    emptied = raw(Parameters=[{"Name": "ForwardingSmtpAddress", "Value": None}])
    changed = raw(ModifiedProperties=[{"Name": "Role.DisplayName", "NewValue": None, "OldValue": None}])

    assert details_of(emptied) + details_of(changed) == ""


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"Parameters": [1, {"Name": 5}, null]}', '"x"'])
def test_a_record_of_an_odd_shape_says_nothing(text: str) -> None:
    """And stops nobody from reading the others."""
    assert (details_of(text), failure_of(text)) == ("", "")


def test_microsofts_own_findings_say_what_was_found() -> None:
    """The name of its alert, the link that was followed, the rule against data loss."""
    alert = raw(Operation="AlertTriggered", Name="Creation of forwarding/redirect rule", Severity="High")
    loss = raw(PolicyDetails=[{"PolicyName": "Cards", "Rules": [{"RuleName": "Many"}, {"RuleName": "Few"}]}])

    assert details_of(alert) == "Name: Creation of forwarding/redirect rule; Severity: High"
    assert details_of(raw(Url="https://evil.example/x")) == "Url: https://evil.example/x"
    assert details_of(loss) == "policy Cards: Many, Few"
    assert details_of(raw(PolicyDetails=["x", {"PolicyName": "A", "Rules": 5}], Name=7)) == "policy A: "
