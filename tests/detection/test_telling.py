"""New alerts are told by name, a few; of the rest a line says that there are more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.alert_logger import TOLD_EVERY_S, TOLD_MAX, AlertTeller
from m365watch.detection.alerts.stored_alert import News
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.rules.extension import Severity
from m365watch_testing.clock import FakeClock

AN_ALERT = Alert(
    id=AlertId("a" * 32),
    rule_id="rule",
    title="Something happened",
    severity=Severity("high"),
    tenant="22222222-2222-2222-2222-222222222222",
    group=("ann",),
    entities=(("user", "ann@contoso.example"),),
    first_at_ms=1_795_730_400_000,
    last_at_ms=1_795_730_460_000,
    count=1,
    evidence=("r1",),
    explanation="Something happened.",
)
MORE = "more alerts have come than are named here; `m365watch alerts list` has all"


def new_alerts(count: int) -> list[Change]:
    """So many that nobody has heard of."""
    return [Change(News.NEW, replace(AN_ALERT, id=AlertId(f"{number:032x}"))) for number in range(count)]


def told_of(teller: AlertTeller, *batches: int) -> list[str]:
    """The lines for batches that bring so many alerts each."""
    with capture_logs() as lines:
        for count in batches:
            teller(new_alerts(count))
    return [str(line["event"]) for line in lines]


@pytest.mark.parametrize(
    "batches", [(TOLD_MAX + 1,), (TOLD_MAX, 1), (TOLD_MAX, 40, 40), (1,) * (TOLD_MAX + 3)]
)
def test_a_flood_is_told_in_a_few_lines_however_it_is_cut(batches: tuple[int, ...]) -> None:
    """As many alerts by name as have room, and once that there are more."""
    told = told_of(AlertTeller(FakeClock()), *batches)

    assert len(told) == TOLD_MAX + 1
    assert told[-1] == MORE


def test_as_many_as_have_room_are_told_without_a_word_of_more() -> None:
    """There are none."""
    told = told_of(AlertTeller(FakeClock()), TOLD_MAX)

    assert len(told) == TOLD_MAX
    assert MORE not in told


def test_what_is_worse_than_all_that_was_named_is_named_too() -> None:
    """In a first run the oldest come first, and the worst would be among those that are only counted."""
    teller = AlertTeller(FakeClock())
    told_of(teller, TOLD_MAX)
    worst = replace(AN_ALERT, id=AlertId("f" * 32), severity=Severity.CRITICAL)

    with capture_logs() as lines:
        teller([*new_alerts(2), Change(News.NEW, worst)])
        teller([Change(News.NEW, worst)])

    assert [str(line["event"]) for line in lines] == [
        f"alert, critical: {AN_ALERT.title}; `m365watch alerts show ffffffff`",
        MORE,
    ]


def test_the_next_minute_says_how_many_were_not_named() -> None:
    """And has room of its own."""
    clock = FakeClock()
    teller = AlertTeller(clock)
    told_of(teller, TOLD_MAX, 7)
    asyncio.run(clock.advance(TOLD_EVERY_S))

    first, *told = told_of(teller, TOLD_MAX + 1)

    assert first == "alerts: 7 more; `m365watch alerts list` names them"
    assert len(told) == TOLD_MAX + 1
    assert told[-1] == MORE
