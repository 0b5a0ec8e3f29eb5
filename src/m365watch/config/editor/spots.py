"""Where each value of a configuration stands in its text, so that one can be changed and no other byte is.

YAML is located by the marks of its parser, JSON by a walk over a text that has been read as JSON already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from m365watch.config.document import NESTED_TOO_DEEPLY, Unreadable

if TYPE_CHECKING:
    import yaml

REMEMBERED_MAX = 6
"""Texts whose places are remembered: one change asks for those of the same two again and again."""
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
"""How YAML writes that there is nothing, where there are no quotes around it."""
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Spot:
    """One value of the text, which stands at [start, end)."""

    kind: Literal["scalar", "list", "object"]
    start: int
    end: int
    text: str = ""
    """A scalar's text, unquoted."""
    style: str = ""
    """How a scalar is written: the quotation mark, "" for plain, "|" or ">" for a block of lines."""
    is_flow: bool = True
    """Whether a list or object is written with brackets."""
    members: tuple[tuple[Spot, Spot], ...] = ()
    """An object's keys and values."""
    elements: tuple[Spot, ...] = ()
    """A list's values."""

    def member(self, key: str) -> Spot | None:
        """The value under `key`; None where there is none."""
        return next((value for name, value in self.members if name.text == key), None)

    def walk(self) -> Iterator[tuple[str, Spot]]:
        """Every value below this one with the key that it stands under; "" for those of lists."""
        for name, value in self.members:
            yield name.text, value
            yield from value.walk()
        for element in self.elements:
            yield "", element
            yield from element.walk()


@lru_cache(maxsize=REMEMBERED_MAX)
def locate(text: str, *, suffix: str) -> Spot | None:
    """Where everything stands in `text`, which is told JSON or YAML as `parse_document` tells it.

    None for a text without a value.

    Raises:
        Unreadable: the text has a mistake of syntax.
    """
    try:
        if is_json(text, suffix=suffix):
            return _read_json(text, _skip(text, 0))
        from m365watch.config.yaml_text import compose_yaml

        node = compose_yaml(text)
        return None if node is None else _read_node(node)
    except RecursionError:
        raise Unreadable(NESTED_TOO_DEEPLY) from None


def is_json(text: str, *, suffix: str) -> bool:
    """Whether `text` is to be read as JSON; raises Unreadable for a file that should be JSON and is not."""
    from m365watch.config.document import parse_document

    if not text.lstrip().startswith(("{", "[")):
        return False
    if suffix not in {".yaml", ".yml"}:
        parse_document(text, suffix=suffix)
        return True
    return reads_as_json(text)


def reads_as_json(text: str) -> bool:
    """Whether it is JSON, whatever its file is called."""
    from m365watch.config.document import parse_document

    try:
        parse_document(text, suffix=".json")
    except Unreadable:
        return False
    return True


def _read_json(text: str, at: int) -> Spot:
    """The value that starts at `at` of a text that is known to be JSON."""
    if text[at] not in "{[":
        plain, end = _DECODER.raw_decode(text, at)
        quoted = isinstance(plain, str)
        return Spot("scalar", at, end, text=plain if quoted else text[at:end], style='"' if quoted else "")
    closing = "}" if text[at] == "{" else "]"
    members: list[tuple[Spot, Spot]] = []
    elements: list[Spot] = []
    place = _skip(text, at + 1)
    while text[place] != closing:
        first = value = _read_json(text, place)
        if closing == "}":
            value = _read_json(text, _skip(text, _skip(text, first.end) + 1))
            members.append((first, value))
        else:
            elements.append(value)
        place = _skip(text, value.end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    kind: Literal["object", "list"] = "object" if closing == "}" else "list"
    return Spot(kind, at, place + 1, members=tuple(members), elements=tuple(elements))


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _read_node(node: yaml.Node) -> Spot:
    import yaml

    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.MappingNode):
        members = tuple((_read_node(key), _read_node(value)) for key, value in node.value)
        return Spot("object", start, end, is_flow=bool(node.flow_style), members=members)
    if isinstance(node, yaml.SequenceNode):
        elements = tuple(map(_read_node, node.value))
        return Spot("list", start, end, is_flow=bool(node.flow_style), elements=elements)
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    return Spot("scalar", start, end, text=node.value, style=style or "")
