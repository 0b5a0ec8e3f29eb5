"""Where in a record's text something is masked, and by what; the text itself is not rebuilt.

The walk goes over the text's own characters, because what is not masked has to stay as it
is written: a decoder would forget doubled keys, spaces, escapes and the spelling of numbers.
It follows rules only, and steps over every value that no rule leads to, however deep it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from m365watch.records.json_scanner import (
    SPACE,
    STRING,
    Span,
    Unreadable,
    after_space,
    after_value,
    character_places,
    decode_string,
    replace_spans,
)
from m365watch.records.masking import PatternTime, Place, Rule

_KEY = re.compile(f"{SPACE}({STRING}){SPACE}:{SPACE}", re.DOTALL)


def find_spans(text: str, place: Place, time: PatternTime) -> list[Span]:
    """What to replace in `text`, one JSON value seen from `place`; in order, apart.

    Raises: Unreadable.
    """
    return _Walk(text, time).take_all(place)


@dataclass(slots=True)
class _Open:
    """An object or array that the walk is in."""

    place: Place
    is_object: bool
    count: int = 0
    """The values that were taken."""


class _Walk:
    """One way through a text; what is open stands in a list, so no depth is too deep."""

    __slots__ = ("_open", "_spans", "_text", "_time")

    def __init__(self, text: str, time: PatternTime) -> None:
        self._text = text
        self._time = time
        self._spans: list[Span] = []
        self._open: list[_Open] = []

    def take_all(self, place: Place) -> list[Span]:
        """The spans of the whole text."""
        at = self._take_value(after_space(self._text, 0), place)
        while self._open:
            at = self._go_on(after_space(self._text, at))
        if after_space(self._text, at) != len(self._text):
            raise Unreadable
        return self._spans

    def _go_on(self, at: int) -> int:
        """Take the end of what is open, or its next value; the place behind."""
        container = self._open[-1]
        if self._text.startswith("}" if container.is_object else "]", at):
            self._open.pop()
            return at + 1
        if container.count:
            if not self._text.startswith(",", at):
                raise Unreadable
            at += 1
        container.count += 1
        if container.is_object:
            return self._take_member(at, container.place)
        return self._take_value(after_space(self._text, at), container.place.below(str(container.count - 1)))

    def _take_member(self, at: int, place: Place) -> int:
        passed = place.free_members.match(self._text, at)
        key = _KEY.match(self._text, at if passed is None else passed.end())
        if key is None:
            raise Unreadable
        return self._take_value(key.end(), place.below(decode_string(key[1])))

    def _take_value(self, at: int, place: Place) -> int:
        text = self._text
        if place.is_free:
            return after_value(text, at)
        if place.whole is not None:
            end = after_value(text, at)
            if not text.startswith("null", at):
                self._spans.append((at, end, place.whole.written))
            return end
        if text.startswith(("{", "["), at):
            self._open.append(_Open(place, is_object=text[at] == "{"))
            return at + 1
        end = after_value(text, at)
        if text[at] == '"':
            self._take_string(at, text[at:end], place)
        elif place.patterned:
            self._take_scalar(at, text[at:end], place)
        return end

    def _take_scalar(self, at: int, written: str, place: Place) -> None:
        """A number, true or false in which a pattern is found becomes text; null stays."""
        found = [] if written == "null" else self._matches(written, place.patterned)
        if found:
            self._spans.append((at, at + len(written), json.dumps(replace_spans(written, found))))

    def _take_string(self, at: int, written: str, place: Place) -> None:
        text = decode_string(written)
        found = self._matches(text, place.patterned)
        if place.onward and text.lstrip()[:1] in ("{", "["):
            found = _apart([*found, *self._inside(text, place)])
        if found:
            places = character_places(written)
            self._spans += [
                (at + places[start], at + places[stop], json.dumps(instead)[1:-1])
                for start, stop, instead in found
            ]

    def _matches(self, text: str, rules: Sequence[Rule]) -> list[Span]:
        return _apart(
            [(start, end, rule.value) for rule in rules for start, end in self._time.find(rule, text)]
        )

    def _inside(self, text: str, place: Place) -> list[Span]:
        """The spans of JSON that is a string's text.

        Text that only begins like JSON (the service cuts long values short) is masked whole
        if the last key of a rule may stand in it.
        """
        try:
            return _Walk(text, self._time).take_all(place.inside_text())
        except Unreadable:
            return [
                (0, len(text), rule.value)
                for rule in place.onward
                if "\\" in text or all(name in text for name in rule.names[-1:])
            ][:1]


def _apart(spans: list[Span]) -> list[Span]:
    """The spans in order; those that overlap become one, with the text of the first."""
    apart: list[Span] = []
    for start, end, instead in sorted(spans, key=lambda span: span[:2]):
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end), apart[-1][2])
        else:
            apart.append((start, end, instead))
    return apart
