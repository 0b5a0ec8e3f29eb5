"""Kind first_seen: a key that was not there in the period before."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.rules.extension import FirstSeen

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
