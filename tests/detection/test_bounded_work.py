"""What it costs to judge a group grows with what it has, and no faster."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from promises import guarantee

from m365watch.detection import correlation as room
from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.alert_builder import sort_matches
from m365watch.detection.correlation import sliding_window as windows
from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.correlation.sliding_window import make_window, window_episodes
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named
from m365watch.detection.rules.severity import Severity

DAY_S = 86_400
FEW = 400
SEQUENCE = Joint("and", (Named("weakened"), Joint("or", (Named("hit"), Named("other")))))
GUARDED = Joint("and", (Named("weakened"), Named("hit"), Joint("not", (Named("other"),))))


def make_match(at_s: int, source: str, *, record: str = "", counted: str = "") -> Match:
    """A match of a tenant's group."""
    name = record or f"{source}-{at_s}"
    return Match("joint", source, "tenant", (), at_s * 1_000, name, name, Severity.HIGH, {}, counted)


def lines_run(act: Callable[[], object]) -> int:
    """How many lines of the room of correlations `act` runs: its work, whatever machine it runs on."""
    folder = str(Path(room.__path__[0]))
    count = 0

    def trace_line(_frame: FrameType, _what: str, _arg: Any) -> Any:
        nonlocal count
        count += 1
        return trace_line

    def trace_call(frame: FrameType, _what: str, _arg: Any) -> Any:
        return trace_line if frame.f_code.co_filename.startswith(folder) else None

    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


@guarantee(36)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize(
    ("joined", "expression"),
    [
        (Joined.ORDERED, SEQUENCE),
        (Joined.ORDERED, GUARDED),
        (Joined.TEMPORAL, SEQUENCE),
        (Joined.ORDERED, None),
    ],
)
def test_twice_as_many_matches_are_twice_the_work(
    joined: Joined, expression: Expression | None, place: float | None
) -> None:
    """The group of C04 is a whole tenant, and its day may have 24,000: wherever what weakened it lies."""
    correlation = Correlation(
        joined,
        ("weakened", "hit", "other")[: 2 if expression is None else 3],
        DAY_S,
        threshold=2,
        expression=expression,
    )

    def work(count: int) -> int:
        weak = None if place is None else round(place * count)
        matches = [make_match(at, "weakened" if at == weak else "hit") for at in range(count + 1)]
        found = window_episodes(matches, correlation)
        assert bool(found) == (place is not None and not (place == 1.0 and joined is Joined.ORDERED))
        return lines_run(lambda: window_episodes(matches, correlation))

    few, many = work(FEW), work(2 * FEW)

    assert FEW < few < many < 2.2 * few


class Counted(float):
    """A number that counts what is done with it."""

    uses = 0

    def __add__(self, other: float) -> float:
        Counted.uses += 1
        return float(self) + float(other)

    __radd__ = __add__

    def __lt__(self, other: float) -> bool:
        Counted.uses += 1
        return float(self) < float(other)

    def __eq__(self, other: object) -> bool:
        Counted.uses += 1
        return float(self) == other

    __hash__ = float.__hash__

    def as_integer_ratio(self) -> tuple[int, int]:
        Counted.uses += 1
        return float(self).as_integer_ratio()


