"""A field is found in every shape that it has been seen in."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from m365watch.detection.fields.record_view import JSON_TEXT_MAX, VALUES_MAX, arguments
from rules import view

PAIRS = [{"Name": "ForwardTo", "Value": "eve@example.net"}, {"Name": "Force", "Value": "True"}]


@pytest.mark.parametrize(
    "shape",
    [
        PAIRS,
        {"ForwardTo": "eve@example.net", "Force": "True"},
        json.dumps(PAIRS),
        json.dumps({"ForwardTo": "eve@example.net"}),
        '-ForwardTo "eve@example.net" -Force',
        "-ForwardTo eve@example.net",
        "-Identity x -ForwardTo:'eve@example.net'",
        [{"Key": "ForwardTo", "Value": "eve@example.net"}],
        {"Name": "ForwardTo", "Value": "eve@example.net"},
    ],
)
def test_a_parameter_is_found_in_every_shape(shape: Any) -> None:
    """List of pairs, object, JSON in a string, the command line: the value is the same."""
    assert view({"Parameters": shape}).values("Parameters.ForwardTo") == ("eve@example.net",)


def test_the_name_of_a_parameter_may_be_name() -> None:
    """P[Name] is the parameter called Name, and not the key of a pair."""
    fields = {"Parameters": [{"Name": "Name", "Value": "."}, {"Name": "Force", "Value": "True"}]}

    assert view(fields).values("Parameters.Name") == (".",)


def test_a_switch_without_a_value_is_true() -> None:
    """-Force alone says True."""
    assert view({"Parameters": '-Force -Mode "Disable"'}).values("Parameters.Force") == ("True",)


def test_both_sides_of_a_property_are_read() -> None:
    """The new value and the old one; without a side, the new one."""
    fields = {"ModifiedProperties": [{"Name": "Role.TemplateId", "NewValue": "a", "OldValue": "b"}]}

    assert view(fields).values("ModifiedProperties.Role.TemplateId.new") == ("a",)
    assert view(fields).values("ModifiedProperties.Role.TemplateId.old") == ("b",)
    assert view(fields).values("ModifiedProperties.Role.TemplateId") == ("a",)


def test_the_longest_name_wins() -> None:
    """A property's name may contain dots, and what follows it is a path into its value."""
    fields = {
        "ExtendedProperties": [
            {"Name": "additionalDetails", "Value": '{"User-Agent":"curl/8","a":{"b":1}}'},
            {"Name": "additionalDetails.a", "Value": '{"b":2}'},
        ]
    }

    assert view(fields).values("ExtendedProperties.additionalDetails.User-Agent") == ("curl/8",)
    assert view(fields).values("ExtendedProperties.additionalDetails.a.b") == (2,)


def test_a_list_in_a_string_is_its_elements_too() -> None:
    """Entra writes lists into strings; both the text and each element can be asked for."""
    fields = {
        "ModifiedProperties": [{"Name": "PolicyType", "NewValue": '[\r\n  "Risk"\r\n]', "OldValue": "[]"}]
    }

    assert view(fields).values("ModifiedProperties.PolicyType.new") == ('[\r\n  "Risk"\r\n]', "Risk")
    assert view(fields).values("ModifiedProperties.PolicyType.old") == ("[]",)


def test_a_step_into_a_list_asks_every_element() -> None:
    """Target.ID is the ID of each target."""
    fields = {"Target": [{"ID": "a", "Type": 0}, {"Type": 1}, {"ID": "b", "Type": 5}, "c", None]}

    assert view(fields).values("Target.ID") == ("a", "b")


def test_a_path_leads_through_json_in_strings() -> None:
    """An alert's Data is JSON in a string."""
    assert view({"Data": '{"f3u":"ann@contoso.example"}'}).values("Data.f3u") == ("ann@contoso.example",)


def test_a_whole_list_of_pairs_is_a_text() -> None:
    """Rules of others look for words in the whole of Parameters."""
    [text] = view({"Parameters": PAIRS}).values("Parameters")

    assert isinstance(text, str)
    assert '"Name":"ForwardTo"' in text


@pytest.mark.parametrize(
    "shape", [None, 5, True, 1.5, [], {}, "", "x", [None], [[]], [5, "x"], {"Name": 5}, "{", "["]
)
@pytest.mark.parametrize("field", ["Parameters", "ModifiedProperties", "Target", "Item", "Data"])
def test_no_shape_is_an_error(field: str, shape: Any) -> None:
    """Whatever stands in a field's place, what is asked of it is not there."""
    seen = view({field: shape})

    assert seen.values(f"{field}.Name.ID.new") == ()
    assert isinstance(seen.values(field), tuple)


@pytest.mark.parametrize("depth", [10, 500, 100_000])
def test_deep_nesting_is_bounded_work(depth: int) -> None:
    """A value nested a hundred thousand deep costs no more than its length."""
    deep = "[" * depth + "]" * depth
    seen = view({"Data": deep, "ModifiedProperties": [{"Name": "x", "NewValue": deep, "OldValue": ""}]})
    started = time.process_time()

    assert seen.values("Data.a.b") == ()
    assert seen.values("m365.gained.x") is not None
    assert time.process_time() - started < 3


def test_a_string_that_is_too_long_is_only_a_text() -> None:
    """JSON of more than a megabyte in a string is not opened."""
    text = json.dumps({"a": "x" * 10 * JSON_TEXT_MAX})

    assert view({"Data": text}).values("Data.a") == ()
    assert view({"Data": text}).values("Data") == (text,)


def test_a_field_has_no_more_values_than_the_bound() -> None:
    """A list of a million is looked at up to the bound."""
    assert (
        len(view({"Target": [{"ID": str(one)} for one in range(100_000)]}).values("Target.ID")) == VALUES_MAX
    )


def test_a_list_of_entra_is_shown_by_its_elements() -> None:
    """Its text beside them would name the policy twice, once in brackets."""
    changed = {"Name": "DisplayName", "NewValue": '[\r\n  "Require MFA"\r\n]'}

    assert (
        view({"ModifiedProperties": [changed]}).shown("ModifiedProperties.DisplayName.new") == "Require MFA"
    )


def test_a_line_of_endless_parameters_is_read_to_a_bound() -> None:
    """300,000 times the same one took a quarter of a second a record: it was new names that were counted."""
    assert arguments("-a " * VALUES_MAX + "-b x") == [("a", "True")]
    assert arguments("-a " * (VALUES_MAX - 1) + "-b x") == [("a", "True"), ("b", "x")]
