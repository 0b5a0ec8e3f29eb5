"""Kinds that look at whole periods: low, rolling, gradient, deviation.

Periods are cut at fixed times since 1970, so that it does not matter when the collector was started. A
period is looked at once it has been over for `SETTLED_S`, for the feed publishes late; a record that comes
later still changes what was said of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import sqrt

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.correlation.sliding_window import LONGEST
from m365watch.detection.rules.extension import Change, Deviation, FirstSeen, Low, Rolling

DAY_MS = 86_400_000


def novel_episodes(matches: Sequence[Match], wanted: FirstSeen, *, since_ms: int) -> list[Episode]:
    """An episode for each first sighting of a key in a day, none of the days of `period` before having one.

    `matches` of one key, in their order. `since_ms` is the earliest time that the tenant was watched at: what
    comes within `learn` of it is learned and not told. Days are those of UTC, and shorter stretches where the
    period is shorter; so the first sighting of each day is all that has to be kept.
    """
    bucket_ms = bucket_of(wanted)
    wide = -(-wanted.period * 1000 // bucket_ms)
    episodes: list[Episode] = []
    last: int | None = None
    for match in matches:
        bucket = match.at_ms // bucket_ms
        if bucket == last:
            continue
        is_new = last is None or bucket - last > wide
        if is_new and match.at_ms >= since_ms + wanted.learn * 1000:
            episodes.append(Episode([match], match.at_ms, 1))
        last = bucket
    return episodes


def bucket_of(wanted: FirstSeen) -> int:
    """The stretch of time, in milliseconds, of which one sighting is kept."""
    return min(DAY_MS, wanted.period * 1000)


SETTLED_S = 2 * 3_600
"""How long after its end a period is looked at: most of the feed has come by then."""
PERIODS_MAX = 2_000
"""Periods of one group of which each is looked at, the latest ones."""
RUN_S_MAX = 28 * 86_400
"""A run may be as long at least; what goes on for longer is another, so that old matches can be let go."""


def low_episodes(matches: Sequence[Match], wanted: Low, *, now_ms: int) -> list[Episode]:
    """Runs of periods with at most `threshold` matches, after one within `learn` that had more.

    The evidence is the last that was seen before.
    """
    sums = _sums(matches, wanted.period, now_ms=now_ms)
    alive = [period for period, count in sums.items() if count > wanted.threshold]
    after = [*alive[1:], _last_settled(wanted.period, now_ms) + 1]
    runs = [
        range(one + 1, min(following, one + wanted.learn // wanted.period + 1))
        for one, following in zip(alive, after, strict=False)
    ]
    return [
        _run_episode(run, min(_every(run, sums)), matches, period_s=wanted.period, before=True)
        for run in runs
        if run
    ]


def rolling_episodes(matches: Sequence[Match], wanted: Rolling, *, now_ms: int) -> list[Episode]:
    """Runs of periods at whose end the `back_period` held `threshold` matches or more."""
    times = [match.at_ms for match in matches]
    seen = sorted({at_ms // (wanted.period * 1000) for at_ms in times})
    most = max(RUN_S_MAX, LONGEST * wanted.back_period) // wanted.period or 1
    found = []
    for run in _full_runs(times, wanted, last=_last_settled(wanted.period, now_ms)):
        for part in (run[at : at + most] for at in range(0, len(run), most)):
            # There can be more than before only where something came.
            rising = [part.start, *seen[bisect_left(seen, part.start) : bisect_left(seen, part.stop)]]
            value = float(max(_count_back(times, wanted, period) for period in rising))
            back_s = wanted.back_period
            found.append(_run_episode(part, value, matches, period_s=wanted.period, back_s=back_s))
    return found


def _full_runs(times: Sequence[int], wanted: Rolling, *, last: int) -> list[range]:
    """Of periods up to the `last`: all at whose end any `threshold` neighbours among the times are in."""
    width_ms, back_ms = wanted.period * 1000, wanted.back_period * 1000
    runs: list[range] = []
    for first_ms, last_ms in zip(times, times[wanted.threshold - 1 :], strict=False):
        full = range(last_ms // width_ms, min((first_ms + back_ms) // width_ms, last + 1))
        if full and runs and full.start <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(runs[-1].stop, full.stop))
        elif full:
            runs.append(full)
    return runs


def _count_back(times: Sequence[int], wanted: Rolling, period: int) -> int:
    end_ms = (period + 1) * wanted.period * 1000
    return bisect_left(times, end_ms) - bisect_left(times, end_ms - wanted.back_period * 1000)


def gradient_episodes(matches: Sequence[Match], wanted: Change, *, now_ms: int) -> list[Episode]:
    """Runs of periods that differ from the one before by more than `threshold`."""
    sums = _sums(matches, wanted.period, now_ms=now_ms, value=wanted.value)
    last = _last_settled(wanted.period, now_ms)
    around = sorted({*sums, *(one + 1 for one in sums if one < last)})
    offending = []
    for period in around[1:]:
        before, after = sums.get(period - 1, 0.0), sums.get(period, 0.0)
        if max(before, after) >= wanted.at_least and _changed(before, after, wanted):
            offending.append(period)
    return [
        _run_episode(run, max(_every(run, sums)), matches, period_s=wanted.period) for run in _runs(offending)
    ]


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
    last = _last_settled(wanted.period, now_ms)
    first = max(watched, max(kept, seen) - wanted.periods, last - PERIODS_MAX + 1)
    sums = _sums(matches, wanted.period, now_ms=now_ms, value=wanted.value)
    values = [sums.get(period, 0.0) for period in range(first, last + 1)]
    if not matches or max(values, default=0) < wanted.at_least:
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
            offending.append(first + place)
    return [
        _run_episode(run, max(_every(run, sums)), matches, period_s=wanted.period)
        for run in _runs(offending)
        if run.start * width_ms >= from_ms
    ]


def _beyond(difference: float, limit: float, direction: str) -> bool:
    return _either(up=difference > limit, down=-difference > limit, direction=direction)


def _either(*, up: bool, down: bool, direction: str) -> bool:
    return (up and direction in {"up", "both"}) or (down and direction in {"down", "both"})


def _last_settled(period_s: int, now_ms: int) -> int:
    return (now_ms - SETTLED_S * 1000) // (period_s * 1000) - 1


def _sums(matches: Sequence[Match], period_s: int, *, now_ms: int, value: str = "") -> dict[int, float]:
    """The value of each settled period that has matches, by its number, in their order."""
    last = _last_settled(period_s, now_ms)
    sums: dict[int, float] = {}
    for match in matches:
        period = match.at_ms // (period_s * 1000)
        if period <= last:
            sums[period] = sums.get(period, 0.0) + ((read_number(match.counted) or 0) if value else 1)
    return sums


def _every(run: range, sums: Mapping[int, float]) -> list[float]:
    """The different values that the periods of a run have."""
    found = (
        [sums[period] for period in run if period in sums]
        if len(run) < len(sums)
        else [value for period, value in sums.items() if period in run]
    )
    return found if len(found) == len(run) else [*found, 0.0]


def _runs(numbers: Sequence[int]) -> list[range]:
    """Neighbouring numbers together."""
    runs: list[range] = []
    for number in numbers:
        if runs and number == runs[-1].stop:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


def _run_episode(
    run: range,
    value: float,
    matches: Sequence[Match],
    *,
    period_s: int,
    back_s: int = 0,
    before: bool = False,
) -> Episode:
    """The episode of a run of periods: its matches, or the last match before it."""
    start_ms, end_ms = run.start * period_s * 1000, run.stop * period_s * 1000
    low, start, end = (
        bisect_left(matches, at_ms, key=lambda one: one.at_ms)
        for at_ms in (start_ms - back_s * 1000, start_ms, end_ms)
    )
    inside = matches[low:end]
    if before or not inside:
        inside = matches[max(start - 1, 0) : start] or inside or matches[-1:]
    return Episode(
        list(inside),
        start_ms + period_s * 1000,
        value,
        values={"period_start": str(start_ms // 1000), "periods": str(len(run))},
        start=f"period {start_ms}",
        from_ms=start_ms,
        until_ms=end_ms,
    )
