"""What shapes of every kind are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Empty:
    """Why there is nothing to show, and what to do about it."""

    why: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """A link in words: to an entity, a filter, a page."""

    text: str
    url: str
    kind: str = ""
    """What it is, in a word that stands before it: user, address."""
