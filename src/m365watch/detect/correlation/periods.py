"""Kinds that look at whole periods: low, rolling, gradient, deviation.

Periods are cut at fixed times since 1970, so that it does not matter when the collector was started. A
period is looked at once it has been over for `SETTLED_S`, for the feed publishes late; a record that comes
later still changes what was said of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import sqrt

from m365watch.detect.alert import Match
from m365watch.detect.correlation.episode import Episode
from m365watch.detect.correlation.numbers import read_number
from m365watch.detect.correlation.windows import LONGEST
from m365watch.detect.extension import Change, Deviation, Low, Rolling

SETTLED_S = 2 * 3_600
"""How long after its end a period is looked at: most of the feed has come by then."""
PERIODS_MAX = 2_000
"""Periods of one group that are looked at, the latest ones."""
RUN_S_MAX = 28 * 86_400
"""A run may be as long at least; what goes on for longer is another, so that old matches can be let go."""


def low_episodes(matches: Sequence[Match], wanted: Low, *, now_ms: int) -> list[Episode]:
    """Runs of periods with at most `threshold` matches, after one within `learn` that had more.

    The evidence is the last that was seen before.
    """
    tallies = _tallies(matches, wanted.period, now_ms=now_ms, value="")
    offending = []
    alive_until = -1
    for place, (start_ms, count) in enumerate(tallies):
        if count > wanted.threshold:
            alive_until = start_ms + wanted.learn * 1000
        elif start_ms <= alive_until:
            offending.append(place)
    return [
        _run_episode(run, tallies, matches, period_s=wanted.period, before=True) for run in _runs(offending)
    ]


def rolling_episodes(matches: Sequence[Match], wanted: Rolling, *, now_ms: int) -> list[Episode]:
    """Runs of periods at whose end the `back_period` held `threshold` matches or more."""
    times = [match.at_ms for match in matches]
    tallies = _tallies(matches, wanted.period, now_ms=now_ms, value="", after_s=wanted.back_period)
    width_ms = wanted.period * 1000
    counts = []
    for start_ms, _ in tallies:
        end_ms = start_ms + width_ms
        count = bisect_left(times, end_ms) - bisect_left(times, end_ms - wanted.back_period * 1000)
        counts.append((start_ms, float(count)))
    offending = [place for place, (_, count) in enumerate(counts) if count >= wanted.threshold]
    most = max(RUN_S_MAX, LONGEST * wanted.back_period) // wanted.period
    return [
        _run_episode(run, counts, matches, period_s=wanted.period, back_s=wanted.back_period)
        for run in _runs(offending, most=max(most, 1))
    ]


def gradient_episodes(matches: Sequence[Match], wanted: Change, *, now_ms: int) -> list[Episode]:
    """Runs of periods that differ from the one before by more than `threshold`."""
    tallies = _tallies(matches, wanted.period, now_ms=now_ms, value=wanted.value)
    offending = [
        place + 1
        for place, ((_, before), (_, after)) in enumerate(pairwise(tallies))
        if max(before, after) >= wanted.at_least and _changed(before, after, wanted)
    ]
    return [_run_episode(run, tallies, matches, period_s=wanted.period) for run in _runs(offending)]


def _changed(before: float, after: float, wanted: Change) -> bool:
    if wanted.absolute:
        return _beyond(after - before, wanted.threshold, wanted.direction)
    # As a factor; from nothing to something is a change beyond any factor.
    up = after > before * wanted.threshold
    down = before > after * wanted.threshold
    return _either(up=up, down=down, direction=wanted.direction)


def deviation_episodes(
    matches: Sequence[Match], wanted: Deviation, *, now_ms: int, since_ms: int = 0, from_ms: int = 0
) -> list[Episode]:
    """Runs of periods that are further than `threshold` from the mean of the `periods` before.

    A period is judged once the tenant has been watched for as many before it, from `since_ms` on. Runs
    that begin before `from_ms` are left out: what they have to be judged by may be forgotten by then.
    """
    width_ms = wanted.period * 1000
    watched = -(-since_ms // width_ms)
    # One period before `from_ms`, so that a run which had begun by then does not seem to begin there.
    kept = -(-(from_ms - width_ms) // width_ms)
    seen = matches[0].at_ms // width_ms if matches else 0
    first = max(watched, max(kept, seen) - wanted.periods)
    tallies = _tallies(matches, wanted.period, now_ms=now_ms, value=wanted.value, first=first)
    values = [value for _, value in tallies]
    if max(values, default=0) < wanted.at_least:
        return []
    offending = []
    for place in range(wanted.periods, len(values)):
        before = values[place - wanted.periods : place]
        mean = sum(before) / len(before)
        spread = sqrt(sum((one - mean) ** 2 for one in before) / len(before))
        limit = wanted.threshold if wanted.absolute else wanted.threshold * spread
        if max(values[place], mean) >= wanted.at_least and _beyond(
            values[place] - mean, limit, wanted.direction
        ):
            offending.append(place)
    runs = [run for run in _runs(offending) if tallies[run[0]][0] >= from_ms]
    return [_run_episode(run, tallies, matches, period_s=wanted.period) for run in runs]


def _beyond(difference: float, limit: float, direction: str) -> bool:
    return _either(up=difference > limit, down=-difference > limit, direction=direction)


def _either(*, up: bool, down: bool, direction: str) -> bool:
    return (up and direction in {"up", "both"}) or (down and direction in {"down", "both"})


def _tallies(
    matches: Sequence[Match],
    period_s: int,
    *,
    now_ms: int,
    value: str,
    after_s: int = 0,
    first: int | None = None,
) -> list[tuple[int, float]]:
    """Start and value of each settled period, at most `PERIODS_MAX`.

    They begin with the group's first match, or with the period of number `first`. With `after_s`,
    periods beyond the last match are listed for that long only.
    """
    if not matches:
        return []
    width_ms = period_s * 1000
    last = (now_ms - SETTLED_S * 1000) // width_ms - 1
    if after_s:
        last = min(last, (matches[-1].at_ms + after_s * 1000) // width_ms)
    first = max(matches[0].at_ms // width_ms if first is None else first, last - PERIODS_MAX + 1)
    sums = dict.fromkeys(range(first, last + 1), 0.0)
    for match in matches:
        period = match.at_ms // width_ms
        if period in sums:
            sums[period] += (read_number(match.counted) or 0) if value else 1
    return [(period * width_ms, total) for period, total in sums.items()]


def _runs(places: Sequence[int], *, most: int = PERIODS_MAX) -> list[list[int]]:
    """Neighbouring places together, so many at most."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1 and len(runs[-1]) < most:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _run_episode(
    run: Sequence[int],
    tallies: Sequence[tuple[int, float]],
    matches: Sequence[Match],
    *,
    period_s: int,
    back_s: int = 0,
    before: bool = False,
) -> Episode:
    """The episode of a run of periods: its matches, or the last match before it."""
    start_ms, end_ms = tallies[run[0]][0], tallies[run[-1]][0] + period_s * 1000
    inside = [one for one in matches if start_ms - back_s * 1000 <= one.at_ms < end_ms]
    if before or not inside:
        inside = [one for one in matches if one.at_ms < start_ms][-1:] or inside or list(matches[-1:])
    value = _most_telling([tallies[place][1] for place in run], before=before)
    return Episode(
        inside,
        start_ms + period_s * 1000,
        value,
        values={"period_start": str(start_ms // 1000), "periods": str(len(run))},
        start=f"period {start_ms}",
        from_ms=start_ms,
        until_ms=end_ms,
    )


def _most_telling(values: Sequence[float], *, before: bool) -> float:
    choose: Callable[[Sequence[float]], float] = min if before else max
    return choose(values)
