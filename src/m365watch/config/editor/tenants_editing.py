"""A tenant added to a configuration's text: what is not meant keeps every byte.

The port is `add_tenant` and `show_difference`, both pure; `config.removing` takes one out, and
`config.replacing` brings a text to its file.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.editor.spots import Spot, locate
from m365watch.config.editor.text_spans import COMMENT
from m365watch.config.normalization import is_placeholder
from m365watch.config.validation_report import SECRET_KEYS, hide_secrets

_LINE_COLUMNS_MAX = 110
"""A list in brackets goes on in a line of its own where this one would become longer."""
_CONTEXT_LINES = 2
_NAME_INPUT = "name one of them with --input"
_NOT_PLAIN_IN_BRACKETS = re.compile(r"[][{},]")
SECRET_NAMES = SECRET_KEYS | {"certificate_password", "private_key", "client_assertion"}
"""Keys whose value stands in stars in a difference."""


class _Edit(NamedTuple):
    """[start, end) of the text is replaced by `text`."""

    start: int
    end: int
    text: str


def add_tenant(text: str, input_name: str | None, tenant_id: str, *, suffix: str = "") -> str:
    """The configuration `text` with `tenant_id` in `credentials.tenant_id` of the input.

    It takes the place of a `<placeholder>`, joins a list, or makes one of a single id; a text that names
    the tenant already comes back as it is. `input_name` None means the only input. `suffix` is that of
    the file's name, which tells YAML that starts with a bracket from JSON.

    Raises:
        Unreadable: the text has a mistake of syntax, no such input, or is written in a way that is left
            to a person; the text says which.
    """
    root = locate(text, suffix=suffix)
    name, credentials = _credentials_of(root, input_name)
    old = credentials.member("tenant_id")
    if old is not None and tenant_id.lower() in [one.lower() for one in _texts(old)]:
        return text
    edits = _edits(text, credentials, old, tenant_id)
    changed = text
    for edit in sorted(edits, reverse=True):
        changed = changed[: edit.start] + edit.text + changed[edit.end :]
    _check(text, changed, name=name, tenant_id=tenant_id, suffix=suffix)
    return changed


def show_difference(old: str, new: str, *, name: str, suffix: str = "") -> str:
    """The unified difference of two texts of the file `name`, secrets in stars; "" where there is none."""
    lines = difflib.unified_diff(
        _blotted(old, suffix).splitlines(),
        _blotted(new, suffix).splitlines(),
        name,
        name,
        n=_CONTEXT_LINES,
        lineterm="",
    )
    return "".join(f"{line}\n" for line in lines)


def find_input(text: str, input_name: str | None, *, suffix: str = "") -> str:
    """The name of the input that is meant, as `add_tenant` finds it, and raising as it does."""
    return _credentials_of(locate(text, suffix=suffix), input_name)[0]


def _credentials_of(root: Spot | None, input_name: str | None) -> tuple[str, Spot]:
    """The name of the input that is meant, and its credentials."""
    inputs = None if root is None else root.member("inputs")
    names = [] if inputs is None else [key.text for key, _ in inputs.members]
    if inputs is None or not names:
        raise Unreadable("has no input; write one with `m365watch init`")
    if input_name is None and len(names) > 1:
        raise Unreadable(f"has several inputs; name one of them: {', '.join(names)}", fix=_NAME_INPUT)
    name = names[0] if input_name is None else input_name
    section = inputs.member(name)
    if section is None:
        raise Unreadable(f'has no input "{name}"; it has {", ".join(names)}', fix=_NAME_INPUT)
    credentials = section.member("credentials")
    if credentials is None or not credentials.members:
        raise Unreadable(f"inputs.{name}.credentials: is missing; give an object with client_id")
    return name, credentials


def _texts(spot: Spot) -> list[str]:
    return [one.text for one in spot.elements] if spot.kind == "list" else [spot.text]


def _edits(text: str, credentials: Spot, old: Spot | None, tenant_id: str) -> list[_Edit]:
    if old is None:
        return [_new_key(text, credentials, tenant_id)]
    if old.kind == "object":
        raise Unreadable("credentials.tenant_id is an object; give the tenant's GUID, or a list of GUIDs")
    for one in old.elements if old.kind == "list" else (old,):
        if one.style in {"|", ">"} or "\n" in text[one.start : one.end]:
            raise Unreadable("credentials.tenant_id goes over several lines; write it on one line first")
        if _is_free(one):
            return [_in_place(text, one, tenant_id)]
    if old.kind == "scalar":
        if not old.style and _NOT_PLAIN_IN_BRACKETS.search(old.text):
            return [_Edit(old.start, old.end, f'["{old.text}", "{tenant_id}"]')]
        new = _written(tenant_id, old)
        return [_Edit(old.start, old.start, "["), _Edit(old.end, old.end, f", {new}]")]
    if not old.elements:
        return [_Edit(old.start + 1, old.start + 1, f'"{tenant_id}"')]
    return _appended(text, old, tenant_id) if old.is_flow else [_new_line(text, old, tenant_id)]


def _is_free(spot: Spot) -> bool:
    """Whether nobody has filled this in: a `<placeholder>`, nothing, or null."""
    plain = not spot.style and spot.text in {"", "~", "null", "Null", "NULL"}
    return spot.kind == "scalar" and (plain or not spot.text.strip() or is_placeholder(spot.text))


def _in_place(text: str, old: Spot, tenant_id: str) -> _Edit:
    new = f"{old.style}{tenant_id}{old.style}" if old.style else f'"{tenant_id}"'
    # Nothing stands right behind its colon.
    gap = " " if old.start == old.end and text[: old.start].endswith((":", "-")) else ""
    return _Edit(old.start, old.end, gap + new)


def _written(tenant_id: str, like: Spot) -> str:
    """The id, in the quotation marks that its neighbour has."""
    return f"{like.style}{tenant_id}{like.style}"


def _appended(text: str, old: Spot, tenant_id: str) -> list[_Edit]:
    """The id as the last of a list in brackets; comments stay with the element they stand beside."""
    last = old.elements[-1]
    tail = text[last.end : old.end - 1].rstrip()
    has_comma = "," in COMMENT.sub("", tail)
    lead = _lead(text, old, new_length=len(tenant_id) + 4)
    if "#" in tail and "\n" not in lead:
        lead = _line_break(text) + " " * _column(text, last.start)
    end = last.end + len(tail)
    comma = _Edit(last.end, last.end, "" if has_comma else ",")
    new = _Edit(end, end, f"{lead}{_written(tenant_id, last)}{',' if has_comma else ''}")
    return [comma._replace(text=comma.text + new.text)] if end == last.end else [comma, new]


def _lead(text: str, old: Spot, *, new_length: int) -> str:
    """The space between two elements of the list, as it is kept there."""
    last = old.elements[-1]
    before = old.elements[-2].end if len(old.elements) > 1 else old.start + 1
    lead = COMMENT.sub("", text[before : last.start]).replace(",", "")
    if "\n" in lead:
        return _line_break(text) + lead.rpartition("\n")[2]
    line_end = text.find("\n", last.end)
    columns = _column(text, len(text) if line_end < 0 else line_end)
    if columns + new_length > _LINE_COLUMNS_MAX:
        return _line_break(text) + " " * _column(text, old.elements[0].start)
    return " " if len(old.elements) == 1 else lead


def _new_line(text: str, old: Spot, tenant_id: str) -> _Edit:
    """The id in a line of its own behind a list's last one."""
    last = old.elements[-1]
    line = text[text.rfind("\n", 0, last.start) + 1 : last.start]
    if line.strip() != "-":
        raise Unreadable("credentials.tenant_id is a list written in a way that is left to you; add the id")
    end = text.find("\n", last.end)
    end = len(text) if end < 0 else end
    end -= text[:end].endswith("\r")
    return _Edit(end, end, f"{_line_break(text)}{line}{_written(tenant_id, last)}")


