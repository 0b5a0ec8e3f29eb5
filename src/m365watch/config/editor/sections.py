"""A section of a configuration's text read out, put in, taken out or switched: no other byte changes. Pure.

A section is what stands below a key, such as one input or one output. What comes out is read again and
held against what was meant before it is handed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from m365watch.config.document import Pairs, Unreadable, parse_document, plain_values
from m365watch.config.editor.text_spans import (
    NULLS,
    Spot,
    is_json,
    last_end,
    line_end,
    line_start,
    locate,
    member_cuts,
    past_comments,
    reads_as_json,
)

Path = tuple[str, ...]
"""The keys from the top of the file to the section: ("inputs", "office365")."""

SWITCH = "enabled"
_STEP = 2
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_OF_SECTION = ".yaml"
"""A section that is typed may be YAML or JSON, whichever the file is."""


class _Place(NamedTuple):
    """Where a section stands."""

    around: Spot
    key: Spot
    value: Spot


def section_text(text: str, path: Path, *, suffix: str) -> str:
    """What stands below the key at `path`, comments included, as a text of its own.

    Raises: Unreadable: the text has a mistake of syntax, or nothing at `path`.
    """
    place = _place_of(_located(text, suffix), path)
    if place is None:
        raise Unreadable(f"has no {'.'.join(path)}")
    start, end = _span(text, place)
    body = text[start:end].replace("\r\n", "\n")
    if _is_block(place.value):
        return _dedented(body, _indent_of(body))
    return _dedented(body, _leading(text, start)) if place.value.kind != "scalar" or body else ""


def put_section(text: str, path: Path, section: str, *, suffix: str) -> str:
    """The text with `section` below the key at `path`: in the place of what stands there, or at the end.

    Raises: Unreadable: a text has a mistake of syntax, or is written in a way that is left to a person.
    """
    meant = parse_document(section, suffix=_OF_SECTION)
    root = _located(text, suffix)
    writing = _Writing(text, is_json=is_json(text, suffix=suffix))
    place = _place_of(root, path)
    changed = writing.add(root, path, section) if place is None else writing.replace(place, section)
    return _checked(changed, _with(parse_document(text, suffix=suffix), path, meant), suffix)


def take_section(text: str, path: Path, *, suffix: str) -> str:
    """The text without the key at `path`.

    Raises: Unreadable: as `put_section`; or nothing stands there.
    """
    place = _place_of(_located(text, suffix), path)
    if place is None:
        raise Unreadable(f"has no {'.'.join(path)}")
    if len(place.around.members) == 1:
        raise Unreadable(f"has nothing below {'.'.join(path[:-1])} but {path[-1]}; switch it off instead")
    changed = text
    for cut in sorted(member_cuts(text, place.around, [path[-1]]), reverse=True):
        changed = changed[: cut.start] + changed[cut.end :]
    return _checked(changed, _without(parse_document(text, suffix=suffix), path), suffix)


def set_switch(text: str, path: Path, *, on: bool, suffix: str) -> str:
    """The text with `enabled` of the section at `path` true or false; written in where it is not there.

    Raises: Unreadable: as `put_section`; or nothing stands there.
    """
    place = _place_of(_located(text, suffix), path)
    if place is None:
        raise Unreadable(f"has no {'.'.join(path)}")
    changed = _switched(text, place.value, on=on, quotes=is_json(text, suffix=suffix))
    wanted = _with(parse_document(text, suffix=suffix), (*path, SWITCH), on, is_first=True)
    return _checked(changed, wanted, suffix)


def has_section(text: str, path: Path, *, suffix: str) -> bool:
    """Whether anything but null stands at `path`; raises Unreadable."""
    place = _place_of(_located(text, suffix), path)
    return place is not None and not _is_null(place.value)


def _located(text: str, suffix: str) -> Spot:
    root = locate(text, suffix=suffix)
    if root is None or root.kind != "object":
        raise Unreadable("holds no object with inputs")
    return root


def _place_of(root: Spot, path: Path) -> _Place | None:
    around, place = root, None
    for name in path:
        place = next((_Place(around, key, value) for key, value in around.members if key.text == name), None)
        if place is None:
            return None
        around = place.value
    return place


def _is_block(value: Spot) -> bool:
    return value.kind != "scalar" and not value.is_flow


def _is_null(value: Spot) -> bool:
    return value.kind == "scalar" and not value.style and value.text in NULLS


def _span(text: str, place: _Place) -> tuple[int, int]:
    """Where the section's own text begins and ends: whole lines of a block, or what is in brackets."""
    if not _is_block(place.value):
        return place.value.start, place.value.end
    start = line_end(text, place.key.end)
    end = line_end(text, last_end(text, place.value))
    column = place.key.start - line_start(text, place.key.start)
    return start, past_comments(text, end, deeper_than=column)


def _leading(text: str, at: int) -> int:
    """The spaces that the line begins with that `at` stands on."""
    line = text[line_start(text, at) : line_end(text, at)]
    return len(line) - len(line.lstrip(" "))


def _indent_of(body: str) -> int:
    lines = [line for line in body.split("\n") if line.strip()]
    return min((len(line) - len(line.lstrip(" ")) for line in lines), default=0)


def _dedented(body: str, columns: int) -> str:
    lines = [line[columns:] if not line[:columns].strip(" ") else line for line in body.split("\n")]
    return "\n".join(lines)


def _indented(section: str, columns: int) -> str:
    gap = " " * columns
    return "\n".join(f"{gap}{line}" if line.strip() else line for line in section.split("\n"))


