"""What goes when a member of an object or an element of a list goes: its lines, commas and comments. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

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
        from m365watch.config.document import compose_yaml

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


COMMENT = re.compile(r"#[^\r\n]*")
_REST_OF_LINE = re.compile(r"[ \t]*(,?)[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z)")
_DEEPER_COMMENT = re.compile(r"([ \t]*)#[^\r\n]*(?:\r?\n|\Z)")


class Cut(NamedTuple):
    """[start, end) of the text goes."""

    start: int
    end: int


def member_cuts(text: str, around: Spot, names: Sequence[str]) -> Iterator[Cut]:
    """The members of `around` with those `names`, as wholes."""
    places = [place for place, (key, _) in enumerate(around.members) if key.text in names]
    if around.is_flow:
        yield from flow_cuts(text, [(key.start, value.end) for key, value in around.members], places)
        return
    for place in places:
        key, value = around.members[place]
        start = line_start(text, key.start)
        if text[start : key.start].strip():
            raise Unreadable(f"{key.text} begins in the middle of a line; take it out by hand")
        end = line_end(text, last_end(text, value))
        yield Cut(start, past_comments(text, end, deeper_than=key.start - start))


def last_end(text: str, spot: Spot) -> int:
    """Where the last thing that is written in `spot` ends: a block's own end is where the next one begins."""
    if spot.is_flow and spot.kind != "scalar":
        return spot.end
    below = [value for _, value in spot.members] or list(spot.elements)
    if below:
        return last_end(text, below[-1])
    # The end of a block of text stands behind its line breaks.
    return len(text[: spot.end].rstrip()) if spot.style in {"|", ">"} else spot.end


def past_comments(text: str, at: int, *, deeper_than: int) -> int:
    """Behind the lines of comment that are indented by more than that: they belong to what is before."""
    while (found := _DEEPER_COMMENT.match(text, at)) and len(found[1]) > deeper_than and found.end() > at:
        at = found.end()
    return at


def flow_cuts(text: str, spans: Sequence[tuple[int, int]], places: Sequence[int]) -> Iterator[Cut]:
    """What is at those `places` of a list or object in brackets, with the commas that are too many then."""
    left = [place for place in range(len(spans)) if place not in places]
    for place in places:
        start, end = spans[place]
        line, rest = line_start(text, start), _REST_OF_LINE.match(text, end)
        if rest and not text[line:start].strip():
            yield Cut(line, rest.end())
        elif place < left[0]:
            yield Cut(start, _commentless(text, end, spans[place + 1][0]))
            continue
        else:
            yield from _inline_cuts(text, spans, place)
            continue
        if place > left[-1] and not rest[1]:
            # The last one that is left has no comma behind it.
            yield from _comma_cut(text, spans[left[-1]][1], spans[left[-1] + 1][0])


def _inline_cuts(text: str, spans: Sequence[tuple[int, int]], place: int) -> Iterator[Cut]:
    start, end = spans[place]
    before = spans[place - 1][1]
    if "#" in text[before:start]:
        raise Unreadable("a comment stands within the line that would be changed; edit it by hand")
    yield Cut(before, end)


def _commentless(text: str, start: int, end: int) -> int:
    """`end`, where no comment but one on the line of `start` stands between the two."""
    if "#" in text[start:end].partition("\n")[2]:
        raise Unreadable("a comment stands between what goes and what stays; edit it by hand")
    return end


def _comma_cut(text: str, start: int, end: int) -> Iterator[Cut]:
    """The comma between two things, outside comments."""
    between = COMMENT.sub(lambda found: " " * len(found[0]), text[start:end])
    at = between.find(",")
    if at >= 0:
        yield Cut(start + at, start + at + 1)


def line_start(text: str, at: int) -> int:
    """Where the line begins that `at` stands on."""
    return text.rfind("\n", 0, at) + 1


def line_end(text: str, at: int) -> int:
    """Behind the line break of the line that `at` stands on."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1
