"""What another product's language has no words for."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.detection.rules.rule import Rule


class Unsayable(ValueError):
    """A part of a rule that cannot be said there; its text is the reason, for whoever asks why."""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """A rule that cannot be had there."""

    rule: Rule
    reason: str