class _Writing:
    """How a section is written into one text."""

    def __init__(self, text: str, *, is_json: bool) -> None:
        self._text = text
        self._is_json = is_json
        self._break = "\r\n" if "\r\n" in text else "\n"

    def replace(self, place: _Place, section: str) -> str:
        start, end = _span(self._text, place)
        column = place.key.start - line_start(self._text, place.key.start)
        if place.around.is_flow:
            return self._put(start, end, self._flow(section, _leading(self._text, start)))
        if not _is_block(place.value):
            # On the line of its key, where a block has no room.
            is_flow = section.lstrip().startswith("{")
            new = f" {section.strip()}" if is_flow and "\n" not in section.strip() else None
            begin = place.key.end + self._text[place.key.end : start + 1].find(":") + 1
            behind = f"\n{_indented(section.rstrip(), column + _STEP)}"
            return self._put(begin, end, behind if new is None else new)
        columns = _indent_of(self._text[start:end].replace("\r\n", "\n"))
        return self._put(start, end, _indented(section.rstrip(), columns) + "\n")

    def add(self, root: Spot, path: Path, section: str) -> str:
        """The section below the last key that is there, with the keys that are missing."""
        around, known = root, 0
        while known < len(path) - 1 and (place := _place_of(around, path[known : known + 1])) is not None:
            if _is_null(place.value):
                return self.replace(place, self._nested(path[known + 1 :], section))
            around, known = place.value, known + 1
        if around.kind != "object":
            raise Unreadable(f"has no object at {'.'.join(path[:known])}")
        return self._add_member(around, path[known], self._nested(path[known + 1 :], section))

    def _nested(self, path: Sequence[str], section: str) -> str:
        """The section below keys that are not there yet."""
        for name in reversed(path):
            if self._is_json:
                section = json.dumps({name: json.loads(self._flow(section, 0))}, indent=_STEP)
            else:
                section = f"{_key(name)}:\n{_indented(section.rstrip(), _STEP)}\n"
        return section

    def _add_member(self, around: Spot, name: str, section: str) -> str:
        if not around.members:
            new = f'"{name}": {self._flow(section, _leading(self._text, around.start) + _STEP)}'
            return self._put(around.start + 1, around.end - 1, new)
        key, value = around.members[-1]
        start = line_start(self._text, key.start)
        column = key.start - start
        if around.is_flow:
            own_line = not self._text[start : key.start].strip()
            gap = f"\n{' ' * column}" if own_line else " "
            new = self._flow(section, column if own_line else _leading(self._text, key.start))
            return self._put(value.end, value.end, f',{gap}"{name}": {new}')
        end = past_comments(self._text, line_end(self._text, last_end(self._text, value)), deeper_than=column)
        lead = "" if self._text[:end].endswith("\n") else "\n"
        body = _indented(section.rstrip(), column + _STEP)
        return self._put(end, end, f"{lead}{' ' * column}{_key(name)}:\n{body}\n")

    def _flow(self, section: str, columns: int) -> str:
        """The section in brackets, its further lines indented by so many columns."""
        plain = section.strip()
        if not plain.startswith("{") or (self._is_json and not reads_as_json(plain)):
            plain = json.dumps(plain_values(parse_document(section, suffix=_OF_SECTION)), indent=_STEP)
        return _indented(plain, columns).lstrip(" ")

    def _put(self, start: int, end: int, new: str) -> str:
        return self._text[:start] + new.replace("\n", self._break) + self._text[end:]


def _key(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else json.dumps(name)


def _switched(text: str, value: Spot, *, on: bool, quotes: bool) -> str:
    written = "true" if on else "false"
    own = value.member(SWITCH)
    if own is not None:
        return text[: own.start] + written + text[own.end :]
    pair = f'"{SWITCH}": {written}' if quotes else f"{SWITCH}: {written}"
    if _is_null(value):
        gap = " " if value.start == value.end else ""
        return f"{text[: value.start]}{gap}{{{pair}}}{text[value.end :]}"
    if not value.members:
        return f"{text[: value.start]}{{{pair}}}{text[value.end :]}"
    first = value.members[0][0]
    if value.is_flow:
        gap = text[value.start + 1 : first.start]
        return f"{text[: first.start]}{pair},{gap or ' '}{text[first.start :]}"
    indent = " " * (first.start - line_start(text, first.start))
    line_break = "\r\n" if "\r\n" in text else "\n"
    return f"{text[: first.start]}{pair}{line_break}{indent}{text[first.start :]}"


def _checked(changed: str, wanted: object, suffix: str) -> str:
    try:
        found = parse_document(changed, suffix=suffix)
    except Unreadable:
        found = None
    if found is None or found != wanted:
        raise Unreadable("is written in a way that is left to you; make this change in the file itself")
    return changed


def _with(value: object, path: Path, new: object, *, is_first: bool = False) -> object:
    """The document with `new` at `path`; a key that was not there is the last there, or the first."""
    if not path:
        return new
    pairs = list(value) if isinstance(value, Pairs) else []
    below = next((child for key, child in pairs if key == path[0]), None)
    pair = (path[0], _with(below, path[1:], new, is_first=is_first))
    if all(key != path[0] for key, _ in pairs):
        return Pairs([pair, *pairs] if is_first else [*pairs, pair])
    return Pairs(pair if key == path[0] else (key, child) for key, child in pairs)


def _without(value: object, path: Path) -> object:
    if not isinstance(value, Pairs):
        return value
    if len(path) == 1:
        return Pairs(pair for pair in value if pair[0] != path[0])
    return Pairs((key, _without(child, path[1:]) if key == path[0] else child) for key, child in value)
