"""Each rule that a correlation joins has room of its own in an hour of a group."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.engine.detection_engine import HOUR_MATCHES_MAX, Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record
from test_correlations import ONE, TWO, joint
from test_engine import NOW

FLOOD = range(HOUR_MATCHES_MAX + 500)


def alerts_after(path: Path, library: Library, *batches: list[bytes]) -> list[Alert]:
    """What a fresh engine tells once it has had all of them, a batch at a time."""
    engine = Engine(library.rules, DetectionState(path, survives_power_cuts=False))
    for number, batch in enumerate(batches, start=1):
        engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
    engine.look(now=NOW)
    return [kept.alert for kept in engine.state.alerts.list()]


@guarantee(34)
@pytest.mark.parametrize("kind", ["temporal", "temporal_ordered"])
def test_a_flood_of_one_rule_leaves_the_others_their_room(tmp_path: Path, kind: str) -> None:
    """Whoever has a thousand records made of the first step would hide the second one: no alert, no plan."""
    library = load_good(tmp_path, ONE, TWO, joint(kind, rules=["one", "two"], timespan="1h"))
    flood = [record(second, Operation="One") for second in FLOOD]
    second_step = [record(2_000, Operation="Two")]

    for number, batches in enumerate(itertools.permutations((flood[:700], flood[700:], second_step))):
        [alert] = alerts_after(tmp_path / f"{number}.sqlite", library, *batches)

        assert alert.evidence[0] == "record-0"
        # Beyond the earliest, two of every ten seconds stay.
        assert alert.count == HOUR_MATCHES_MAX + 100 + 1
        assert "at least" in alert.notes[0]


@guarantee(34)
def test_a_large_number_in_a_flood_of_small_ones_is_summed_up(tmp_path: Path) -> None:
    """Whoever sends two thousand small ones around it would hide it, in whatever order they come."""
    sums = joint("value_sum", {"gte": 1_000_000, "field": "Size"}, timespan="1h")
    library = load_good(tmp_path, ONE, sums)
    flood = [record(second, Operation="One", Size="1") for second in range(2_000)]
    large = [record(1_505, Id="large", Operation="One", Size="2000000")]

    for number, batches in enumerate(itertools.permutations((flood[:1_200], flood[1_200:], large))):
        [alert] = alerts_after(tmp_path / f"{number}.sqlite", library, *batches)

        assert alert.count >= HOUR_MATCHES_MAX
        assert "at least" in alert.notes[0]


def test_what_was_over_before_its_rule_had_no_more_room_does_not_say_so(tmp_path: Path) -> None:
    """Beyond the earliest matches of a rule its own ones may be missing, and before that none is."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal", rules=["one", "two"], timespan="1m"))
    early = [record(0, Operation="One"), record(1, Operation="Two")]
    flood = [record(600 + second, Operation="One") for second in FLOOD]
    late = [record(3_000, Operation="One"), record(3_001, Operation="Two")]

    found = alerts_after(tmp_path / "d.sqlite", library, early, flood, late)

    assert [(one.first_seen_at.minute, bool(one.notes)) for one in found] == [(50, True), (0, False)]


def test_two_rules_that_both_flood_say_from_when_on_one_of_them_is_cut_short(tmp_path: Path) -> None:
    """The one that was full first is the one of which less is known."""
    library = load_good(tmp_path, ONE, TWO, joint("temporal", rules=["one", "two"], timespan="1m"))
    ones = [record(second, Operation="One") for second in FLOOD]
    twos = [record(900 + second, Operation="Two") for second in FLOOD]

    [alert] = alerts_after(tmp_path / "d.sqlite", library, ones, twos)

    assert alert.last_seen_at.minute > HOUR_MATCHES_MAX // 60
    assert "at least" in alert.notes[0]
