from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from m365watch_simulator.organization.organization import Organisation

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference"
START = datetime(2026, 11, 9, tzinfo=UTC)
Group = tuple[int, str]

pytestmark = pytest.mark.skipif(
    not (REFERENCE / "observed_fields.csv").exists(),
    reason="the observed fields and operations are not on this machine",
)

ANONYMISED = "(anonymised)"


@pytest.fixture(scope="module")
def records() -> dict[Group, list[dict[str, Any]]]:
    """A week's records by type and workload."""
    organisation = Organisation(3, "7a0c9d55-30d2-4d7a-8f6c-2f1f0a6f2e11")
    grouped: dict[Group, list[dict[str, Any]]] = defaultdict(list)
    for record in organisation.records_between(START, START + timedelta(days=7)):
        body = json.loads(record.body)
        grouped[body["RecordType"], body["Workload"]].append(body)
    return grouped


def test_a_rule_against_data_loss_has_a_severity_of_its_own(
    records: dict[Group, list[dict[str, Any]]],
) -> None:
    """And not one by chance at each match: that buried whoever looked at alerts under high ones."""
    told = [
        (rule["RuleName"], rule["Severity"])
        for found in records.values()
        for body in found
        for policy in body.get("PolicyDetails", ())
        for rule in policy["Rules"]
    ]
    high = [name for name, severity in told if severity == "High"]

    assert len(set(told)) == len({name for name, _ in told}) == 4
    assert 0 < len(high) < len(told) / 5


@pytest.fixture(scope="module")
def observed() -> dict[Group, dict[str, dict[str, str]]]:
    """What was seen of each field, by type and workload."""
    fields: dict[Group, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in _rows("observed_fields.csv"):
        fields[int(row["record_type"]), row["workload"]][row["field"]] = row
    return fields


def _rows(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_operation_that_was_observed_happens_within_a_week(
    records: dict[Group, list[dict[str, Any]]],
) -> None:
    """The organisation leaves out nothing that published records show."""
    made = {(group, body["Operation"]) for group, bodies in records.items() for body in bodies}
    seen = {
        ((int(row["record_type"]), row["workload"]), row["operation"])
        for row in _rows("observed_operations.csv")
        if row["workload"] != ANONYMISED
    }

    assert seen - made == set()


def test_every_field_that_is_always_there_is_there(
    records: dict[Group, list[dict[str, Any]]], observed: dict[Group, dict[str, dict[str, str]]]
) -> None:
    """A field that every published record of a workload has, every record here has.

    No sign-in to a mailbox is among the published ones; it is about no mail.
    """
    missing = {
        (group, field, body["Operation"])
        for group, bodies in records.items()
        for field, row in observed[group].items()
        if row["seen_in"] == row["of_records"]
        for body in bodies
        if field not in body and (field, body["Operation"]) != ("Item", "MailboxLogin")
    }

    assert missing == set()


def test_no_field_is_made_up(
    records: dict[Group, list[dict[str, Any]]], observed: dict[Group, dict[str, dict[str, str]]]
) -> None:
    """Only fields that were seen with this type and workload are used."""
    invented = {
        (group, field)
        for group, bodies in records.items()
        if observed[group]
        for body in bodies
        for field in body
        if field not in observed[group]
    }

    assert invented == set()


def test_every_value_has_a_shape_that_was_observed(
    records: dict[Group, list[dict[str, Any]]], observed: dict[Group, dict[str, dict[str, str]]]
) -> None:
    """A string stays a string, also where it holds JSON, and a list of pairs a list of pairs."""
    strange = {
        (group, field, _shape(value))
        for group, bodies in records.items()
        if observed[group]
        for body in bodies
        for field, value in body.items()
        if _shape(value) not in _shapes_of(observed[group][field]["json_shapes"])
    }

    assert strange == set()


def test_objects_have_only_keys_that_were_observed(
    records: dict[Group, list[dict[str, Any]]], observed: dict[Group, dict[str, dict[str, str]]]
) -> None:
    """Members of nested objects are those seen with the record type."""
    known: dict[tuple[int, str], set[str]] = defaultdict(set)
    bare: set[tuple[int, str]] = set()
    for (record_type, _), fields in observed.items():
        for field, row in fields.items():
            for keys in re.findall(r"\{([^}]*)\}", row["json_shapes"]):
                known[record_type, field] |= set(keys.split("+"))
            if re.search(r"object(?!\{)", row["json_shapes"]) or "..." in row["json_shapes"]:
                bare.add((record_type, field))
    invented = {
        (record_type, field, key)
        for (record_type, _), bodies in records.items()
        for body in bodies
        for field, value in body.items()
        if (record_type, field) in known and (record_type, field) not in bare
        for member in (value if isinstance(value, list) else [value])
        if isinstance(member, dict)
        for key in member
        if key not in known[record_type, field]
    }

    assert invented == set()


@cache
def _shapes_of(column: str) -> set[str]:
    """`array[object{A+B}] x3; string(JSON) x1` without keys, counts and the word JSON."""
    plain = re.sub(r"\{[^}]*\}|\(JSON\)", "", column)
    shapes = {shape.rpartition(" x")[0] for shape in plain.split("; ")}
    return {re.sub(r"object(\|object)+", "object", shape) for shape in shapes}


def _shape(value: object) -> str:
    if isinstance(value, list):
        return f"array[{'|'.join(sorted({_shape(member) for member in value}))}]"
    names = {bool: "bool", int: "int", float: "float", str: "string", dict: "object", type(None): "null"}
    return names[type(value)]
