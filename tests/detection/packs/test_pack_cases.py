"""Every rule of the packs finds what its detection's text says, and nothing that only looks like it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from expand import case_files, load_cases
from nearness import near_misses_of
from promises import guarantee
from verdicts import alerts_of, faults_of, library_of, packs

from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule_library import Library


@pytest.fixture(scope="module")
def library() -> Library:
    """All packs."""
    return packs()


@guarantee(33)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_detection_finds_its_hits_and_leaves_the_near_misses(path: Path) -> None:
    """A hit gives an alert with user, severity and what happened, a near miss none; every rule has a hit."""
    assert faults_of(load_cases(path)) == []


BY_RECORD_TYPE = {"a01", "e03", "devo_admin_network"}
"""Detections that take every operation of some kinds of record."""
OF_REFUSALS = {"o06", "e01", "d01", "devo_indicator"}
"""Detections for which it is the same, or the point, that something was refused."""
_CHANGES = {1: "False", 8: "Failure", 18: "Failed"}
"""What a refusal is called in the records of changes, by record type."""


@guarantee(33)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_hit_under_another_operation_is_none(path: Path) -> None:
    """Every rule knows the operations that it is about, so that most records cost it nothing."""
    if path.stem in BY_RECORD_TYPE:
        pytest.skip("its rules go by the type of the record")
    file = load_cases(path)
    for case in file.cases:
        if case.kind == "hit":
            renamed = [_changed(record, Operation="Something else") for record in case.records]
            assert [alert.explanation for alert in alerts_of(file, renamed)] == [], case.name


@guarantee(33)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_a_change_that_was_refused_is_no_hit(path: Path) -> None:
    """What an administrator was not allowed to do has not happened."""
    file = load_cases(path)
    for case in file.cases:
        kinds = {json.loads(record)["RecordType"] for record in case.records}
        if case.kind == "hit" and path.stem not in OF_REFUSALS and kinds <= set(_CHANGES):
            refused = [
                _changed(one, ResultStatus=_CHANGES[json.loads(one)["RecordType"]]) for one in case.records
            ]
            assert [alert.explanation for alert in alerts_of(file, refused)] == [], case.name


def _changed(record: bytes, **fields: str) -> bytes:
    return json.dumps({**json.loads(record), **fields}).encode()


def test_every_rule_of_the_packs_can_be_read(library: Library) -> None:
    """Not one mistake in the packs that come along."""
    assert [str(mistake) for mistake in library.mistakes] == []


@guarantee(33)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_every_rule_has_two_near_misses(path: Path) -> None:
    """And a hit, which is asked for above. What a near miss says it is one of is there."""
    file = load_cases(path)
    library = library_of(file)
    rules = {str(rule.name): rule for rule in library.find(file.detection) if rule.alerts}
    near = {name: len(near_misses_of(rule, file, library)) for name, rule in rules.items()}

    assert {name: count for name, count in near.items() if count < 2} == {}
    assert {name for case in file.cases for name in case.of} - rules.keys() == set()


def test_every_rule_has_cases(library: Library) -> None:
    """A rule that alerts is claimed by a file of cases."""
    claimed = {rule.name for path in case_files() for rule in library.find(load_cases(path).detection)}

    assert {rule.name for rule in library.rules if rule.alerts} - claimed == set()


def test_every_alerting_rule_tells_an_analyst_what_to_do(library: Library) -> None:
    """Explanation, what to check, how to contain, false alarms, technique and what it was verified on."""
    lacking = [
        (rule.name, part)
        for rule in library.rules
        if rule.alerts
        for part, told in {
            "explanation": rule.extension.explanation,
            "check": rule.extension.check,
            "contain": rule.extension.contain,
            "falsepositives": rule.false_positives,
            "evidence": rule.extension.evidence,
            "detection": rule.extension.detection,
            "entity": rule.extension.entity,
            "tactic": rule.tactics,
            "description": rule.description,
        }.items()
        if not told
    ]

    assert lacking == []


def test_the_catalogue_is_whole() -> None:
    """The sixty detections and the four that join them, each under its number."""
    numbers = {rule.extension.detection for rule in packs().rules if rule.path.startswith("core")}
    sections = {"B": 16, "I": 19, "O": 6, "S": 8, "D": 5, "T": 2, "E": 3, "A": 1, "C": 4}
    expected = {
        f"{letter}{number:02}" for letter, count in sections.items() for number in range(1, count + 1)
    }

    assert expected - numbers == set()
    assert numbers - expected <= {""}


HOME, AWAY = "6f1d2c3b-0a4e-4d55-9d3b-2f6a1b7c8d90", "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(("desk", "other", "alerts"), [(HOME, AWAY, 0), (AWAY, HOME, 1), ("", "", 1)])
def test_one_s_own_help_desk_may_write_to_a_partner(
    library: Library, desk: str, other: str, alerts: int
) -> None:
    """It was told as an outsider who poses as one; the record has the tenant of each who takes part."""
    members = [
        {"DisplayName": "Contoso IT Support", "UPN": "desk@contoso.example", "OrganizationId": desk},
        {"DisplayName": "Max", "UPN": "max@partner.example", "OrganizationId": other},
    ]
    chat = {
        "Id": "1",
        "CreationTime": "2024-03-05T09:00:00",
        "Operation": "ChatCreated",
        "OrganizationId": HOME,
        "RecordType": 25,
        "UserId": "desk@contoso.example",
        "CommunicationType": "OneOnOne",
        "ParticipantInfo": {"HasForeignTenantUsers": True},
        "Members": members,
    }
    rules = with_sources(library.find("T02"), library)

    assert len(find_alerts(rules, [json.dumps(chat).encode()], knowledge=NOTHING_KNOWN)) == alerts
