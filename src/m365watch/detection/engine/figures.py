"""What detection has done."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Figures:
    """What an engine has done since it was made, or what it goes on from."""

    records: int = 0
    decoded: int = 0
    matches: int = 0
    too_old: int = 0
    alerts_new: int = 0
    alerts_updated: int = 0
    alerts_withdrawn: int = 0
    hours_full: int = 0
    groups_looked_at: int = 0
    """Groups judged again because time has passed."""

    def add(self, other: Figures) -> None:
        """Another engine on the same file has done this besides."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
