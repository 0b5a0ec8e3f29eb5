"""What another product's language has no words for."""

from __future__ import annotations


class Unsayable(ValueError):
    """A part of a rule that cannot be said there; its text is the reason, for whoever asks why."""
