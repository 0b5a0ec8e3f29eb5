"""A tenant taken out of a configuration's text: what is not meant keeps every byte.

The port is `remove_tenant`, which is pure; `config.replacing` brings a text to its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.spots import Spot, locate

TENANTS_NAMED_MAX = 5
"""Tenants that a mistake names, of those there are."""
_COMMENT = re.compile(r"#[^\r\n]*")
_REST_OF_LINE = re.compile(r"[ \t]*(,?)[ \t]*(?:#[^\r\n]*)?(?:\r?\n|\Z)")
_DEEPER_COMMENT = re.compile(r"([ \t]*)#[^\r\n]*(?:\r?\n|\Z)")


class Removal(NamedTuple):
    """What came of taking a tenant out."""

    text: str
    inputs: tuple[str, ...]
    """The inputs that named it."""
    gone: tuple[str, ...]
    """Those of them that named no other, and went as a whole."""


class _Cut(NamedTuple):
    """[start, end) of the text goes."""

    start: int
    end: int


def remove_tenant(text: str, input_name: str | None, tenant_id: str, *, suffix: str = "") -> Removal:
    """The configuration `text` without `tenant_id` among the tenants of the input, or of every one for None.

    An input that has no other tenant goes as a whole. `suffix` is that of the file's name, which tells YAML
    that starts with a bracket from JSON.

    Raises:
        Unreadable: the text has a mistake of syntax, names no such input or tenant or none besides, or is
            written in a way that is left to a person; the text says which.
    """
    root = locate(text, suffix=suffix)
    inputs = None if root is None else root.member("inputs")
    if inputs is None or not inputs.members:
        raise Unreadable("has no input, and so no tenant")
    named = _inputs_with(inputs, input_name, tenant_id)
    gone = tuple(name for name, tenants in named.items() if len(_ids(tenants)) < 2)
    if len(gone) == len(inputs.members):
        raise Unreadable(
            f"has no tenant but {tenant_id}", fix="stop the collector instead, and remove the file"
        )
    cuts: list[_Cut] = []
    for name, tenants in named.items():
        if name not in gone:
            cuts += _element_cuts(text, tenants, tenant_id)
    cuts += _member_cuts(text, inputs, gone)
    changed = text
    for cut in sorted(cuts, reverse=True):
        changed = changed[: cut.start] + changed[cut.end :]
    _check(text, changed, tuple(named), gone, tenant_id, suffix=suffix)
    return Removal(changed, tuple(named), gone)


def _inputs_with(inputs: Spot, input_name: str | None, tenant_id: str) -> dict[str, Spot]:
    """The inputs that are meant and name the tenant, with what names their tenants."""
    names = [key.text for key, _ in inputs.members]
    if input_name is not None and input_name not in names:
        fix = "name one of them with --input"
        raise Unreadable(f'has no input "{input_name}"; it has {", ".join(names)}', fix=fix)
    found, others = {}, []
    for key, section in inputs.members:
        credentials = section.member("credentials")
        tenants = None if credentials is None else credentials.member("tenant_id")
        if tenants is None or input_name not in {None, key.text}:
            continue
        if tenant_id.lower() in (one.lower() for one in _ids(tenants)):
            found[key.text] = tenants
        others += _ids(tenants)
    if not found:
        more = f" and {len(others) - TENANTS_NAMED_MAX:,} more" if len(others) > TENANTS_NAMED_MAX else ""
        there = ", ".join(others[:TENANTS_NAMED_MAX]) or "none"
        raise Unreadable(f"names no tenant {tenant_id}; it names {there}{more}", fix="give one of them")
    return found


def _ids(tenants: Spot) -> list[str]:
    return [one.text for one in (tenants.elements if tenants.kind == "list" else (tenants,))]


def _element_cuts(text: str, tenants: Spot, tenant_id: str) -> Iterator[_Cut]:
    """The tenant's element of a list that has others too."""
    place = [one.lower() for one in _ids(tenants)].index(tenant_id.lower())
    spans = [(one.start, one.end) for one in tenants.elements]
    if tenants.is_flow:
        yield from _flow_cuts(text, spans, [place])
        return
    line = _line_start(text, spans[place][0])
    if text[line : spans[place][0]].strip() != "-":
        raise Unreadable("credentials.tenant_id is a list written in a way that is left to you; edit it")
    yield _Cut(line, _line_end(text, spans[place][1]))