def _new_key(text: str, credentials: Spot, tenant_id: str) -> _Edit:
    """The key `tenant_id` before all others of the credentials."""
    first = credentials.members[0][0]
    if credentials.is_flow:
        gap = text[credentials.start + 1 : first.start]
        gap = gap if not gap.strip() else " "
        key = '"tenant_id"' if first.style == '"' else "tenant_id"
        return _Edit(first.start, first.start, f'{key}: "{tenant_id}",{gap or " "}')
    indent = _line_break(text) + " " * _column(text, first.start)
    return _Edit(first.start, first.start, f'tenant_id: "{tenant_id}"{indent}')


def _column(text: str, at: int) -> int:
    return at - (text.rfind("\n", 0, at) + 1)


def _line_break(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _check(old: str, new: str, *, name: str, tenant_id: str, suffix: str) -> None:
    """Read both texts: nothing but the tenants of the input may differ, and only by the new one."""
    before, tenants_before = _without_tenants(old, name, suffix)
    after, tenants_after = _without_tenants(new, name, suffix)
    filled = [one for one in tenants_before if one and not is_placeholder(one)]
    kept = [one for one in tenants_after if one != tenant_id and not is_placeholder(one)]
    if before != after or tenant_id not in tenants_after or kept != filled:
        raise Unreadable(f"is written in a way that is left to you; add {tenant_id} to inputs.{name}")


def _without_tenants(text: str, name: str, suffix: str) -> tuple[object, list[str]]:
    """The document with the input's tenants taken out, and these."""
    tenants: list[str] = []

    def walk(value: object, path: tuple[str, ...]) -> object:
        if not isinstance(value, Pairs):
            return value
        kept = []
        for key, child in value:
            if (*path, key) == ("inputs", name, "credentials", "tenant_id"):
                found = child if isinstance(child, list) else [child]
                tenants.extend("" if one is None else str(one) for one in found)
            else:
                kept.append((key, walk(child, (*path, key))))
        return kept

    return walk(parse_document(text, suffix=suffix), ()), tenants


def _blotted(text: str, suffix: str) -> str:
    """The text with stars in place of its secrets."""
    root = locate(text, suffix=suffix)
    spots = [] if root is None else [spot for key, spot in root.walk() if key in SECRET_NAMES]
    for spot in sorted((spot for spot in spots if spot.kind == "scalar"), key=_start, reverse=True):
        text = f"{text[: spot.start]}***{text[spot.end :]}"
    return hide_secrets(text)


def _start(spot: Spot) -> int:
    return spot.start
