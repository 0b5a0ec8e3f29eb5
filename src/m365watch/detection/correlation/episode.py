"""An episode: matches that one alert tells of."""

from __future__ import annotations

from collections.abc import Sequence
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
