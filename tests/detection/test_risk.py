"""Weak signs on one entity add up to a strong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_exceptions import AlertException, Exceptions
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, make_risk_rule, risk_matches
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from rules import TENANT, load_good, record, rule_text

DAY = 86_400


def risks(
    directory: Path,
    *records: bytes,
    points: int = 30,
    exceptions: Exceptions | None = None,
    high: frozenset[int] = frozenset(),
    detection: str = "",
) -> list[Alert]:
    """The alerts about risk, with ten rules of so many points, on the operations 0 to 9."""
    texts = [
        rule_text(
            {"s": {"Operation": f"Op{number}"}, "condition": "s"},
            title=f"Rule {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            level="high" if number in high else "medium",
            tags=[f"attack.t10{number:02}", "attack.persistence"],
            m365watch={
                "risk": points,
                "quiet": "1h",
                "entity": {"user": "UserId", "address": "ClientIP"},
                "detection": detection,
            },
        )
        for number in range(10)
    ]
    rules = (*load_good(directory, *texts).rules, make_risk_rule())
    found = find_alerts(
        rules,
        records,
        knowledge=NOTHING_KNOWN,
        tenant=TENANT,
        exceptions=exceptions or Exceptions(),
    )
    return [alert for alert in found if alert.rule_id == RISK_RULE_ID]


def test_ten_weak_signs_on_one_account_are_one_strong_alert(tmp_path: Path) -> None:
    """Each by itself would be looked at tomorrow, if ever."""
    [alert] = risks(
        tmp_path, *(record(number * 3_600, Operation=f"Op{number}") for number in range(10)), points=10
    )

    assert alert.severity == "high"
    assert alert.techniques == tuple(f"T10{number:02}" for number in range(10))
    assert alert.tactics == ("persistence",)
    assert alert.contain == ("revoke_sessions", "disable_account", "reset_password")
    assert alert.entity("user") == "ann@contoso.example"
    assert alert.evidence == tuple(f"record-{number * 3_600}" for number in range(10))
    assert alert.explanation == (
        "ann@contoso.example reached 170 risk points within a week: "
        + ", ".join(f"Rule {number}" for number in range(10))
        + "."
    )


def test_one_rule_alone_is_no_risk_however_often(tmp_path: Path) -> None:
    """It would be its own alert many times over."""
    assert (
        risks(tmp_path, *(record(number * 7_200, Operation="Op1") for number in range(40)), points=90) == []
    )


def test_two_rules_are_two_alerts_and_no_third(tmp_path: Path) -> None:
    """Somebody has seen both of them."""
    records = [record(number * 7_200, Operation=f"Op{number % 2}") for number in range(12)]

    assert risks(tmp_path, *records, points=60) == []


def test_ten_signs_weigh_more_than_one_ten_times(tmp_path: Path) -> None:
    """Eight weak signs are an alert; two of them with dozens of repeats of a third are none."""
    different = [record(number * 3_600, Operation=f"Op{number}") for number in range(8)]
    repeated = [record(number * 7_200, Operation=f"Op{min(number, 2)}") for number in range(80)]

    assert len(risks(tmp_path, *different, points=5)) == 1
    assert risks(tmp_path, *repeated, points=5) == []
    assert risks(tmp_path, *repeated, points=14) == []


def test_rules_of_one_detection_are_one_sign(tmp_path: Path) -> None:
    """Microsoft's alerts come in five ways, and tell of everyday work in each."""
    records = [record(number * 3_600, Operation=f"Op{number}") for number in range(5)]

    assert len(risks(tmp_path, *records, points=15)) == 1
    assert risks(tmp_path, *records, points=15, detection="A01") == []


def test_a_rule_that_repeats_counts_less_each_time(tmp_path: Path) -> None:
    """Sixteen points and its repetitions stay below twenty-two; with two more rules that is enough."""
    often = [record(number * 7_200, Operation="Op1") for number in range(5)]
    others = [record(50_000, Operation="Op2"), record(60_000, Operation="Op3")]

    assert len(risks(tmp_path, *often, *others, points=16)) == 1
    assert risks(tmp_path, often[0], *others, points=16) == []


def test_what_a_high_alert_has_told_is_not_told_again(tmp_path: Path) -> None:
    """The account is on somebody's desk; the sum would be the same alarm once more."""
    records = [record(number * 3_600, Operation=f"Op{number}") for number in range(4)]

    assert len(risks(tmp_path, *records)) == 1
    assert risks(tmp_path, *records, high=frozenset({0})) == []


def test_weak_signs_before_a_high_alert_stay_told(tmp_path: Path) -> None:
    """They were an alert when they came; a high one that follows takes nothing back."""
    records = [record(number * 3_600, Operation=f"Op{number}") for number in range(5)]
    [before] = risks(tmp_path, *records[:4])
    [after] = risks(tmp_path, *records, high=frozenset({4}))

    assert after.id == before.id


