"""The application of an input whose tenants nobody may have filled in yet, and its tenants changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from m365watch.common.errors import SettingsRefused
from m365watch.config.config_file import FileText
from m365watch.config.document import Pairs, Unreadable, parse_document
from m365watch.config.editor.text_spans import (
    COMMENT,
    Cut,
    Spot,
    flow_cuts,
    line_end,
    line_start,
    locate,
    member_cuts,
)
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import Settings, TenantSettings
from m365watch.config.normalization import is_placeholder

_LINE_COLUMNS_MAX = 110
"""A list in brackets goes on in a line of its own where this one would become longer."""
_NAME_INPUT = "name one of them with --input"
_NOT_PLAIN_IN_BRACKETS = re.compile(r"[][{},]")


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
    _check_removed(text, changed, tuple(named), gone, tenant_id, suffix=suffix)
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


def _check_removed(
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


_NOBODY = "00000000-0000-0000-0000-000000000000"
"""The tenant that the text is read with, so that one without a tenant can be read."""


def read_application(
    file: FileText, input_name: str | None, *, environment: Mapping[str, str], for_reading: bool = False
) -> TenantSettings:
    """The input as if it had one tenant: its name, application, credentials and cloud.

    `input_name` None means the only input; with `for_reading` no secret has to be there.

    Raises: SettingsRefused: the input is not there, or the file has mistakes besides its tenants.
    """
    with _telling(file):
        name = find_input(file.text, input_name, suffix=file.suffix)
        document = _with_nobody(
            parse_document(file.text, suffix=file.suffix), ("inputs", name, "credentials")
        )
    settings = parse_settings(document, path=file.path, environment=environment, for_reading=for_reading)
    for tenant in settings.tenants:
        if tenant.input_name == name:
            return tenant
    raise SettingsRefused([f"inputs.{name}: is switched off; switch it on first"], where=str(file.path))


def with_tenant(file: FileText, input_name: str | None, tenant_id: str) -> str:
    """The file's text with the tenant added; as it is where it has it already.

    Raises: SettingsRefused: the text cannot be read, or is written in a way that is left to a person.
    """
    with _telling(file):
        return add_tenant(file.text, input_name, tenant_id, suffix=file.suffix)


def without_tenant(file: FileText, input_name: str | None, tenant_id: str) -> Removal:
    """The file's text without the tenant, in the input or, for None, in all of them.

    Raises: SettingsRefused: the text cannot be read, has no such tenant, or is left to a person.
    """
    with _telling(file):
        return remove_tenant(file.text, input_name, tenant_id, suffix=file.suffix)


def check_text(
    file: FileText, text: str, *, environment: Mapping[str, str], for_reading: bool = True
) -> Settings:
    """The settings that `text` stands for in the place of `file`.

    With `for_reading` no secret has to be there.

    Raises: SettingsRefused: with every mistake of it.
    """
    with _telling(file):
        document = parse_document(text, suffix=file.suffix)
    return parse_settings(document, path=file.path, environment=environment, for_reading=for_reading)


@contextmanager
def _telling(file: FileText) -> Iterator[None]:
    """What cannot be read, or is left to a person, is told with the file's name."""
    try:
        yield
    except Unreadable as error:
        fix = error.fix or "correct the file and start again"
        raise SettingsRefused([str(error)], where=str(file.path), fix=fix) from None


def _with_nobody(value: object, path: tuple[str, ...]) -> object:
    """The document with the nil tenant alone in the object at `path`; others as they are."""
    if not isinstance(value, Pairs):
        return value
    if not path:
        return Pairs([*(pair for pair in value if pair[0] != "tenant_id"), ("tenant_id", _NOBODY)])
    return Pairs((key, _with_nobody(child, path[1:]) if key == path[0] else child) for key, child in value)
