"""Kind each: matches of a group within the quiet span belong together."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.episode import Episode

EPISODE_S_MAX = 7 * 86_400
"""The longest episode; what goes on for longer is told as another one, so that old matches can be let go."""


def chain_episodes(matches: Sequence[Match], *, quiet_s: int) -> list[Episode]:
    """Maximal chains in which each match follows the last within `quiet_s`; `matches` in their order."""
    chains: list[list[Match]] = []
    for match in matches:
        if chains and _belongs(match, chains[-1], quiet_s):
            chains[-1].append(match)
        else:
            chains.append([match])
    return [Episode(chain, chain[0].at_ms, len(chain)) for chain in chains]


def _belongs(match: Match, chain: Sequence[Match], quiet_s: int) -> bool:
    return (
        match.at_ms - chain[-1].at_ms <= quiet_s * 1000
        and match.at_ms - chain[0].at_ms <= EPISODE_S_MAX * 1000
    )
