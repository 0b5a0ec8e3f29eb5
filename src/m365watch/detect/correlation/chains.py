"""Kind each: matches of a group within the quiet span belong together."""

from __future__ import annotations

from collections.abc import Sequence

from m365watch.detect.alert import Match
from m365watch.detect.correlation.episode import Episode


def chain_episodes(matches: Sequence[Match], *, quiet_s: int) -> list[Episode]:
    """Maximal chains in which each match follows the last within `quiet_s`; `matches` in their order."""
    chains: list[list[Match]] = []
    for match in matches:
        if chains and match.at_ms - chains[-1][-1].at_ms <= quiet_s * 1000:
            chains[-1].append(match)
        else:
            chains.append([match])
    return [Episode(chain, chain[0].at_ms, len(chain)) for chain in chains]
