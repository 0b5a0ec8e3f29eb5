"""Pieces of LINQ, each quoted so that no value of a rule can be read as anything but a value.

Source: Devo's LINQ reference: functions and operators, regular expressions in `re()`; in a text between
double quotes, quotation marks and backslashes are escaped by a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.rules.condition import Wildcard

QUERY_LENGTH_MAX = 60_000
"""Characters of a query; a list of thousands of words belongs into one of Devo's look-up tables."""

JSON_TEXT = r'"[^"\\]*(?:\\.[^"\\]*)*"'
"""A text of JSON, unrolled: a choice inside a star runs out of stack on long texts in some engines."""
_IN_JSON = r'[^"\\]*(?:\\.[^"\\]*)*?'
_ONE_IN_JSON = r'(?:[^"\\]|\\.)'
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")

Parts = Sequence[str | Wildcard]


def quoted(text: str) -> str:
    """The text as a LINQ string. Raises: Unsayable: there is no escape for control characters."""
    if any(ord(one) < 0x20 or ord(one) in (0x7F, 0x85, 0x2028, 0x2029) for one in text):
        raise Unsayable("a text with control characters cannot stand in a query")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def pattern(expression: str) -> str:
    """A regular expression; control characters become escapes of its own."""
    plain = "".join(
        one if one.isprintable() or ord(one) > 0xFF else f"\\x{ord(one):02x}" for one in expression
    )
    return f"re({quoted(plain)})"


def matches(text: str, expression: str) -> str:
    """Whether the expression is found in the text."""
    return f"matches({text}, {pattern(expression)})"


def peek(text: str, expression: str, group: int = 1) -> str:
    """The part of the text that a group of the expression finds; null where it finds nothing."""
    return f"peek({text}, {pattern(expression)}, {group})"


def first_of(*values: str) -> str:
    """The first of the values that is not null."""
    found = values[-1]
    for value in reversed(values[:-1]):
        found = f"nvl({value}, {found})"
    return found


def never_null(text: str) -> str:
    """The text; empty in place of null, so that a condition on it is true or false and never neither."""
    return f'nvl({text}, "")'


def all_of(parts: Iterable[str]) -> str:
    """All parts hold."""
    found = list(parts)
    return found[0] if len(found) == 1 else f"({' and '.join(found)})"


def any_of(parts: Iterable[str]) -> str:
    """At least one part holds."""
    found = list(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else f"({' or '.join(found)})"


def negated(part: str) -> str:
    """The part does not hold; it is never null."""
    return f"not ({part})"


def one_of(text: str, values: Iterable[str]) -> str:
    """The text is one of the values."""
    found = sorted(values)
    if len(found) == 1:
        return f"{text} = {quoted(found[0])}"
    return f"{text} in {{{', '.join(map(quoted, found))}}}"


def escaped(text: str) -> str:
    """The text as a regular expression that finds it and nothing else."""
    return _SPECIAL.sub(lambda one: f"\\{one[0]}", text)


def like_pattern(parts: Parts) -> str:
    """Parts of a text and wildcards as a regular expression, without its ends."""
    wild = {Wildcard.MANY: ".*", Wildcard.ONE: "."}
    return "".join(wild[part] if isinstance(part, Wildcard) else escaped(part) for part in parts)


def json_pattern(parts: Parts) -> str:
    """The same, as it stands between the quotation marks of a JSON text."""
    wild = {Wildcard.MANY: _IN_JSON, Wildcard.ONE: _ONE_IN_JSON}
    return "".join(wild[part] if isinstance(part, Wildcard) else _json_escaped(part) for part in parts)


def _json_escaped(text: str) -> str:
    return "".join(_json_character(one) for one in text)


def _json_character(one: str) -> str:
    """A character as JSON may write it: as it is, or by its number."""
    if one == "/":
        return r"\\?/"
    if one in '"\\':
        return r"\\" + escaped(one)
    if one.isascii() and one.isprintable():
        return escaped(one)
    units = one.encode("utf-16-be")
    numbers = "".join(rf"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
    return f"(?:{one}|{numbers})" if one.isprintable() else numbers


def merge_patterns(patterns: Sequence[str]) -> list[str]:
    """The patterns, those with the same flags in front as alternatives of one."""
    by_flags: dict[str, list[str]] = {}
    for one in dict.fromkeys(patterns):
        flags = re.match(r"\(\?[ims]+\)", one)
        by_flags.setdefault(flags[0] if flags else "", []).append(one[flags.end() :] if flags else one)
    return [
        flags + (bare[0] if len(bare) == 1 else "|".join(f"(?:{one})" for one in bare))
        for flags, bare in by_flags.items()
    ]
