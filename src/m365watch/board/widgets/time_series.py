"""Rows of (instant, name, count) become the lines of a chart, and the sparks of a ranking."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from m365watch.board.query.time_range import TimeRange
from m365watch.board.widgets.widget_types import Chart, Empty, Line, Narrows

LINES_MAX = 7
TICKS_MAX = 8
_HOUR_S = 3_600
_DAY_S = 86_400
_UNITS_S = (
    300,
    900,
    _HOUR_S,
    3 * _HOUR_S,
    6 * _HOUR_S,
    12 * _HOUR_S,
    _DAY_S,
    2 * _DAY_S,
    7 * _DAY_S,
    14 * _DAY_S,
)
_EDGE = 0.96
"""No tick begins beyond it: its words would stand outside."""


def steps_of(span: TimeRange, step_s: int = 0) -> list[int]:
    """The instants at which the steps of the span begin, which are a chart's or so long."""
    step_s = step_s or span.step_s
    return list(range(span.start_s // step_s * step_s, span.end_s, step_s))


def chart_of(
    span: TimeRange,
    rows: Sequence[tuple[int, str, int]],
    *,
    colour: Callable[[str], str],
    words: Callable[[str], str] = str,
    narrows: Callable[[str], Narrows | None] = lambda _: None,
    empty: Empty | None = None,
    stacked: bool = True,
    order: Sequence[str] = (),
) -> Chart:
    """A line for each name, in that order or the most frequent first; those without room become one."""
    at_s = steps_of(span)
    place = {at: number for number, at in enumerate(at_s)}
    values: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(at_s))
    for at, name, count in rows:
        if at in place:
            values[name][place[at]] += count
    names = [one for one in order if one in values]
    names += sorted(values.keys() - set(names), key=lambda one: (-sum(values[one]), one))
    lines = [Line(words(one), values[one], colour(one), narrows(one)) for one in names[:LINES_MAX]]
    if rest := names[LINES_MAX:]:
        lines.append(
            Line("others", [sum(of) for of in zip(*(values[one] for one in rest), strict=True)], "c8")
        )
    return Chart(at_s, span.step_s, lines, stacked=stacked, empty=None if lines else empty)


def colours_of(rows: Sequence[tuple[int, str, int]]) -> Callable[[str], str]:
    """A colour for each name of a chart's rows, whatever their order: the most frequent have their own."""
    totals: Counter[str] = Counter()
    for _, name, count in rows:
        totals[name] += count
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    places = {name: place for place, name in enumerate(ranked)}
    return lambda name: f"c{places[name] % LINES_MAX + 1}"


def ticks_of(start_s: int, *, span_s: int) -> list[tuple[float, str]]:
    """Places from 0 to 1 on an axis of time, and their words: where hours or days begin, never in between."""
    unit = next((one for one in _UNITS_S if span_s <= one * TICKS_MAX), _UNITS_S[-1])
    first = -(-start_s // unit) * unit
    ticks = []
    for at in range(first, start_s + span_s, unit):
        words = "%-d %b" if at % _DAY_S == 0 else "%H:%M"
        if (place := (at - start_s) / span_s) < _EDGE:
            ticks.append((place, f"{datetime.fromtimestamp(at, UTC):{words}}"))
    return ticks


def sparks_of(span: TimeRange, rows: Sequence[tuple[str, int, int]]) -> Mapping[str, list[int]]:
    """The course of each name, from rows of (name, instant, count)."""
    step = span.spark_s
    first = span.start_s // step * step
    count = -(-(span.end_s - first) // step)
    sparks: dict[str, list[int]] = defaultdict(lambda: [0] * count)
    for name, at, number in rows:
        place = (at - first) // step
        if 0 <= place < count:
            sparks[name][place] += number
    return sparks
