"""The rules of `obfuscation_data`, made ready to be followed down a record's keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m365watch.config.models.settings import ANY_TEXT, MaskSettings
from m365watch.records.json_scanner import SHALLOW, SPACE

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


def compile_rules(masks: Sequence[MaskSettings]) -> list[Rule]:
    """The rules with their patterns compiled.

    Raises: regex.error: a pattern is no regular expression.
    """
    return [
        Rule(
            path=mask.path,
            value=mask.value,
            written=json.dumps(mask.value),
            patterns=tuple(None if one == ANY_TEXT else _compiled(one) for one in mask.patterns),
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
            left_s = min(VALUE_S_MAX, self._ends_at_s - self.spent_s())
            try:
                if left_s <= 0:
                    raise TimeoutError  # noqa: TRY301 - the same end as the search's own
                found += [match.span() for match in pattern.finditer(text, timeout=left_s) if match[0]]
            except TimeoutError:
                self.overruns += 1
                return [(0, len(text))]
        return found
