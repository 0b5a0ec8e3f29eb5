"""What a changed property has gained and lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.record_view import (
    STEPS_MAX,
    VALUES_MAX,
    Reader,
    Value,
    every_value,
    json_text,
    open_json,
    read_named,
    text_of,
)

if TYPE_CHECKING:
    from typing import Any

    from m365watch.detection.fields.record_view import Value, View


Leaf = tuple[tuple[str, ...], str]


def leaves_with_paths(value: Any) -> Iterator[Leaf]:
    """Each value after its path, in order, at most `VALUES_MAX`; elements of a list have that of the list."""
    left: list[tuple[tuple[str, ...], Any]] = [((), value)]
    count = 0
    while left and count < VALUES_MAX:
        path, one = left.pop()
        opened = open_json(one)
        inside: list[tuple[tuple[str, ...], Any]] = []
        if isinstance(opened, Mapping):
            inside = [((*path, str(key)), inner) for key, inner in opened.items()]
        elif isinstance(opened, list):
            inside = [(path, inner) for inner in opened]
        elif opened is not None:
            count += 1
            yield path, text_of(opened)
        if len(path) < STEPS_MAX:
            left += reversed(inside[:VALUES_MAX])


PROPERTIES = ("policydetail", "conditionalaccesspolicy")
"""Properties that have a whole policy, in lower case."""
_OFF = {"disabled", "enabledforreportingbutnotenforced", "reporting"}
"""States in which a policy holds nobody back; the last two only report."""


def loosened(view: View) -> tuple[Value, ...]:
    """Words for each way in which the policy became weaker: "switched off", "lets past: ...".

    Empty for a new policy, and where nothing became weaker. A change that tells only the new state is taken
    at its word.
    """
    if normalise_operation(view.first("Operation")).startswith("add "):
        return ()
    now, before = _told_on(view, "new"), _told_on(view, "old")
    found: list[Value] = []
    if _is_off(now) and not _is_off(before):
        found.append("switched off")
    let_past = [what for what in _excluded(now) if what not in set(_excluded(before))]
    return (*found, *(f"lets past: {what}" for what in let_past))


def _told_on(view: View, side: str) -> list[Leaf]:
    """Every plain value of the policy on one side, with the keys that lead to it, in lower case."""
    named = view.named("ModifiedProperties", side)
    return [
        (tuple(key.lower() for key in path), value)
        for name in PROPERTIES
        for path, value in leaves_with_paths(named.get(name))
    ]


def _is_off(leaves: list[Leaf]) -> bool:
    return any(path[-1:] == ("state",) and value.lower() in _OFF for path, value in leaves)


def _excluded(leaves: list[Leaf]) -> list[str]:
    """Users, groups, networks ... that the policy leaves out: who or what stands below a key for it."""
    return [
        value
        for path, value in leaves
        if value and any(key.startswith("exclude") and key != "excludemode" for key in path)
    ]


_FIELD = "ModifiedProperties"
_MADE = ("add ", "new-", "invite ")
_NO_SETTINGS = frozenset({"included updated properties", "modifieddatetime"})
"""Names that say nothing of what was set, in lower case: of a property, or of what is inside one."""


def earlier_values(view: View) -> tuple[Value, ...]:
    """Each setting that changed, and what it was: "state was enabled; excludeUsers was empty", in one text.

    Empty for what was made new, and where the record has the new values alone.
    """
    if normalise_operation(view.first("Operation")).startswith(_MADE):
        return ()
    told = [*_of_properties(view), *_of_fields(view)]
    return ("; ".join(told),) if told else ()


def _of_properties(view: View) -> Iterator[str]:
    new, old = view.named(_FIELD, "new"), view.named(_FIELD, "old")
    spelt = _spelling(view.record.get(_FIELD))
    for name, before in old.items():
        if before not in ("", None):
            lead = () if name in PROPERTIES else (spelt.get(name, name),)
            yield from _differences(lead, before, new.get(name))


def _of_fields(view: View) -> Iterator[str]:
    """Of a record of one setting, whose sides are fields."""
    before = view.record.get("OldValue")
    if before not in ("", None):
        yield from _differences((view.first("Name") or "it",), before, view.record.get("NewValue"))


def _differences(lead: tuple[str, ...], before: Any, after: Any) -> Iterator[str]:
    was, now = _by_path(before), _by_path(after)
    for path in dict.fromkeys((*was, *now)):
        names = (*lead, *path) or ("it",)
        if was.get(path) != now.get(path) and names[-1].lower() not in _NO_SETTINGS:
            yield f"{'.'.join(names)} was {', '.join(was.get(path, ())) or 'empty'}"


def _by_path(value: Any) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for path, text in leaves_with_paths(value):
        if text:
            found.setdefault(path, []).append(text)
    return found


def _spelling(field: Any) -> dict[str, str]:
    """The names of properties as they are written, by themselves in lower case."""
    opened = open_json(field)
    elements = opened if isinstance(opened, list) else ()
    names = (one.get("Name") for one in elements if isinstance(one, dict))
    return {one.strip().lower(): one.strip() for one in names if isinstance(one, str)}


_NETWORK = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")
"""What may be an address or a network; whether it is one, `ip_network` says."""


def gained(name: str) -> Reader:
    """Reads what the property's new value has and its old one lacks."""
    return lambda view: _difference(view, name, of="new", without="old")


def lost(name: str) -> Reader:
    """Reads what the property's old value had and its new one lacks."""
    return lambda view: _difference(view, name, of="old", without="new")


def _difference(view: View, name: str, *, of: str, without: str) -> tuple[Value, ...]:
    gone = set(_elements(view.named("ModifiedProperties", without), name))
    return tuple(one for one in _elements(view.named("ModifiedProperties", of), name) if one not in gone)


def _elements(properties: Mapping[str, Any], name: str) -> list[str]:
    """One side's elements: of a list each, and every plain value at any depth; of a text its parts at ;."""
    whole = properties.get(name.lower())
    if whole is None:
        return [text_of(value) for value in read_named(properties, name)]
    opened = open_json(whole)
    if isinstance(opened, list | dict):
        outer = opened if isinstance(opened, list) else [opened]
        texts = [json_text(one) for one in outer[:VALUES_MAX] if isinstance(one, list | dict)]
        return list(dict.fromkeys((*texts, *every_value(opened))))
    if isinstance(opened, str):
        return [part for part in (piece.strip() for piece in opened.split(";")) if part]
    return [] if opened is None else [text_of(opened)]


def gained_networks(name: str) -> Reader:
    """Reads the networks and addresses in the property's new value that its old one lacks.

    They are looked for in the text, for several may stand in one value, between commas.
    """

    def read(view: View) -> tuple[Value, ...]:
        before = set(_networks(view.named("ModifiedProperties", "old"), name))
        return tuple(
            one for one in _networks(view.named("ModifiedProperties", "new"), name) if one not in before
        )

    return read


def _networks(properties: Mapping[str, Any], name: str) -> list[str]:
    texts = list(every_value(properties.get(name.lower())))
    found = [
        _network_of(text) for one in texts for text in _NETWORK.findall(one) if "." in text or "::" in text
    ]
    return list(dict.fromkeys(network for network in found if network))[:VALUES_MAX]


def _network_of(text: str) -> str:
    """The network in its one form, a lone address with its full length; empty where the text is none."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return ""