@pytest.mark.parametrize("joined", [Joined.SUM, Joined.AVERAGE, Joined.MEDIAN, Joined.PERCENTILE])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_twice_as_many_numbers_are_twice_the_work(
    joined: Joined, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever share of them a window has: none is looked at again for each that comes or goes."""
    monkeypatch.setattr(windows, "read_number", Counted)

    def work(count: int) -> int:
        correlation = Correlation(joined, ("a",), round(share * count), threshold=-1, percentile=90)
        before = Counted.uses
        assert window_episodes([make_match(at, "a", counted=f"{at % 7}") for at in range(count)], correlation)
        return Counted.uses - before

    few, many = work(FEW), work(2 * FEW)

    # Those that are kept in order are found by halving.
    assert FEW <= few < many < 2.4 * few
    assert many < 2 * FEW * 2 * FEW.bit_length()


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_those_of_the_numbers_whatever_came_and_went(seed: int) -> None:
    """To the last bit, of large and small ones, of texts that are none, and beyond what a number can hold."""
    dice = random.Random(seed)
    texts = ["0.1", "-0.1", "1e16", "-1e16", "3", "1e-300", "5e-324", "", "x", "1e308", "nan"]
    some = dice.sample(texts, dice.randrange(1, len(texts)))
    matches = [make_match(at, "a", counted=dice.choice(some)) for at in range(60)]
    for joined in (Joined.SUM, Joined.AVERAGE):
        window = make_window(Correlation(joined, ("a",), 9))
        for place, match in enumerate(matches):
            window.add(match)
            if place > 9:
                window.drop(matches[place - 10])
            inside = [read_number(one.counted) for one in matches[max(0, place - 9) : place + 1]]
            known = [Fraction(number) for number in inside if number is not None]
            divisor = 1 if joined is Joined.SUM else len(known)

            assert window.value() == (nearest(sum(known, Fraction()) / divisor) if divisor else None)


def nearest(exact: Fraction) -> float:
    """The number nearest to it; infinite where it is too large for one."""
    try:
        return float(exact)
    except OverflowError:
        return inf if exact > 0 else -inf


NAMES = ("a", "b", "c", "d")


def make_expression(dice: random.Random, depth: int = 0) -> Expression:
    """Any expression of the rules a, b and c."""
    operator = dice.choice(["and", "or", "not", "", ""]) if depth < 3 else ""
    if not operator:
        return Named(dice.choice(NAMES[:3]))
    parts = 1 if operator == "not" else dice.randrange(2, 4)
    return Joint(operator, tuple(make_expression(dice, depth + 1) for _ in range(parts)))


def first_after(expression: Expression, matches: Sequence[Match], after: Match | None) -> list[Match | None]:
    """The match that first fulfils the expression after another, by looking through all of them."""
    if isinstance(expression, Named):
        found = (
            one
            for one in matches
            if one.source_id == expression.rule_id
            and (after is None or (one.at_ms >= after.at_ms and one.identity != after.identity))
        )
        return list(islice(found, 1))
    if expression.operator == "and":
        reached = [after]
        for part in expression.parts:
            reached = [one for before in reached for one in first_after(part, matches, before)]
        return reached
    every = [one for part in expression.parts for one in first_after(part, matches, after)]
    if expression.operator == "not":
        return [] if every else [after]
    # Where nothing is asked for, nothing comes before it.
    return sorted(every, key=lambda one: (-1, "") if one is None else (one.at_ms, one.identity))[:1]


def holds(expression: Expression, matches: Sequence[Match]) -> bool:
    """Whether it holds in any order."""
    if isinstance(expression, Named):
        return any(one.source_id == expression.rule_id for one in matches)
    found = [holds(part, matches) for part in expression.parts]
    return {"and": all(found), "or": any(found), "not": not found[0]}[expression.operator]


@pytest.mark.parametrize("seed", range(60))
def test_an_order_is_found_as_by_looking_through_every_window(seed: int) -> None:
    """Of one second any may have come first, one record fulfils one step, and windows end where they end."""
    dice = random.Random(seed)
    expression = make_expression(dice)
    correlation = Correlation(Joined.ORDERED, NAMES[:3], 9, threshold=3, expression=expression)
    matches = sort_matches(
        make_match(at_s, source, record=f"{at_s}-{dice.randrange(3)}")
        for at_s, source in zip(sorted(dice.choices(range(40), k=30)), dice.choices(NAMES, k=30), strict=True)
    )
    window = make_window(correlation)
    start = 0
    held, expected = [], []
    for place, match in enumerate(matches):
        window.add(match)
        while match.at_ms - matches[start].at_ms > correlation.timespan_s * 1_000:
            window.drop(matches[start])
            start += 1
        inside = matches[start : place + 1]
        held.append(window.value() == correlation.threshold)
        expected.append(holds(expression, inside) and first_after(expression, inside, None) != [])

    assert held == expected
