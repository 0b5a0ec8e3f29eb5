"""An episode: matches that one alert tells of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import Match


@dataclass(frozen=True, slots=True)
class Episode:
    """Matches of one group that belong together, in their order."""

    matches: Sequence[Match]
    reached_ms: int
    """When the condition was first fulfilled."""
    value: float = 0
    """The largest count, sum and so on of a window; for two periods, the later one's."""
    notes: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    """What else an explanation can name."""
    from_ms: int = 0
    """Its beginning, where that is not its first match: a silence begins after the last one."""
    until_ms: int = 0
    """Its end, where that is later than its last match: a silence has no matches."""
    start: str = ""
    """What the alert's id is made of, where that is not its first match: a period's start."""
    held_ms: Sequence[int] = ()
    """When the condition held, in order; nothing where that is `reached_ms` alone."""


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


def are_trusted(matches: Iterable[Match], field: str) -> bool:
    """Whether the field, of A|B the first that there is, is true of every match; never where it is empty."""
    names = field.split("|")
    return field != "" and all(_first_of(match, names).lower() == "true" for match in matches)


def _first_of(match: Match, names: Iterable[str]) -> str:
    return next(filter(None, map(match.values.get, names)), "")
