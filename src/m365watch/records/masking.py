"""The rules of `obfuscation_data`, made ready to be followed down a record's keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m365watch.common.model import Header
from m365watch.config.defaults import ANY_TEXT
from m365watch.config.models.inputs import MaskSection
from m365watch.records.headers import header_of_object, read_headers
from m365watch.records.json_scanner import (
    SHALLOW,
    SPACE,
    STRING,
    TOLERANT,
    Span,
    Unreadable,
    after_space,
    after_value,
    character_places,
    decode_string,
    replace_spans,
)
from m365watch.records.split import Fragment, SplitBlob

if TYPE_CHECKING:
    import regex


WILDCARD = "*"
"""The part of a path that stands for every key of an object and every place of an array."""
VALUE_S_MAX = 0.05
"""How long one pattern may take over one value."""
_BLOB_S, _RECORD_S = 0.5, 0.001
_NUMBER = re.compile("[0-9]+")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule: where it applies, and what stands in place of what it finds there."""

    path: tuple[str, ...]
    value: str
    written: str
    """`value` as a JSON string."""
    patterns: tuple[regex.Pattern[str] | None, ...]
    """Empty: the whole value is replaced. None in it stands for `ANY_TEXT`."""

    @property
    def names(self) -> list[str]:
        """The keys of the path; no wildcard, and no number, which may be a place of an array."""
        return [part for part in self.path if part != WILDCARD and not _NUMBER.fullmatch(part)]


def compile_rules(masks: Sequence[MaskSection]) -> list[Rule]:
    """The rules with their patterns compiled.

    Raises: regex.error: a pattern is no regular expression.
    """
    return [
        Rule(
            path=mask.name,
            value=mask.value,
            written=json.dumps(mask.value),
            patterns=tuple(None if one == ANY_TEXT else _compiled(one) for one in mask.string_patterns),
        )
        for mask in masks
    ]


def _compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern, made ready; what does that is loaded only where there is one."""
    import regex

    return regex.compile(pattern)


class Place:
    """What the rules say of one place in a record: how far along its path each one is there.

    The places below are worked out once and remembered. There are as many as there are keys
    in paths: every other key leads to the place that only wildcards lead to.
    """

    __slots__ = ("_below", "_free_members", "_names", "_standing", "onward", "patterned", "whole")

    def __init__(self, standing: Sequence[tuple[Rule, int]]) -> None:
        """`standing` has the rules that lead here, each with how many parts of its path are passed."""
        self._standing = tuple(standing)
        ended = [rule for rule, passed in standing if passed == len(rule.path)]
        self.whole = next((rule for rule in ended if not rule.patterns), None)
        """The rule that replaces the value here, the first of several."""
        self.patterned = tuple(rule for rule in ended if rule.patterns)
        """The rules whose patterns are looked for in all text here and below."""
        self.onward = tuple(rule for rule, passed in standing if passed < len(rule.path))
        """The rules whose paths go on below."""
        self._names = frozenset(rule.path[passed] for rule, passed in standing if passed < len(rule.path))
        self._below: dict[str, Place] = {}
        self._free_members: re.Pattern[str] | None = None

    @property
    def is_free(self) -> bool:
        """Whether no rule has anything to say here or below."""
        return not self._standing

    @property
    def free_members(self) -> re.Pattern[str]:
        """What matches, in an object here, the next members that no rule leads to, with their commas.

        Only those that are plain to see: a key without escapes, a value that is not deep.
        """
        if self._free_members is None:
            self._free_members = re.compile(
                rf'(?:{SPACE}"(?!(?:{"|".join(map(re.escape, self._names))})")[^"\\]*+"{SPACE}:{SPACE}'
                rf"{SHALLOW}{SPACE},)*+"
                if self.below(WILDCARD).is_free
                else "",
                re.DOTALL,
            )
        return self._free_members

    def below(self, name: str) -> Place:
        """The place of the value under the key `name`, or at that place of an array ("0", "1", ...)."""
        known = name if name in self._names else WILDCARD
        place = self._below.get(known)
        if place is None:
            place = self._below[known] = Place(
                [
                    (rule, min(passed + 1, len(rule.path)))
                    for rule, passed in self._standing
                    if passed == len(rule.path) or rule.path[passed] in (WILDCARD, known)
                ]
            )
        return place

    def inside_text(self) -> Place:
        """The place of JSON that stands as text in the string here: only the paths that go on count."""
        return Place([(rule, passed) for rule, passed in self._standing if passed < len(rule.path)])


@dataclass(slots=True)
class PatternTime:
    """The time that patterns may take in one blob: what is not searched in time is masked whole.

    A pattern can take exponential time over text that somebody wrote on purpose; the
    collector must neither wait for it nor let the text pass. What counts is work, as it does in the
    search's own bound: a collector that the machine did not let on must mask no more than that.
    """

    spent_s: Callable[[], float]
    records: int
    overruns: int = 0
    """Values that were masked whole because time was up."""
    _ends_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Half a second, and a millisecond more for each record."""
        self._ends_at_s = self.spent_s() + _BLOB_S + _RECORD_S * self.records

    def find(self, rule: Rule, text: str) -> list[tuple[int, int]]:
        """The spans of `text` that the rule's patterns match, none of them empty."""
        found: list[tuple[int, int]] = []
        for pattern in rule.patterns:
            if pattern is None:
                found += [(0, len(text))] if text else []
                continue
            spans = self._search(pattern, text)
            if spans is None:
                self.overruns += 1
                return [(0, len(text))]
            found += spans
        return found

    def _search(self, pattern: regex.Pattern[str], text: str) -> list[tuple[int, int]] | None:
        """The spans of one pattern; None where time was up.

        The search's own bound counts what all threads of the process did meanwhile: one that was ended for
        their work begins again.
        """
        began_s = self.spent_s()
        ends_at_s = min(began_s + VALUE_S_MAX, self._ends_at_s)
        while (left_s := ends_at_s - self.spent_s()) > 0:
            try:
                return [match.span() for match in pattern.finditer(text, timeout=left_s) if match[0]]
            except TimeoutError:
                continue
        return None


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


