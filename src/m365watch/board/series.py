"""Rows of (instant, name, count) become the lines of a chart, and the sparks of a ranking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from m365watch.board.shapes import Chart, Empty, Line, Narrows
from m365watch.board.time_range import TimeRange

LINES_MAX = 7
SPARK_POINTS = 24


def steps_of(span: TimeRange) -> list[int]:
    """The instants at which the steps of the span begin."""
    first = span.start_s // span.step_s * span.step_s
    return list(range(first, span.end_s, span.step_s))


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


def spark_step_s(span: TimeRange) -> int:
    """How long a step of a spark is."""
    return max(span.step_s, -(-span.span_s // SPARK_POINTS // span.step_s) * span.step_s)


def sparks_of(span: TimeRange, rows: Sequence[tuple[str, int, int]]) -> Mapping[str, list[int]]:
    """The course of each name, from rows of (name, instant, count)."""
    step = spark_step_s(span)
    count = -(-span.span_s // step)
    sparks: dict[str, list[int]] = defaultdict(lambda: [0] * count)
    for name, at, number in rows:
        place = (at - span.start_s) // step
        if 0 <= place < count:
            sparks[name][place] += number
    return sparks
