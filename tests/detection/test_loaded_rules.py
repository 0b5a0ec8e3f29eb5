"""Rules that are loaded: their names, and what they make of records."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from verdicts import packs

from library_rules import DETECTION
from rules import RULE_ID, alerts_of, load_good, load_text, record, rule_text


def test_a_rule_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    """Id, name, title, number in the catalogue, Devo's name."""
    keys: dict[str, Any] = {"name": "a_rule", "m365watch": {"detection": "B01", "aliases": ["SecOpsX"]}}
    library = load_good(tmp_path, rule_text(DETECTION, **keys))

    for name in (RULE_ID, "a_rule", "A RULE", "b01", "secopsx"):
        assert library.find(name) == list(library.rules)
    assert library.find("nothing") == []


def test_a_rule_without_an_id_keeps_the_one_it_gets(tmp_path: Path) -> None:
    """Alerts are made of it, so that it must not change from start to start."""
    text = rule_text(DETECTION, id=None)

    assert load_good(tmp_path, text).rules[0].id == load_good(tmp_path, text).rules[0].id


def test_the_packs_have_no_mistake() -> None:
    """What comes along can be used as it is."""
    assert [str(one) for one in packs().mistakes] == []


def test_two_hundred_rules_are_loaded_in_a_moment(tmp_path: Path) -> None:
    """Starting up does not wait for rules."""
    texts = [
        rule_text(DETECTION, title=f"Rule {number}", id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}")
        for number in range(200)
    ]
    load_text(tmp_path, texts[0])
    started = time.process_time()
    library = load_good(tmp_path, *texts)

    assert len(library.rules) == 200
    assert time.process_time() - started < 5


def test_an_alert_tells_what_happened(tmp_path: Path) -> None:
    """Severity, entity, evidence, technique, times, count, and the values in words."""
    extension = {
        "entity": {"user": "UserId", "address": "m365.ip"},
        "explanation": "{user} made {Parameters.Name} from {address}, {count} time(s).",
        "check": ["Ask Ann."],
        "contain": ["remove_inbox_rule"],
        "raise": {"to": "critical", "when": "hides"},
        "risk": 33,
    }
    detection = {
        "s": {"Operation": "New-InboxRule"},
        "hides": {"Parameters.DeleteMessage": True},
        "condition": "s",
    }
    library = load_good(
        tmp_path, rule_text(detection, m365watch=extension, tags=["attack.t1114.003", "attack.collection"])
    )
    fields: dict[str, Any] = {
        "Operation": "New-InboxRule",
        "ClientIP": "192.0.2.1:5",
        "Parameters": {"Name": "a\nb"},
    }
    [alert] = alerts_of(
        library, [record(0, **fields), record(60, **{**fields, "Parameters": {"DeleteMessage": "True"}})]
    )

    assert alert.explanation == "ann@contoso.example made a\u240ab from 192.0.2.1, 2 time(s)."
    assert alert.entities == (("user", "ann@contoso.example"), ("address", "192.0.2.1"))
    assert alert.severity == "critical"
    assert alert.techniques == ("T1114.003",)
    assert alert.tactics == ("collection",)
    assert alert.evidence == ("record-0", "record-60")
    assert (alert.last_seen_at - alert.first_seen_at).total_seconds() == 60
    assert (alert.count, alert.risk, alert.check, alert.contain) == (
        2,
        33,
        ("Ask Ann.",),
        ("remove_inbox_rule",),
    )


def test_matches_after_the_quiet_span_are_another_alert(tmp_path: Path) -> None:
    """Within it they are the same; another user is another alert."""
    library = load_good(tmp_path, rule_text(DETECTION, m365watch={"quiet": "1h"}))
    seconds = (0, 3_000, 6_000, 9_601)
    found = alerts_of(library, [record(one, Operation="New-InboxRule") for one in seconds])
    others = alerts_of(library, [record(one, Operation="New-InboxRule", UserId=f"u{one}") for one in seconds])

    assert [alert.count for alert in found] == [3, 1]
    assert [alert.count for alert in others] == [1, 1, 1, 1]


def test_a_group_is_one_whatever_the_case(tmp_path: Path) -> None:
    """The feed spells one account in several ways."""
    library = load_good(tmp_path, rule_text(DETECTION))
    found = alerts_of(
        library,
        [record(one, Operation="New-InboxRule", UserId=name) for one, name in enumerate(["Ann", "ANN"])],
    )

    assert [alert.count for alert in found] == [2]


def test_a_record_that_comes_twice_counts_once(tmp_path: Path) -> None:
    """Duplicates change nothing, ids included."""
    library = load_good(tmp_path, rule_text(DETECTION))
    one = record(5, Operation="New-InboxRule")

    assert alerts_of(library, [one, one, one]) == alerts_of(library, [one])
