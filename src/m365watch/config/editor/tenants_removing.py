"""A tenant taken out of a configuration's text: what is not meant keeps every byte.

The port is `remove_tenant`, which is pure; `config.replacing` brings a text to its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.editor.spots import Spot, locate
from m365watch.config.editor.text_spans import Cut, flow_cuts, line_end, line_start, member_cuts

TENANTS_NAMED_MAX = 5
"""Tenants that a mistake names, of those there are."""


class Removal(NamedTuple):
    """What came of taking a tenant out."""

    text: str
    inputs: tuple[str, ...]
    """The inputs that named it."""
    gone: tuple[str, ...]
    """Those of them that named no other, and went as a whole."""


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
    cuts: list[Cut] = []
    for name, tenants in named.items():
        if name not in gone:
            cuts += _element_cuts(text, tenants, tenant_id)
    cuts += member_cuts(text, inputs, gone)
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


def _element_cuts(text: str, tenants: Spot, tenant_id: str) -> Iterator[Cut]:
    """The tenant's element of a list that has others too."""
    place = [one.lower() for one in _ids(tenants)].index(tenant_id.lower())
    spans = [(one.start, one.end) for one in tenants.elements]
    if tenants.is_flow:
        yield from flow_cuts(text, spans, [place])
        return
    line = line_start(text, spans[place][0])
    if text[line : spans[place][0]].strip() != "-":
        raise Unreadable("credentials.tenant_id is a list written in a way that is left to you; edit it")
    yield Cut(line, line_end(text, spans[place][1]))


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
