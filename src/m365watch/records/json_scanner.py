"""JSON as it is written: where its values end, and which characters a string is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

Span = tuple[int, int, str]
"""From, to (exclusive), and what stands there instead."""

SPACE = r"[ \t\r\n]*+"
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
SCALAR = r"(?:-?[0-9][0-9.eE+-]*+|true|false|null|NaN|-?Infinity)"
_INNER = rf'[^"\[\]{{}}]++|{STRING}'
_INNERMOST = rf"\[(?:{_INNER})*+\]|\{{(?:{_INNER})*+\}}"
SHALLOW = rf"(?:{STRING}|{SCALAR}|\[(?:{_INNER}|{_INNERMOST})*+\]|\{{(?:{_INNER}|{_INNERMOST})*+\}})"
"""A value of which nothing lies deeper than two brackets."""
_SPACES = re.compile(SPACE)
_FLAT = re.compile(f"{STRING}|{SCALAR}", re.DOTALL)
_TO_BRACKET = re.compile(rf"(?:{_INNER})*+[\[\]{{}}]", re.DOTALL)
_CHARACTERS = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]++", re.DOTALL
)
TOLERANT = json.JSONDecoder(strict=False)
"""It takes a control character in a text, as the service may send one."""


class Unreadable(Exception):
    """The text is no JSON, so nobody can say where its values are."""


def after_space(text: str, at: int) -> int:
    """The place of the next character that is no space."""
    space = _SPACES.match(text, at)
    return at if space is None else space.end()


def after_value(text: str, at: int) -> int:
    """The place behind the value at `at`, however deep it is.

    Raises: Unreadable.
    """
    if text.startswith(("{", "["), at):
        return _after_container(text, at)
    value = _FLAT.match(text, at)
    if value is None:
        raise Unreadable
    return value.end()


def _after_container(text: str, at: int) -> int:
    depth = 0
    while passed := _TO_BRACKET.match(text, at):
        at = passed.end()
        depth += 1 if text[at - 1] in "{[" else -1
        if not depth:
            return at
    raise Unreadable


def decode_string(written: str) -> str:
    """The text of a JSON string, given with its quotes; unpaired surrogates stay what they are.

    Raises: Unreadable.
    """
    if "\\" not in written:
        return written[1:-1]
    try:
        return str(TOLERANT.decode(written))
    except ValueError as error:
        raise Unreadable from error


def character_places(written: str) -> Sequence[int]:
    """Where each character of the decoded text begins in the string as written, and where the last ends."""
    last = len(written) - 1
    if "\\" not in written:
        return range(1, last + 1)
    places: list[int] = []
    for run in _CHARACTERS.finditer(written, 1, last):
        places += [run.start()] if run[0].startswith("\\") else range(*run.span())
    places.append(last)
    return places


def replace_spans(text: str, spans: Iterable[Span]) -> str:
    """The text with every span replaced; the spans are in order and apart."""
    pieces: list[str] = []
    at = 0
    for start, end, instead in spans:
        pieces += (text[at:start], instead)
        at = end
    pieces.append(text[at:])
    return "".join(pieces)
