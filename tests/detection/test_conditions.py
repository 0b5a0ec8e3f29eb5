"""Sigma's values and modifiers mean here what they mean elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from rules import RULE_ID, alerts_of, fires, load_good, load_text, record, rule_text

STARRED = ["*", "?", "a*", "?a", "a"]
OTHER_ID = RULE_ID[:-1] + "2"


@pytest.mark.parametrize(
    ("selection", "fields", "found"),
    [
        ({"Operation": "New-InboxRule"}, {"Operation": "new-inboxrule"}, True),
        ({"Operation": "New-InboxRule"}, {"Operation": " New\u2013InboxRule "}, True),
        ({"Operation": "New-InboxRule"}, {"Operation": "New-InboxRules"}, False),
        (
            {"Operation|startswith": "Update application "},
            {"Operation": "Update application \u2013 Certificates"},
            True,
        ),
        ({"Operation|startswith": "Update application "}, {"Operation": "Update applications"}, False),
        ({"Operation|contains": "inbox"}, {"Operation": "New-InboxRule"}, True),
        ({"Operation|endswith": "RULE"}, {"Operation": "New-InboxRule"}, True),
        ({"Operation": "New-*Rule"}, {"Operation": "New-InboxRule"}, True),
        ({"Operation": "New-?nboxRule"}, {"Operation": "New-InboxRule"}, True),
        ({"Operation": "New-*Rule"}, {"Operation": "New-InboxRuleX"}, False),
        ({"X|cased": "Abc"}, {"X": "abc"}, False),
        ({"X|cased": "Abc"}, {"X": "Abc"}, True),
        ({"X|contains|all": ["a", "b"]}, {"X": "xaxbx"}, True),
        ({"X|contains|all": ["a", "b"]}, {"X": "xax"}, False),
        ({"X": [15, "y"]}, {"X": 15}, True),
        ({"X": 15}, {"X": "15"}, True),
        ({"X": 15}, {"X": 15.0}, True),
        ({"X": True}, {"X": "True"}, True),
        ({"X": True}, {"X": True}, True),
        ({"X": "true"}, {"X": True}, True),
        ({"X": False}, {"X": "False"}, True),
        ({"X": None}, {}, True),
        ({"X": None}, {"X": None}, True),
        ({"X": None}, {"X": ""}, False),
        ({"X": ""}, {"X": ""}, True),
        ({"X": ""}, {}, False),
        ({"X|exists": True}, {"X": 0}, True),
        ({"X|exists": True}, {}, False),
        ({"X|exists": False}, {}, True),
        ({"X|re": "^[^A-Za-z0-9]{0,4}$"}, {"X": "..."}, True),
        ({"X|re": "^[^A-Za-z0-9]{0,4}$"}, {"X": "ab"}, False),
        ({"X|re": "ABC"}, {"X": "abc"}, False),
        ({"X|re|i": "ABC"}, {"X": "xabcx"}, True),
        ({"X|re": "a.c"}, {"X": "a\nc"}, False),
        ({"X|re|s": "a.c"}, {"X": "a\nc"}, True),
        ({"X|re|m": "^b"}, {"X": "a\nb"}, True),
        ({"X|cidr": "192.0.2.0/24"}, {"X": "192.0.2.9:443"}, True),
        ({"X|cidr": "192.0.2.0/24"}, {"X": "198.51.100.1"}, False),
        ({"X|cidr": "2001:db8::/32"}, {"X": "[2001:db8::1]:1"}, True),
        ({"X|cidr": "192.0.2.0/24"}, {"X": "x"}, False),
        ({"X|gte": 100}, {"X": "100"}, True),
        ({"X|gt": 100}, {"X": 100}, False),
        ({"X|lt": 5.5}, {"X": 5}, True),
        ({"X|lte": 5}, {"X": 6}, False),
        ({"X|gt": 1}, {"X": True}, False),
        ({"X|gt": 1}, {"X": "nan"}, False),
        ({"X|neq": "a"}, {"X": "b"}, True),
        ({"X|neq": "a"}, {"X": "a"}, False),
        ({"X|base64": "foobar"}, {"X": "Zm9vYmFy"}, True),
        ({"X|base64offset|contains": "foobar"}, {"X": "xxZm9vYmFyxx"}, True),
        ({"X|windash|contains": " -f "}, {"X": "cmd /f x"}, True),
        ({"X|fieldref": "Y"}, {"X": "A", "Y": "a"}, True),
        ({"X|fieldref": "Y"}, {"X": "A", "Y": "b"}, False),
        ({"X|fieldref|startswith": "Y"}, {"X": "abc", "Y": "ab"}, True),
        ({"X|fieldref|startswith": "Y"}, {"X": "abc", "Y": "b"}, False),
        ({"X|fieldref|endswith": "Y"}, {"X": "abc", "Y": "bc"}, True),
        ({"X|fieldref|contains": "Y"}, {"X": "aBc", "Y": "b"}, True),
        ({"X|fieldref|contains": "Y"}, {"X": "abc", "Y": "ac"}, False),
        ({"CreationTime|hour": 3}, {"CreationTime": "2026-11-02T03:04:05"}, True),
        ({"CreationTime|hour|lt": 6}, {"CreationTime": "2026-11-02T03:04:05"}, True),
        ({"CreationTime|hour|gte": 6}, {"CreationTime": "2026-11-02T03:04:05"}, False),
        ({"X": r"a\*b"}, {"X": "a*b"}, True),
        ({"X": r"a\*b"}, {"X": "axb"}, False),
        ({"X|contains": "a.b"}, {"X": "a.b"}, True),
        ({"X": "a.*b?"}, {"X": "a.zzbz"}, True),
        ({"X": "a.*b?"}, {"X": "azzbz"}, False),
        ({"X|contains": "\u00e9"}, {"X": "CAF\u00c9"}, True),
        ({"X": ["a*", "b"]}, {"X": "abc"}, True),
        ({"A": 1, "B": 2}, {"A": 1, "B": 2}, True),
        ({"A": 1, "B": 2}, {"A": 1}, False),
        ([{"A": 1}, {"B": 2}], {"B": 2}, True),
        (["secret", "forward"], {"Parameters": [{"Name": "X", "Value": "Forward"}]}, True),
        (["*forward*"], {"Parameters": [{"Name": "X", "Value": "to forward it"}]}, True),
        ("needle", {"Data": '{"deep": {"in": ["needle"]}}'}, True),
        ("needle", {"Data": "hay"}, False),
        ({"|contains": "eedl"}, {"X": "needle"}, True),
    ],
)
def test_a_selection_finds(tmp_path: Path, selection: Any, fields: dict[str, Any], found: bool) -> None:
    """One selection, one record."""
    assert fires(tmp_path, {"selection": selection, "condition": "selection"}, fields) is found


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("a and b", False),
        ("a or b", True),
        ("a and not b", True),
        ("not (a or b)", False),
        ("1 of x_*", True),
        ("all of x_*", False),
        ("any of them", True),
        ("all of them", False),
        ("a and (b or x_one) and not x_two", True),
        (["b", "a"], True),
    ],
)
def test_a_condition_joins_selections(tmp_path: Path, condition: Any, found: bool) -> None:
    """And, or, not, brackets, 1 of, all of, and a list of conditions."""
    selections = {"a": {"A": 1}, "b": {"B": 1}, "x_one": {"A": 1}, "x_two": {"B": 2}}

    assert fires(tmp_path, {**selections, "condition": condition}, {"A": 1}) is found


def test_a_filter_on_an_absent_field_lets_the_record_through(tmp_path: Path) -> None:
    """Not A=x is true of a record without A: elsewhere such records are lost."""
    detection = {
        "s": {"Operation": "Op"},
        "filter": {"DeliveryAction": "Blocked"},
        "condition": "s and not filter",
    }

    assert fires(tmp_path, detection, {"Operation": "Op"})


@pytest.mark.parametrize(
    ("subjects", "fires_now"),
    [
        (["Security alert"], True),
        (["Security alert: new SIGN-IN"], False),
        (["Security alert: new sign-in", "Code red"], True),
        (["Sign-in", "Minutes"], False),
    ],
)
def test_a_value_with_a_part_too_many_does_not_count(
    tmp_path: Path, subjects: list[str], fires_now: bool
) -> None:
    """`without` judges each value by itself: one that is left out hides no other; a list may stand in it."""
    (tmp_path / "rules" / "lists").mkdir(parents=True)
    (tmp_path / "rules" / "lists" / "everyday.txt").write_text("sign-in\nlogin\n")
    detection = {"s": {"AffectedItems.Subject|contains": ["alert", "code"]}, "condition": "s"}
    fields = {"AffectedItems": [{"Subject": one} for one in subjects]}
    extension = {"without": {"AffectedItems.Subject": "%everyday%"}}

    assert fires(tmp_path, detection, fields, m365watch=extension) is fires_now


@guarantee(36)
@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(?<=a)b", "(", "[", "a{100000}"])
def test_a_pattern_that_could_take_for_ever_is_refused(tmp_path: Path, pattern: str) -> None:
    """What only backtracking can match is told when the rules are loaded, with the file."""
    library = load_text(tmp_path, rule_text({"s": {"X|re": pattern}, "condition": "s"}))

    assert library.rules == ()
    [mistake] = library.mistakes
    assert str(mistake).startswith("rules/mine.yml:9 (A rule): detection.s.X|re: ")
    assert "regular expression" in mistake.text.lower()


@guarantee(36)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "^(.*a){20}$", "(.*)*x"])
def test_a_pattern_costs_time_in_line_with_the_text(tmp_path: Path, pattern: str) -> None:
    """Patterns that stall other engines for years are over in well under a second."""
    library = load_good(tmp_path, rule_text({"s": {"X|re": pattern}, "condition": "s"}))
    started = time.process_time()
    alerts_of(library, [record(X="a" * 200_000 + "!")])

    assert time.process_time() - started < 5


def test_a_lone_surrogate_stops_no_pattern(tmp_path: Path) -> None:
    """JSON may escape half a character."""
    library = load_good(tmp_path, rule_text({"s": {"X|re": "abc"}, "condition": "s"}))

    assert (
        len(alerts_of(library, [rb'{"Id":"1","CreationTime":"2026-11-02T03:04:05","X":"\ud83d abc"}'])) <= 1
    )


def test_a_list_of_a_file_stands_for_its_lines(tmp_path: Path) -> None:
    """%words% with the modifier expand is one of the lines of lists/words.txt."""
    (tmp_path / "rules" / "lists").mkdir(parents=True)
    (tmp_path / "rules" / "lists" / "words.txt").write_text("# a remark\nRSS Feeds\n\nArchive\n")
    exact = {"s": {"X|expand": "%words%"}, "condition": "s"}
    inside = {"s": {"X|expand|contains": "%words%"}, "condition": "s"}
    mixed = {"s": {"X|expand": "in %words% today"}, "condition": "s"}

    assert fires(tmp_path, exact, {"X": "rss feeds"})
    assert not fires(tmp_path, exact, {"X": "rss feeds too"})
    assert fires(tmp_path, inside, {"X": "my archive box"})
    assert fires(tmp_path, mixed, {"X": "IN ARCHIVE TODAY"})
    assert not fires(tmp_path, exact, {"X": "# a remark"})


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The rule is left out, and the line says which file is looked for."""
    library = load_text(tmp_path, rule_text({"s": {"X|expand": "%words%"}, "condition": "s"}))

    assert library.rules == ()
    assert "lists/words.txt" in library.mistakes[0].text