def _member_cuts(text: str, inputs: Spot, names: Sequence[str]) -> Iterator[_Cut]:
    """The inputs of those `names`, as wholes."""
    places = [place for place, (key, _) in enumerate(inputs.members) if key.text in names]
    if inputs.is_flow:
        yield from _flow_cuts(text, [(key.start, value.end) for key, value in inputs.members], places)
        return
    for place in places:
        key, value = inputs.members[place]
        start = _line_start(text, key.start)
        if text[start : key.start].strip():
            raise Unreadable(f"inputs.{key.text} begins in the middle of a line; take it out by hand")
        end = _line_end(text, _last_end(text, value))
        yield _Cut(start, _past_comments(text, end, deeper_than=key.start - start))


def _last_end(text: str, spot: Spot) -> int:
    """Where the last thing that is written in `spot` ends: a block's own end is where the next one begins."""
    if spot.is_flow and spot.kind != "scalar":
        return spot.end
    below = [value for _, value in spot.members] or list(spot.elements)
    if below:
        return _last_end(text, below[-1])
    # The end of a block of text stands behind its line breaks.
    return len(text[: spot.end].rstrip()) if spot.style in {"|", ">"} else spot.end


def _past_comments(text: str, at: int, *, deeper_than: int) -> int:
    """Behind the lines of comment that are indented by more than that: they belong to what is before."""
    while (found := _DEEPER_COMMENT.match(text, at)) and len(found[1]) > deeper_than and found.end() > at:
        at = found.end()
    return at


def _flow_cuts(text: str, spans: Sequence[tuple[int, int]], places: Sequence[int]) -> Iterator[_Cut]:
    """What is at those `places` of a list or object in brackets, with the commas that are too many then."""
    left = [place for place in range(len(spans)) if place not in places]
    for place in places:
        start, end = spans[place]
        line, rest = _line_start(text, start), _REST_OF_LINE.match(text, end)
        if rest and not text[line:start].strip():
            yield _Cut(line, rest.end())
        elif place < left[0]:
            yield _Cut(start, _commentless(text, end, spans[place + 1][0]))
            continue
        else:
            yield from _inline_cuts(text, spans, place)
            continue
        if place > left[-1] and not rest[1]:
            # The last one that is left has no comma behind it.
            yield from _comma_cut(text, spans[left[-1]][1], spans[left[-1] + 1][0])


def _inline_cuts(text: str, spans: Sequence[tuple[int, int]], place: int) -> Iterator[_Cut]:
    start, end = spans[place]
    before = spans[place - 1][1]
    if "#" in text[before:start]:
        raise Unreadable("a comment stands within the line that would be changed; edit it by hand")
    yield _Cut(before, end)


def _commentless(text: str, start: int, end: int) -> int:
    """`end`, where no comment but one on the line of `start` stands between the two."""
    if "#" in text[start:end].partition("\n")[2]:
        raise Unreadable("a comment stands between what goes and what stays; edit it by hand")
    return end


def _comma_cut(text: str, start: int, end: int) -> Iterator[_Cut]:
    """The comma between two things, outside comments."""
    between = _COMMENT.sub(lambda found: " " * len(found[0]), text[start:end])
    at = between.find(",")
    if at >= 0:
        yield _Cut(start + at, start + at + 1)


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Behind the line break of the line that `at` stands on."""
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _check(
    old: str, new: str, inputs: Sequence[str], gone: Sequence[str], tenant_id: str, *, suffix: str
) -> None:
    """Read both texts: what is gone is the tenant, and the inputs that had no other."""
    wanted = _without(parse_document(old, suffix=suffix), (), inputs, gone, tenant_id.lower())
    try:
        found = parse_document(new, suffix=suffix)
    except Unreadable:
        found = None
    if found != wanted:
        raise Unreadable(f"is written in a way that is left to you; take {tenant_id} out by hand")


def _without(
    value: object, path: tuple[str, ...], inputs: Sequence[str], gone: Sequence[str], tenant_id: str
) -> object:
    if path[2:] == ("credentials", "tenant_id") and path[1] in inputs and isinstance(value, list):
        return [one for one in value if str(one).lower() != tenant_id]
    if not isinstance(value, Pairs):
        return value
    return Pairs(
        (key, _without(child, (*path, key), inputs, gone, tenant_id))
        for key, child in value
        if not (path == ("inputs",) and key in gone)
    )