def test_an_address_of_one_account_tells_nothing_that_the_account_does_not(tmp_path: Path) -> None:
    """Otherwise every risk would be told twice."""
    records = [record(number * 3_600, Operation=f"Op{number}", ClientIP="192.0.2.1") for number in range(5)]
    [alert] = risks(tmp_path, *records)

    assert alert.entities == (("user", "ann@contoso.example"),)


def test_signs_of_more_than_a_week_do_not_add_up(tmp_path: Path) -> None:
    """What is long over is another matter."""
    spread = [record(number * 4 * DAY, Operation=f"Op{number}") for number in range(6)]

    assert risks(tmp_path, *spread, points=40) == []
    assert (
        len(
            risks(
                tmp_path, *(record(number * DAY, Operation=f"Op{number}") for number in range(3)), points=40
            )
        )
        == 1
    )


def test_entities_are_told_apart(tmp_path: Path) -> None:
    """Ten users with a sign each are none with ten; but they may have come from one address."""
    records = [
        record(number, Operation=f"Op{number}", UserId=f"u{number}", ClientIP="192.0.2.1")
        for number in range(10)
    ]
    [alert] = risks(tmp_path, *records)

    assert alert.entities == (("address", "192.0.2.1"),)


def test_of_what_many_share_twice_as_much_is_asked(tmp_path: Path) -> None:
    """Everybody's little things come from the office's address."""
    records = [record(number, Operation=f"Op{number}", UserId=f"u{number}") for number in range(10)]
    shared = [one.replace(b"{", b'{"ClientIP":"192.0.2.1",', 1) for one in records]

    assert risks(tmp_path, *shared, points=9) == []
    assert len(risks(tmp_path, *shared, points=10)) == 1


def test_what_is_excepted_adds_nothing(tmp_path: Path) -> None:
    """Somebody has said that it is nothing."""
    records = [record(number, Operation=f"Op{number}") for number in range(4)]
    excepted = Exceptions(
        (AlertException(rule="Rule 0", reason="known"), AlertException(rule="Rule 1", reason="known"))
    )

    assert len(risks(tmp_path, *records)) == 1
    assert risks(tmp_path, *records, exceptions=excepted) == []


@pytest.mark.parametrize("is_attempt", [False, True])
def test_an_alert_that_names_many_says_little_of_each_and_mutes_nobody(
    tmp_path: Path, *, is_attempt: bool
) -> None:
    """What is high for a whole house is no reason to keep silent about one account of it.

    To be one of many who were only tried says nothing: ordinary work beside it is no intrusion.
    """
    spray = rule_text(
        {"s": {"Operation": "Try"}, "condition": "s"},
        title="Spray",
        id="5f1c6c0e-7d0b-4a51-9a4e-000000000099",
        level="high",
        m365watch={
            "risk": 60,
            "quiet": "1h",
            "group_by": "ClientIP",
            "entity": {"user": "UserId", "address": "ClientIP"},
            "contain": ["see_who_signed_in"] if is_attempt else ["disable_account"],
        },
    )
    tries = [record(n, Operation="Try", UserId=f"u{n}@c.example", ClientIP="192.0.2.9") for n in range(30)]
    signs = [record(100 + n, Operation=f"Op{n}", UserId="u7@c.example") for n in range(3)]
    texts = [
        rule_text(
            {"s": {"Operation": f"Op{number}"}, "condition": "s"},
            title=f"Rule {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"risk": 15},
        )
        for number in range(3)
    ]
    rules = (*load_good(tmp_path, spray, *texts).rules, make_risk_rule())

    def risk_of(*records: bytes) -> list[str]:
        found = find_alerts(rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT)
        return [one.entity("user") for one in found if one.rule_id == RISK_RULE_ID]

    assert risk_of(*signs) == []
    assert risk_of(*tries) == []
    assert risk_of(*tries, *signs) == ([] if is_attempt else ["u7@c.example"])


def test_an_alert_that_joins_what_anybody_did_adds_nothing(tmp_path: Path) -> None:
    """Its parts have given their points to those who did them; nothing ties the others to it."""
    texts = [
        rule_text(
            {"s": {"Operation": name}, "condition": "s"},
            title=name,
            name=name.lower(),
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            m365watch={"risk": 10},
        )
        for number, name in enumerate(("Weaken", "Attack"))
    ]
    joining = yaml.safe_dump(
        {
            "title": "Joins",
            "id": "5f1c6c0e-7d0b-4a51-9a4e-000000000009",
            "correlation": {
                "type": "temporal_ordered",
                "rules": ["weaken", "attack"],
                "timespan": "1d",
                "generate": True,
            },
            "level": "critical",
            "m365watch": {"risk": 100},
        }
    )
    [rule] = [one for one in load_good(tmp_path, *texts, joining).rules if one.title == "Joins"]
    found = find_alerts(
        load_good(tmp_path, *texts, joining).rules,
        [
            record(0, Operation="Weaken", UserId="ann@contoso.example"),
            record(60, Operation="Attack", UserId="bob"),
        ],
        knowledge=NOTHING_KNOWN,
        tenant=TENANT,
    )
    [joined] = [one for one in found if one.rule_id == rule.id]

    assert joined.group == ()
    assert risk_matches(rule, joined) == []
