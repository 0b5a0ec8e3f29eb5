"""What a filter says, as values."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.lake.search.filter_fields import Field


@dataclass(frozen=True, slots=True)
class Wanted:
    """One value as it was typed, and where."""

    text: str
    at: int
    """The character of the filter with which it begins, counted from 0."""
    is_quoted: bool = False
    """Whether it stood in quotation marks: then no character in it means anything but itself."""

    @property
    def has_wildcard(self) -> bool:
        """Whether `*` in it stands for anything."""
        return not self.is_quoted and "*" in self.text


@dataclass(frozen=True, slots=True)
class Match:
    """A field has one of some values."""

    field: Field
    values: tuple[Wanted, ...]
    within: bool = False
    """Whether it is enough that a value stands somewhere in the field."""


@dataclass(frozen=True, slots=True)
class Holds:
    """The record's own text has some words somewhere."""

    words: Wanted


@dataclass(frozen=True, slots=True)
class About:
    """The record is about something of which `mentions` knows by what it is told."""

    name: str
    value: Wanted


@dataclass(frozen=True, slots=True)
class Every:
    """All of these."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of these at least."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """What that is not true of."""

    term: Term


Term = Match | Holds | About | Every | Some | Not
