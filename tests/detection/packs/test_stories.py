"""The attacks of the simulated tenant are found, and its ordinary days are left in peace."""

from __future__ import annotations

import pytest
from promises import guarantee
from weeks import FALSE_A_DAY_MAX, FIRST_AT, TECHNIQUES, is_of_attacks, watch_weeks

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.rules.severity import Severity
from m365watch_simulator.organization.attacks.attack import Attack
from m365watch_simulator.organization.attacks.campaign import STORIES


@guarantee(33)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_story_is_found_among_few_false_alerts(seed: int) -> None:
    """An alert names a user of each story and what was done to them; false ones are few.

    A tenant of 1,000 users takes minutes: `./dev weeks`.
    """
    weeks = watch_weeks(users=40, records_per_day=1_000, days=6, seed=seed)

    assert weeks.missed() == []
    assert len(weeks.attacks) >= len(STORIES) == len(TECHNIQUES)
    assert weeks.false_a_day <= FALSE_A_DAY_MAX, [alert.explanation for alert in weeks.false]


@pytest.mark.parametrize(
    ("evidence", "user", "is_right"),
    [
        (("a1", "n1"), "innocent", True),
        (("a1", "n1", "n2"), "victim", True),
        (("a1", "n1", "n2"), "innocent", False),
        (("n1",), "victim", False),
    ],
)
def test_one_record_of_an_attack_makes_no_find(
    evidence: tuple[str, ...], user: str, *, is_right: bool
) -> None:
    """What rests mostly on ordinary days counts as false, unless it names whom the attack is about."""
    attack = Attack(
        story="s",
        title="t",
        started_at=FIRST_AT,
        ended_at=FIRST_AT,
        account="victim",
        entities={"user": ("victim",)},
        record_ids=("a1", "a2"),
    )
    alert = Alert(
        id=AlertId("x"),
        rule_id="r",
        title="t",
        severity=Severity.HIGH,
        tenant="t",
        group=(),
        entities=(("user", user),),
        first_at_ms=0,
        last_at_ms=0,
        count=len(evidence),
        evidence=evidence,
        explanation="",
    )

    assert is_of_attacks(alert, [attack]) is is_right
