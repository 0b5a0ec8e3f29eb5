"""Mistakes of a section that somebody types, each with the line that it is on. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from m365watch.board.config_editor.config_changes import Change, Write
from m365watch.config.document import Unreadable
from m365watch.config.editor.redaction import spots
from m365watch.config.validation_report import show_path

_PATH_CHARACTERS_MAX = 1_000
_ENDS = ".:[ "
"""What follows a path in a mistake."""
_LINE = re.compile(r"line ([0-9]+), column [0-9]+: ")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong."""

    says: str
    """The key's path, what is wrong, and what would be right."""
    line: int = 0
    """In the text that was typed, counted from 1; 0: elsewhere, or nowhere."""


def mistake_of(says: str, change: Change) -> Mistake:
    """The mistake that keeps a text from being read."""
    found = _LINE.search(says)
    line = int(found[1]) if found and isinstance(change, Write) else 0
    key = re.match(r"[A-Za-z0-9_.\[\]]+(?=: )", says)
    if not line and key and isinstance(change, Write):
        line = _lines_of(change.text, ()).get(key[0], 0)
    return Mistake(says, line)


def mistakes_in(section: str, path: tuple[str, ...], mistakes: Sequence[str]) -> list[Mistake]:
    """Each of `mistakes` with the line of `section`, which stands at `path`; those of the section first."""
    lines = _lines_of(section, path)
    found = [Mistake(one, _line_of(one, lines)) for one in mistakes]
    return sorted(found, key=lambda one: (not one.line, one.line))


def _lines_of(section: str, path: tuple[str, ...]) -> dict[str, int]:
    """The line of each key, by its path as mistakes show it."""
    try:
        starts = spots(section)
    except Unreadable:
        return {}
    shown = {show_path(path): 1} if path else {}
    return shown | {show_path((*path, *keys)): section.count("\n", 0, at) + 1 for keys, at in starts}


def _line_of(mistake: str, lines: dict[str, int]) -> int:
    """That of the longest path that the mistake begins with: a key that is missing is its section's."""
    head = mistake[:_PATH_CHARACTERS_MAX]
    begun = (head[:at] for at, character in enumerate(head) if character in _ENDS)
    near = [lines[path] for path in begun if path in lines]
    return near[-1] if near else 0
