"""What a flooded hour keeps: enough for what comes after the flood, whichever way it came."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.rules.rule import Correlation, Joined, Rule
from m365watch.detection.rules.rule_library import load_packs
from m365watch.detection.rules.severity import Severity
from m365watch.detection.store.match_sampling import HOUR_MS, MOMENT_MS, SPREAD_MAX, Room, Seen, room_of
from rules import load_good
from test_joined_correlations import ONE, TWO, joint

MINUTE_MS = 60_000


def seen_of(dice: random.Random, count: int, *, values: int) -> list[Seen]:
    """Matches of an hour, many of them in a few of its minutes."""
    minutes = [dice.randrange(60) for _ in range(5)]
    return sorted(
        (
            dice.choice([*minutes, dice.randrange(60)]) * MINUTE_MS + dice.randrange(60) * 1_000,
            f"{number:05}",
            dice.choice(["", *map(str, range(values))]),
        )
        for number in range(count)
    )


ROOMS = [
    Room(7),
    Room(7, moment_ms=MOMENT_MS),
    Room(7, moment_ms=MOMENT_MS, stretch_ms=5 * MINUTE_MS, wanted=4),
    Room(7, moment_ms=20 * MINUTE_MS, stretch_ms=HOUR_MS, wanted=9, by_value=True),
    Room(7, moment_ms=MINUTE_MS, stretch_ms=7 * MINUTE_MS, wanted=4, by_size=True),
    Room(0, moment_ms=MINUTE_MS, stretch_ms=7 * MINUTE_MS, wanted=2, by_value=True),
]


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_is_the_same_in_any_batches(room: Room, seed: int) -> None:
    """What one batch leaves out is not there when the next one comes."""
    dice = random.Random(seed)
    seen = seen_of(dice, dice.choice([5, 9, 60, 400]), values=dice.choice([1, 5, 40]))
    left = dice.sample(seen, len(seen))
    kept: set[Seen] = set()
    while left:
        size = dice.choice([1, 3, 20, 100])
        kept = room.choose(sorted(kept | {*left[:size]}))
        left = left[size:]

    assert kept == room.choose(seen)


@guarantee(34)
@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_number_that_is_reached_in_all_matches_is_reached_in_those_that_are_kept(
    seed: int, *, by_value: bool
) -> None:
    """In the same stretch of the timespan, at whatever time of the hour that is."""
    dice = random.Random(seed)
    room = Room(3, moment_ms=MOMENT_MS, stretch_ms=5 * MINUTE_MS, wanted=6, by_value=by_value)
    seen = seen_of(dice, 300, values=dice.choice([4, 8, 30]))

    def held(some: list[Seen]) -> set[int]:
        """The stretches in which a window ends that has so many."""
        found = set()
        for place, (at_ms, _, _) in enumerate(some):
            window = [one for one in some[: place + 1] if at_ms - one[0] <= room.stretch_ms]
            counted = {one[2] for one in window if one[2]} if by_value else {*window}
            if len(counted) >= room.wanted:
                found.add(at_ms // room.stretch_ms)
        return found

    assert len(room.choose(seen)) < len(seen)
    assert held(sorted(room.choose(seen))) == held(seen)


def test_what_has_to_lie_between_two_others_is_found(tmp_path: Path) -> None:
    """Of each ten seconds the first and the last stay: that a match was there at all is not lost."""
    [rule] = load_good(tmp_path, ONE, TWO, joint("outer", "temporal_ordered", ["one", "two"])).rules[2:]
    room = room_of(rule, most=100)
    seen = [(second * 1_000, f"{second:05}", "") for second in range(3_600)]
    kept = sorted(room.choose(seen))

    assert max(after[0] - before[0] for before, after in pairwise(kept)) < MOMENT_MS
    assert len(kept) < 100 + 2 * 360


def test_an_hour_of_any_rule_of_the_packs_is_bounded() -> None:
    """However short its timespan is, and however far it counts."""
    rules = [*load_packs(["core"]).rules, counting(1, 5_000), counting(3_600, 10**7), summing(1)]
    for rule in rules:
        room = room_of(rule, most=1_000)
        seconds = -(-HOUR_MS // room.moment_ms) if room.moment_ms else 0
        assert 2 * room.wanted * -(-HOUR_MS // room.stretch_ms) <= SPREAD_MAX + 2 * room.wanted, rule.name
        assert room.wanted <= SPREAD_MAX // 2
        assert seconds <= 3_600


def counting(timespan_s: int, threshold: float) -> Rule:
    """A correlation that counts so far."""
    correlation = Correlation(Joined.COUNT, ("one",), timespan_s, threshold=threshold)
    return replace(Rule("id", "counts", Severity.LOW, ""), correlation=correlation)


def summing(timespan_s: int) -> Rule:
    """A correlation that sums up."""
    correlation = Correlation(Joined.SUM, ("one",), timespan_s, threshold=10)
    return replace(Rule("id", "sums", Severity.LOW, ""), correlation=correlation)
