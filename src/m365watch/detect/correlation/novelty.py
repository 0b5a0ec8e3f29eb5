"""Kind first_seen: a key that was not there in the period before."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.detect.alert import Match
from m365watch.detect.correlation.episode import Episode
from m365watch.detect.extension import FirstSeen

DAY_MS = 86_400_000


def novel_episodes(matches: Sequence[Match], wanted: FirstSeen, *, since_ms: int) -> list[Episode]:
    """An episode for each sighting of the key that none preceded within `period`; `matches` in their order.

    `since_ms` is the earliest time that the tenant was watched at: what comes within `learn` of it is
    learned and not told. The first and the last sighting of each day are enough, which is all that is kept.
    """
    episodes: list[Episode] = []
    last_ms: int | None = None
    for match in matches:
        is_new = last_ms is None or match.at_ms - last_ms > wanted.period * 1000
        if is_new and match.at_ms >= since_ms + wanted.learn * 1000:
            episodes.append(Episode([match], match.at_ms, 1))
        last_ms = match.at_ms
    return episodes


def thin_out(matches: Sequence[Match]) -> list[Match]:
    """The first and the last of each day; `matches` of one key, in their order."""
    kept: list[Match] = []
    for match in matches:
        day = match.at_ms // DAY_MS
        if len(kept) > 1 and kept[-1].at_ms // DAY_MS == day == kept[-2].at_ms // DAY_MS:
            kept[-1] = match
        else:
            kept.append(match)
    return kept
