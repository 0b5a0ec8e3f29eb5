"""Test cases of rules say what is wrong with the rule, or with themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.rule_test_cases import read_cases, run_cases
from rules import load_good, rule_text

DETECTION = {"s": {"Operation": "UserLoggedIn", "m365.country": "NL"}, "condition": "s"}


def write(directory: Path, text: str) -> Path:
    """A file of cases."""
    path = directory / "cases.yml"
    path.write_text(text)
    return path


def test_cases_hold_or_say_why_not(tmp_path: Path) -> None:
    """A hit with what it must show, a near miss, and each of them gone wrong."""
    library = load_good(
        tmp_path,
        rule_text(
            DETECTION, m365watch={"detection": "X1", "explanation": "{user} came from {m365.country}."}
        ),
    )
    cases = read_cases(
        write(
            tmp_path,
            """
            detection: X1
            settings: {places: {192.0.2.1: {country: NL}, 192.0.2.2: {country: BE}}}
            hits:
              - name: right
                records:
                  - repeat: 3
                    every: 20s
                    record: {Operation: UserLoggedIn, UserId: ann, ClientIP: 192.0.2.1}
                expect: {user: ann, severity: medium, text: [came from, NL], count: 3}
              - name: another user
                records: [{Operation: UserLoggedIn, UserId: ann, ClientIP: 192.0.2.1}]
                expect: {user: bob}
              - name: nothing
                records: [{Operation: UserLoggedIn, UserId: ann, ClientIP: 192.0.2.2}]
            near_misses:
              - name: elsewhere
                records: [{Operation: UserLoggedIn, UserId: ann, ClientIP: 192.0.2.2}]
              - name: fires
                records: [{Operation: UserLoggedIn, UserId: ann, ClientIP: 192.0.2.1}]
            """,
        )
    )

    assert [(one.case.name, one.faults) for one in run_cases(cases, library)] == [
        ("right", ()),
        ("another user", ("user: 'bob' was expected, and it is 'ann'",)),
        ("nothing", ("does not fire",)),
        ("elsewhere", ()),
        ("fires", ("fires: ann came from NL.",)),
    ]


def test_cases_of_no_rule_are_told(tmp_path: Path) -> None:
    """A rule that was renamed leaves no case behind that holds by itself."""
    library = load_good(tmp_path, rule_text(DETECTION))
    cases = read_cases(write(tmp_path, "detection: Y\nnear_misses: [{name: x, records: [{Operation: a}]}]"))

    assert run_cases(cases, library)[0].faults == ("there is no rule Y",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "is no YAML"),
        ("- x", "is no map of the keys detection, hits"),
        ("detection: X\nhit: []", "has other keys than detection, hits, near_misses, rule, settings: hit"),
        ("hits: []", "names no rule"),
        ("detection: X\nhits: [x]", "hits, case 1: is no map; give name and records"),
        (
            "detection: X\nhits: [{records: []}]",
            "hits, case 1: has no name; give it one that says what it claims",
        ),
        (
            "detection: X\nnear_misses: [{name: b, records: [{X: a}]}, {name: 900941}]",
            "near_misses, case 2: name 900941 is no text; put it in quotation marks",
        ),
        (
            "detection: X\nhits: [{name: on, records: []}]",
            "hits, case 1: name True is no text; put it in quot",
        ),
        (
            "detection: X\nhits: [{name: n, record: []}]",
            "case 'n' has the key record; there are expect, name, reason, records, settings",
        ),
        ("detection: X\nhits: [{name: n, records: []}]", "case 'n' has no list of records"),
    ],
)
def test_a_file_of_cases_says_what_is_wrong_with_it(tmp_path: Path, text: str, reason: str) -> None:
    """Before any rule is run."""
    with pytest.raises(ValueError, match=reason):
        read_cases(write(tmp_path, text))


@guarantee(26)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "rule: a\nhits: [{name: a, records: [{repeat: 1000000000, record: {X: a}}]}]",
            "1 to 10,000 will do",
        ),
        ("rule: a\nhits: [{name: a, records: [{repeat: 2}]}]", "and has no map under record"),
        ("rule: a\nhits: [{name: a, records: [{repeat: x, record: {X: a}}]}]", "repeats a record x times"),
        ("rule: a\nhits: [{name: a, records: [{repeat: 2, evry: 1h, record: {X: a}}]}]", "has the key evry;"),
        (
            "rule: a\nhits: [{name: a, records: [{repeat: 2, every: x, record: {X: a}}]}]",
            "every: x is no span",
        ),
        ("rule: a\nhits: [{name: a, records: [{CreationTime: yesterday}]}]", "yesterday is no time such as"),
        (
            "rule: a\nhits: [{name: a, records: [{X: a}], settings: {accepted_domain: [x]}}]",
            "has the key accepted_domain;",
        ),
        (
            "rule: a\nhits: [{name: a, records: [{X: a}], settings: {places: {1.2.3.4: nl}}}]",
            "is no map of asn",
        ),
        ("rule: a\nhits: [{name: a, records: [{X: a}], settings: {vips: 7}}]", "settings.vips is no list"),
        ("rule: a", "has no cases of a"),
        (
            "rule: a\nhits: [{name: a, records: [{X: a}], settings: {places: [a]}}]",
            "settings.places is no map",
        ),
        ("rule: a\nhits: [{name: a, records: [{X: a}], expect: [a]}]", "expect is no map"),
        ("rule: a\nhits: 7", "hits is no list of cases"),
        ("rule: [", "is no YAML: line 1"),
        ("[" * 5_000, "is nested too deeply"),
    ],
)
def test_cases_that_cannot_be_understood_are_one_line(tmp_path: Path, text: str, why: str) -> None:
    """Found by the fuzzer: a record repeated a thousand million times, and places that are none."""
    path = tmp_path / "cases.yml"
    path.write_text(text)

    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        read_cases(path)
    assert str(caught.value).isprintable()


def test_a_date_in_a_record_is_its_text(tmp_path: Path) -> None:
    """YAML makes a date of it."""
    path = tmp_path / "cases.yml"
    path.write_text("rule: a\nhits: [{name: a, records: [{X: 2026-11-02}]}]")

    assert b'"2026-11-02"' in read_cases(path).cases[0].records[0]
