"""The attacks of the simulated tenant are found, and its ordinary days are left in peace."""

from __future__ import annotations

import pytest
from weeks import FALSE_A_DAY_MAX, TECHNIQUES, watch_weeks

from m365watch.simulator.attacks.campaign import STORIES


@pytest.mark.parametrize("seed", [1, 2])
def test_every_story_is_found_among_few_false_alerts(seed: int) -> None:
    """An alert names a user of each story and what was done to them; false ones are few.

    A tenant of 1,000 users takes minutes: `./dev weeks`.
    """
    weeks = watch_weeks(users=40, records_per_day=1_000, days=6, seed=seed)

    assert weeks.missed() == []
    assert len(weeks.attacks) >= len(STORIES) == len(TECHNIQUES)
    assert weeks.false_a_day <= FALSE_A_DAY_MAX, [alert.explanation for alert in weeks.false]
