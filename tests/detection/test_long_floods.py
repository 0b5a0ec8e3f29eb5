"""What goes on for longer than is judged together: parts of it are alerts of their own, each told once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, News
from m365watch.detection.correlation import sliding_window as windows
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.store import match_store as kept_matches
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record
from test_changed_joins import outer, session
from test_joined_correlations import HOUR, MINUTE, NOW, ONE, TWO, joint, many, ones

FLOOD = range(0, 2 * HOUR, MINUTE)
"""One record a minute, of which 30 are read back."""
BATCH = 5


@pytest.fixture(autouse=True)
def _few_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", 60)


def flooded(
    folder: Path, seconds: list[int], *, together: int = BATCH, acknowledged_at: int = 0
) -> tuple[list[KeptAlert], Counter[str]]:
    """The alerts of a flood in this order, and how often each was told as new; ann has the first."""
    library = load_good(folder, ONE, TWO, many(), outer("many", "two", generate=True))
    state = DetectionState(folder / "detections.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    new: Counter[str] = Counter()
    for number, at in enumerate(range(0, len(seconds), together), start=1):
        batch = ones(*seconds[at : at + together])
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


@guarantee(35)
def test_parts_that_earlier_records_move_forward_stay_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backfill brings them newest first, one by one: every part begins earlier with each of them."""
    monkeypatch.setattr(windows, "EPISODE_S_MAX", 20 * 60)
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", 50_000)

    kept, new = flooded(tmp_path, sorted(FLOOD, reverse=True), together=1)

    assert len(kept) > 5
    assert new.total() == len(kept)


@pytest.mark.parametrize("longest_min", [20, 7 * 24 * 60])
def test_all_of_a_long_flood_is_told_though_it_waits_for_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest_min: int
) -> None:
    """A first run, or the return from an outage, brings days of it between two looks."""
    monkeypatch.setattr(windows, "EPISODE_S_MAX", longest_min * 60)

    kept, new = flooded(tmp_path, list(FLOOD), together=len(FLOOD))

    assert {second for one in kept for second in seconds_of(one)} == set(FLOOD)
    assert set(new.values()) == {1}


def test_an_intrusion_at_the_beginning_of_a_long_flood_is_found(tmp_path: Path) -> None:
    """What joins it is judged there too, though most of it came later."""
    library = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", timespan="10m", generate=True))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    batch = [*ones(*FLOOD), record(10 * MINUTE + 1, Operation="Two")]
    engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=1, now=NOW)
    engine.look(now=NOW)
    joined = [one.alert for one in state.alerts.list() if one.alert.title == "outer"]
    state.close()

    assert len(joined) == 1


@pytest.mark.parametrize("together", [16, 24, 40])
def test_an_alert_of_wider_rules_over_several_parts_is_judged_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """All of its time is judged, part by part, and not for ever."""
    wide = load_good(tmp_path, ONE, TWO, many(timespan="2h"), outer("many", "two", generate=True))
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    bursts = [second + hour * HOUR for hour in (20, 21, 22) for second in range(0, 600, 60)]
    session(tmp_path, wide, ones(*bursts))
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", together)
    for rules in (usual, wide, usual):
        session(tmp_path, rules, [])
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    told = sum(kept.alert.count for kept in state.alerts.list())
    state.close()

    assert told >= len(bursts)


@pytest.mark.parametrize("least", [4, 50])
def test_what_is_gone_from_the_beginning_of_a_long_flood_is_withdrawn(tmp_path: Path, least: int) -> None:
    """A knob is turned, and what its alert was joined with goes on for longer than is judged together."""
    joined = joint("outer", "temporal_ordered", ["many", "two"], timespan="30m")
    usual = load_good(tmp_path, ONE, TWO, many(), joined)
    strict = joint("many", "event_count", ["one"], {"gte": least}, timespan="5m")
    start = 20 * HOUR
    batch = ones(*range(start, start + 180, 60))
    batch += [record(start + 600 + 30 * number, Operation="Two") for number in range(200)]

    assert session(tmp_path, usual, batch)
    assert not session(tmp_path, load_good(tmp_path, ONE, TWO, strict, joined), [])


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