_NOT_MASKABLE = "it cannot be read in full, so it cannot be masked"
_SPECIAL = frozenset('"\\/').union(map(chr, range(32)))
"""Characters that JSON can write as an escape without \\u."""


class Masker:
    """Masks the records of one feed.

    A rule changes the values that its path leads to, in each place where they stand, however
    their keys are written; every other byte stays. A record that no rule's keys stand in is
    not looked at any closer.
    """

    def __init__(self, masks: Sequence[MaskSection], *, spent_s: Callable[[], float]) -> None:
        """`spent_s` says how much work this thread has done: that bounds what patterns may take.

        Raises: regex.error: a pattern is no regular expression.
        """
        rules = compile_rules(masks)
        self._spent_s = spent_s
        self._top = Place([(rule, 0) for rule in rules])
        self._signs = _signs_of(rules)

    def mask(self, split: SplitBlob, *, wide: bool) -> SplitBlob:
        """The blob as outputs may see it; `split` itself if nothing in it is masked.

        Headers are those of the masked records; `served_headers` keeps those that identities
        are made of, so that what is known stays known when rules change. A record that can
        not be read is a fragment: quarantine keeps it as served, in the ledger's own
        directory, and no output gets it.
        """
        time = PatternTime(self._spent_s, len(split.records))
        masked: dict[int, bytes] = {}
        fragments = dict[int, Fragment]()
        for number in self._within_reach(split.records):
            record = split.records[number]
            try:
                changed = self._mask_record(record, time)
            except Unreadable:
                fragments[number] = Fragment(record, _NOT_MASKABLE)
                continue
            if changed is not None:
                masked[number] = changed
        if not masked and not fragments:
            return split
        headers = _headers_of(masked, wide=wide)
        for number in masked.keys() - headers.keys():
            fragments[number] = Fragment(split.records[number], _NOT_MASKABLE)
        kept = [number for number in range(len(split.records)) if number not in fragments]
        return SplitBlob(
            records=[masked.get(number) or split.records[number] for number in kept],
            headers=[headers.get(number) or split.headers[number] for number in kept],
            fragments=[*split.fragments, *fragments.values()],
            complete=split.complete,
            served_headers=[split.headers[number] for number in kept],
            overruns=time.overruns,
        )

    def _within_reach(self, records: list[bytes]) -> list[int]:
        """The numbers of the records that may have a place that a rule leads to."""
        reached = set[int]()
        for sign in self._signs:
            reached.update([number for number, record in enumerate(records) if sign in record])
        return sorted(reached)

    def _mask_record(self, record: bytes, time: PatternTime) -> bytes | None:
        """The masked record; None if it has nothing to mask."""
        # Bytes that are no UTF-8 travel through as lone surrogates and back.
        text = record.decode("utf-8", "surrogateescape")
        spans = find_spans(text, self._top, time)
        return replace_spans(text, spans).encode("utf-8", "surrogateescape") if spans else None


def _headers_of(records: dict[int, bytes], *, wide: bool) -> dict[int, Header]:
    """The header of each record that can be read, by its number."""
    bodies = list(records.values())
    headers = read_headers(b"[" + b",".join(bodies) + b"]", bodies, wide=wide)
    if headers is not None:
        return dict(zip(records, headers, strict=True))
    found: dict[int, Header] = {}
    for number, record in records.items():
        try:
            value = TOLERANT.decode(record.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found[number] = header_of_object(value, wide=wide)
    return found


def _signs_of(rules: Sequence[Rule]) -> frozenset[bytes]:
    """Bytes of which one at least stands in every record that a rule leads into.

    A rule's longest key is one, and an escape that may hide keys another: however a key is
    escaped, twice over in JSON that stands in a string, too, a backslash and "u00" stand
    there for a character of ASCII, but for the few that have an escape of their own.
    """
    names = [name for rule in rules for name in rule.names]
    signs = {max(rule.names, key=len, default="").encode("utf-8", "surrogatepass") for rule in rules}
    characters = "".join(names)
    if _SPECIAL.intersection(characters):
        return frozenset({*signs, b"\\"})
    return frozenset({*signs, b"\\u00" if characters.isascii() else b"\\u"})