@pytest.mark.parametrize(
    ("wild", "found_wild", "written_out", "found_written_out"),
    [
        ({"ObjectId": "*"}, STARRED, {"ObjectId": r"\*"}, ["*"]),
        ({"ObjectId": "?"}, ["*", "?", "a"], {"ObjectId": r"\?"}, ["?"]),
        ({"ObjectId|contains": "?"}, STARRED, {"ObjectId|contains": r"\?"}, ["?", "?a"]),
        ({"ObjectId|startswith": "?"}, STARRED, {"ObjectId|startswith": r"\?"}, ["?", "?a"]),
        ({"ObjectId|endswith": "*"}, STARRED, {"ObjectId|endswith": r"\*"}, ["*", "a*"]),
        ({"ObjectId|cased": "*"}, STARRED, {"ObjectId|cased": r"\*"}, ["*"]),
        ({"ObjectId": ["*", "b"]}, STARRED, {"ObjectId": [r"\*", "b"]}, ["*"]),
        ({"Operation": "*"}, STARRED, {"Operation": r"\*"}, ["*"]),
        ({"Parameters.X|contains": "?"}, STARRED, {"Parameters.X|contains": r"\?"}, ["?", "?a"]),
    ],
)
def test_a_star_that_is_written_out_is_no_wildcard(
    tmp_path: Path,
    wild: dict[str, Any],
    found_wild: list[str],
    written_out: dict[str, Any],
    found_written_out: list[str],
) -> None:
    """Each of two rules finds what it finds without the other, whichever is read first."""
    records = [
        record(second, Operation=text, ObjectId=text, Parameters=[{"Name": "X", "Value": text}])
        for second, text in enumerate(STARRED)
    ]
    texts = {
        title: rule_text({"s": selection, "condition": "s"}, title=title, id=rule_id)
        for title, selection, rule_id in (("wild", wild, RULE_ID), ("written out", written_out, OTHER_ID))
    }

    def found_by(*titles: str) -> dict[str, list[str]]:
        alerts = alerts_of(load_good(tmp_path, *(texts[title] for title in titles)), records)
        return {
            one.title: [STARRED[int(name.removeprefix("record-"))] for name in one.evidence] for one in alerts
        }

    expected = {"wild": found_wild, "written out": found_written_out}
    assert found_by("wild", "written out") == found_by("written out", "wild") == expected
    assert found_by("wild") | found_by("written out") == expected
