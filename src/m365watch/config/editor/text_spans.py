"""What goes when a member of an object or an element of a list goes: its lines, commas and comments. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from m365watch.config.document import Unreadable
from m365watch.config.editor.spots import Spot

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
