"""A filter's text becomes terms, or is refused at the place where it goes wrong.

    filter  = some
    some    = every { "OR" every }
    every   = one { [ "AND" ] one }
    one     = ( "-" | "NOT" ) one | "(" some ")" | field ( ":" | "~" ) values | words
    values  = value { "," value } | "(" value { [ "," | "OR" ] value } ")"

Every text is read in one go, without recursion deeper than `DEPTH_MAX`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from m365watch.common.errors import FilterRefused
from m365watch.lake.search.filter_fields import FIELDS, Field, field_named, nearest_name


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


LENGTH_MAX = 2_000
TERMS_MAX = 100
DEPTH_MAX = 20
_BLANK = re.compile(r"\s*")
_FIELD = re.compile(r"([A-Za-z_][\w.$-]*)([:~])", re.ASCII)
_WORD = re.compile(r"[^\s()\"]+")
_VALUE = re.compile(r"[^\s()\",]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_OPERATORS = frozenset({"and", "or", "not"})


def read_filter(text: str) -> Term | None:
    """What the filter says; None where it says nothing, so that every record is meant.

    Raises: FilterRefused, with the place.
    """
    if len(text) > LENGTH_MAX:
        raise _refused(f"a filter has at most {LENGTH_MAX:,} characters", LENGTH_MAX, "make it shorter")
    reader = _Reader(text)
    if reader.is_at_end:
        return None
    term = reader.some(depth=0)
    if not reader.is_at_end:
        raise _refused("there is a ) too many", reader.place, "take it out, or put it in quotation marks")
    return term


@dataclass(slots=True)
class _Reader:
    """How far the text has been read."""

    text: str
    place: int = 0
    terms: int = 0

    @property
    def is_at_end(self) -> bool:
        self._skip()
        return self.place >= len(self.text)

    def some(self, *, depth: int) -> Term:
        """Alternatives, or the only one."""
        if depth > DEPTH_MAX:
            raise _refused(f"brackets are at most {DEPTH_MAX} deep", self.place, "take some out")
        found = [self._every(depth)]
        while self._takes("or"):
            found.append(self._every(depth))
        return found[0] if len(found) == 1 else Some(tuple(found))

    def _every(self, depth: int) -> Term:
        found = [self._one(depth)]
        while not (self.is_at_end or self._sees(")") or self._next_operator() == "or"):
            self._takes("and")
            found.append(self._one(depth))
        return found[0] if len(found) == 1 else Every(tuple(found))

    def _one(self, depth: int) -> Term:
        is_negated = False
        while not self.is_at_end and (self._negates() or self._takes("not")):
            is_negated = not is_negated
        term = self._plain(depth)
        return Not(term) if is_negated else term

    def _negates(self) -> bool:
        """Whether a minus stands directly before what it negates."""
        if self._sees("-") and self.text[self.place + 1 : self.place + 2].strip():
            self.place += 1
            return True
        return False

    def _plain(self, depth: int) -> Term:
        self.terms += 1
        if self.terms > TERMS_MAX:
            raise _refused(f"a filter has at most {TERMS_MAX} terms", self.place, "ask in several steps")
        if self.is_at_end:
            raise _refused("something is missing at the end", self.place, "say what is looked for")
        if self._next_operator():
            raise _refused(
                f"something is missing before {self._next_operator().upper()}",
                self.place,
                "say what is looked for; a word that is looked for itself stands in quotation marks",
            )
        if self._sees("("):
            return self._bracket(depth)
        if self._sees(")"):
            raise _refused("something is missing before )", self.place, "say what is looked for")
        if found := _FIELD.match(self.text, self.place):
            return self._match(found)
        return Holds(self._wanted(_WORD))

    def _bracket(self, depth: int) -> Term:
        opened = self.place
        self.place += 1
        term = self.some(depth=depth + 1)
        self._close(opened)
        return term

    def _close(self, opened: int) -> None:
        self._skip()
        if not self._sees(")"):
            raise _refused("this ( is not closed", opened, "add a )")
        self.place += 1

    def _match(self, found: re.Match[str]) -> Term:
        name, sign = found.groups()
        field = field_named(name)
        if field is None:
            raise _refused(f"there is no field {name}", found.start(), _fields_advice(name))
        self.place = found.end()
        values = self._values(name)
        return Match(field, values, within=sign == "~")

    def _values(self, name: str) -> tuple[Wanted, ...]:
        if self._sees("("):
            return self._bracketed_values(name)
        found = [self._value(name)]
        while self._sees(","):
            self.place += 1
            found.append(self._value(name))
        return tuple(found)

    def _bracketed_values(self, name: str) -> tuple[Wanted, ...]:
        opened = self.place
        self.place += 1
        self._skip()
        found = [self._value(name)]
        while not (self.is_at_end or self._sees(")")):
            if self._sees(","):
                self.place += 1
            else:
                self._takes("or")
            self._skip()
            found.append(self._value(name))
        self._close(opened)
        return tuple(found)

    def _value(self, name: str) -> Wanted:
        self.terms += 1
        if self.terms > TERMS_MAX:
            raise _refused(f"a filter has at most {TERMS_MAX} terms", self.place, "ask in several steps")
        if not (self._sees('"') or _VALUE.match(self.text, self.place)):
            raise _refused(f"the value of {name} is missing", self.place, f"write {name}:VALUE, or {name}:*")
        return self._wanted(_VALUE)

    def _wanted(self, plain: re.Pattern[str]) -> Wanted:
        begun = self.place
        if self._sees('"'):
            quoted = _QUOTED.match(self.text, begun)
            if quoted is None:
                raise _refused("this quotation mark is not closed", begun, 'add a "')
            self.place = quoted.end()
            text = _ESCAPED.sub(r"\1", quoted[1])
            if not text:
                raise _refused("there is nothing between the quotation marks", begun, "take them out")
            return Wanted(text, begun, is_quoted=True)
        found = plain.match(self.text, begun)
        assert found is not None  # noqa: S101 - whoever calls has seen that something stands here
        self.place = found.end()
        return Wanted(found[0], begun)

    def _next_operator(self) -> str:
        """AND, OR or NOT in lower case, where one comes next."""
        self._skip()
        found = _WORD.match(self.text, self.place)
        return found[0].lower() if found and found[0].lower() in _OPERATORS else ""

    def _takes(self, operator: str) -> bool:
        if self._next_operator() != operator:
            return False
        self.place += len(operator)
        return True

    def _sees(self, character: str) -> bool:
        return self.text.startswith(character, self.place)

    def _skip(self) -> None:
        blank = _BLANK.match(self.text, self.place)
        self.place = blank.end() if blank else self.place


def _fields_advice(name: str) -> str:
    if nearest := nearest_name(name):
        return f"did you mean {nearest}? A text with a colon stands in quotation marks"
    names = ", ".join(one.name for one in FIELDS)
    return f"fields are {names}, and raw.NAME; a text with a colon stands in quotation marks"


def _refused(what: str, at: int, fix: str) -> FilterRefused:
    return FilterRefused(what, at=at, fix=fix)
