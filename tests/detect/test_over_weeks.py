"""An account with a weak sign each day: a noisy script, or an intruder who takes their time."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m365watch.detect.engine import Engine
from m365watch.detect.kept import AlertState, News
from m365watch.detect.portions import Portion
from m365watch.detect.risk import RISK_RULE_ID, make_risk_rule
from m365watch.detect.state import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text

START = datetime(2026, 9, 1, 9, tzinfo=UTC)
SIGNS = 5
DAYS = 50


@pytest.mark.parametrize("every_days", [1.0, 1.5])
def test_signs_that_go_on_for_weeks_are_told_once_in_weeks(tmp_path: Path, every_days: float) -> None:
    """Not as new with each of them; and what is over stays, though its matches are let go of."""
    texts = [
        rule_text(
            {"s": {"Operation": f"Op{number}"}, "condition": "s"},
            title=f"Rule {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            level="medium",
            m365watch={"detection": f"X{number}", "entity": {"user": "UserId"}},
        )
        for number in range(SIGNS)
    ]
    rules = (*load_good(tmp_path, *texts).rules, make_risk_rule())
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules, state)
    told: Counter[News] = Counter()
    for number in range(int(DAYS / every_days)):
        at = START + timedelta(days=number * every_days)
        record = {
            "Id": f"r{number}",
            "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
            "Operation": f"Op{number % SIGNS}",
            "UserId": "ann@contoso.example",
        }
        batch = [json.dumps(record).encode()]
        now = at + timedelta(hours=1)
        changes = engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=number + 1, now=now)
        changes += engine.look(now=now)
        risks = [one for one in changes if one.alert.rule_id == RISK_RULE_ID]
        told.update(one.what for one in risks)
        if told[News.NEW] == 1 and risks and risks[0].what is News.NEW:
            with state.transaction():
                made = AlertState.ACKNOWLEDGED
                state.alerts.set_state(risks[0].alert.id, made, reason="a script", by="ann", at_ms=1)
    kept = [one for one in state.alerts.list() if one.alert.rule_id == RISK_RULE_ID]
    state.close()

    assert told[News.NEW] == len(kept) == 2
    assert told[News.WITHDRAWN] == 0
    assert [one.state for one in kept] == [AlertState.OPEN, AlertState.ACKNOWLEDGED]
    assert kept[0].alert.first_at_ms < kept[1].alert.last_at_ms
