"""What goes on for longer than is judged together: parts of it are alerts of their own, each told once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from m365watch.detect import kept_matches
from m365watch.detect.correlation import windows
from m365watch.detect.engine import Engine
from m365watch.detect.kept import AlertState, KeptAlert, News
from m365watch.detect.portions import Portion
from m365watch.detect.state import DetectionState
from m365watch.instants import ms_of
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record
from test_changed_joins import outer
from test_joined_correlations import HOUR, MINUTE, NOW, ONE, TWO, many, ones

FLOOD = range(0, 2 * HOUR, MINUTE)
"""One record a minute, of which 30 are read back."""
BATCH = 5


@pytest.fixture(autouse=True)
def _few_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", 60)


def flooded(
    folder: Path, seconds: list[int], *, acknowledged_at: int = 0
) -> tuple[list[KeptAlert], Counter[str]]:
    """The alerts of a flood in this order, and how often each was told as new; ann has the first."""
    library = load_good(folder, ONE, TWO, many(), outer("many", "two", generate=True))
    state = DetectionState(folder / "detections.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    new: Counter[str] = Counter()
    for number, at in enumerate(range(0, len(seconds), BATCH), start=1):
        batch = ones(*seconds[at : at + BATCH])
        changes = engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
        changes += engine.look(now=NOW)
        new.update(one.alert.id for one in changes if one.what is News.NEW)
        if number == acknowledged_at:
            with state.transaction():
                made = AlertState.ACKNOWLEDGED
                state.alerts.set_state(next(iter(new)), made, reason="mine", by="ann", at_ms=1)
    kept = sorted(state.alerts.list(), key=lambda one: one.low_ms)
    state.close()
    return kept, new


def seconds_of(kept: KeptAlert) -> set[int]:
    """Which of the flood an alert says that it has."""
    start_ms = ms_of(NOW - timedelta(days=1))
    low, high = ((at_ms - start_ms) // 1000 for at_ms in kept.times_ms)
    found = set(range(low, high + 1, MINUTE))
    assert len(found) == kept.alert.count
    return found


@pytest.mark.parametrize("longest_min", [20, 7 * 24 * 60])
@pytest.mark.parametrize("is_newest_first", [False, True])
def test_each_part_of_a_long_flood_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest_min: int, *, is_newest_first: bool
) -> None:
    """By its id it is the same alert at each look, with all of its records, and what ann made of it."""
    monkeypatch.setattr(windows, "EPISODE_S_MAX", longest_min * 60)
    seconds = sorted(FLOOD, reverse=is_newest_first)

    kept, new = flooded(tmp_path, seconds, acknowledged_at=3)

    assert set(new.values()) == {1}
    # An alert that begins earlier than was known has another id.
    assert is_newest_first or [one.alert.formerly for one in kept] == [()] * len(kept)
    assert {second for one in kept for second in seconds_of(one)} == set(FLOOD)
    assert [one.changed_by for one in kept if one.state is AlertState.ACKNOWLEDGED] == ["ann"]
    assert any(one.alert.notes for one in kept)


def test_what_joins_a_part_of_a_long_flood_has_its_records(tmp_path: Path) -> None:
    """The part is found again by itself, without the one before it."""
    kept, _ = flooded(tmp_path, list(FLOOD))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    library = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    engine = Engine(library.rules, state)
    batch = [record(FLOOD[-1] + MINUTE, Operation="Two")]
    engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=engine.last_batch + 1, now=NOW)
    joined = [one.alert for one in state.alerts.list() if one.alert.title == "outer"]
    state.close()

    assert len(kept) > 1
    assert [one.count for one in joined] == [len(FLOOD) + 1]
