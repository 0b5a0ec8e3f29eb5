"""A record field by field, those that a rule has looked at lit up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from m365watch.board.widgets.widget_types import RecordLine
from m365watch.detection.engine.lazy_decoder import decode_record
from m365watch.detection.engine.rule_matcher import operations_of
from m365watch.detection.fields.field_catalog import needs_of
from m365watch.detection.fields.record_view import MAPS, View, json_text, named_values, text_of
from m365watch.detection.rules.condition import Condition, Every, Some, Test
from m365watch.detection.rules.condition_compiler import Predicate, compile_condition
from m365watch.detection.rules.rule import Rule

LINES_MAX = 400
"""Fields of one record that are shown."""
VALUE_MAX = 2_000
"""Characters of one value that are shown."""
DEPTH_MAX = 12

_WHO = frozenset({"actor", "target"})
"""What records of Entra list the identities of."""
_KINDS_OF_ID = dict(enumerate(("Claim", "Name", "Other", "PUID", "SPN", "UPN")))

UrlOf = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Light:
    """A rule's condition, and the fields that it asks for."""

    holds: Predicate
    fields: frozenset[str]


def lights_of(rule: Rule | None, by_id: Mapping[str, Rule]) -> list[Light]:
    """The conditions of the rule, and of those that it joins, with what they look at."""
    return [
        Light(compile_condition(one), frozenset(_fields_asked(one))) for one in _conditions_of(rule, by_id)
    ]


def _conditions_of(rule: Rule | None, by_id: Mapping[str, Rule]) -> list[Condition]:
    found: list[Condition] = []
    left, seen = [rule] if rule is not None else [], set[str]()
    while left:
        one = left.pop()
        seen.add(one.id)
        if one.condition is not None:
            found.append(one.condition)
        sources = one.correlation.sources if one.correlation else ()
        left += [by_id[source] for source in sources if source in by_id and source not in seen]
    return found


def operations_asked(rule: Rule | None, by_id: Mapping[str, Rule]) -> frozenset[str]:
    """The operations, in normal form, that the rule names, and those that it joins; none of one for any."""
    named = (operations_of(one) for one in _conditions_of(rule, by_id))
    return frozenset[str]().union(*(one for one in named if one is not None))


def lit_paths(raw: str, lights: Iterable[Light]) -> frozenset[str]:
    """The places that the rules which the record fulfils have looked at; of all where it fulfils none."""
    record = decode_record(raw.encode("utf-8", "replace"))
    if record is None:
        return frozenset()
    view = View(record)
    every = list(lights)
    fulfilled = [one.fields for one in every if one.holds(view)] or [one.fields for one in every]
    names = frozenset[str]().union(*fulfilled)
    return frozenset(path for name in names for path in _paths_of(name, view))


def _fields_asked(condition: Condition) -> Iterator[str]:
    """The fields of all tests that have to hold, and of none that must not."""
    match condition:
        case Test(field=str(field)):
            yield field
        case Every(parts) | Some(parts):
            for part in parts:
                yield from _fields_asked(part)


def _paths_of(name: str, view: View) -> Iterator[str]:
    """The places in the record where a field stands, in lower case."""
    if name.startswith("m365."):
        yield from _paths_of_derived(name, view) or (one.lower() for one in needs_of(name))
    else:
        yield name.removesuffix(".new").removesuffix(".old").lower()


def _paths_of_derived(name: str, view: View) -> list[str]:
    """Where what is worked out for a derived field comes from, as far as the values tell it."""
    wanted = {text_of(one).lower() for one in view.values(name)} - {""}
    found = []
    for top in needs_of(name):
        value = view.record.get(top)
        members = named_values(value) if top in MAPS else {"": value}
        for member, one in members.items():
            if any(text in json_text(one).lower() for text in wanted):
                found.append(f"{top}.{member}".lower().rstrip("."))
    return found


def lines_of(raw: str, lit: Collection[str], url_of: UrlOf) -> list[RecordLine]:
    """The record's fields in its own order; none where it is no JSON object."""
    record = decode_record(raw.encode("utf-8", "replace"))
    if record is None:
        return []
    lines: list[RecordLine] = []
    for line in _walk(record, (), lit, url_of):
        if len(lines) == LINES_MAX:
            lines.append(RecordLine(0, "…", "the rest is in the record as it was sent"))
            break
        lines.append(line)
    return lines


def _walk(
    value: Mapping[str, Any], path: tuple[str, ...], lit: Collection[str], url_of: UrlOf
) -> Iterator[RecordLine]:
    for name, one in value.items():
        yield from _field(str(name), one, (*path, str(name).lower()), lit, url_of)


def _field(
    name: str, value: Any, path: tuple[str, ...], lit: Collection[str], url_of: UrlOf
) -> Iterator[RecordLine]:
    depth = len(path) - 1
    if isinstance(value, dict) and value and depth < DEPTH_MAX:
        yield RecordLine(depth, name, "", is_lit=_is_lit(path, lit))
        yield from _walk(value, path, lit, url_of)
    elif isinstance(value, list) and value and depth < DEPTH_MAX:
        yield RecordLine(depth, name, "", is_lit=_is_lit(path, lit))
        for number, element in enumerate(value):
            yield from _element(number, element, path, lit, url_of)
    else:
        text = _text(value)
        yield RecordLine(depth, name, text, _is_lit(path, lit), url_of(name, text))


def _element(
    number: int, element: Any, path: tuple[str, ...], lit: Collection[str], url_of: UrlOf
) -> Iterator[RecordLine]:
    """An element of a list; one of named values is a field of that name, of identities of its kind."""
    if isinstance(element, dict) and element.keys() == {"ID", "Type"} and path[0] in _WHO:
        kind = element["Type"]
        words = _KINDS_OF_ID.get(kind, "") if isinstance(kind, int) else ""
        text, inner = _text(element["ID"]), (*path, "id")
        url = url_of("UserId" if words == "UPN" else "ID", text)
        yield RecordLine(len(path), words or f"Type {_text(kind)}", text, _is_lit(inner, lit), url)
        return
    named = element.get("Name") if isinstance(element, dict) else None
    if isinstance(named, str) and path[0] in {one.lower() for one in MAPS}:
        rest = {key: one for key, one in element.items() if key != "Name"}
        inner = (*path, named.strip().lower())
        if set(rest) <= {"Value"}:
            text = _text(rest.get("Value", ""))
            yield RecordLine(len(path), named, text, _is_lit(inner, lit), url_of(named, text))
        else:
            yield from _field(named, rest, inner, lit, url_of)
    else:
        yield from _field(str(number + 1), element, (*path, str(number + 1)), lit, url_of)


def _is_lit(path: tuple[str, ...], lit: Collection[str]) -> bool:
    """Whether a rule names the field or something that it is a part of; numbers of elements do not count."""
    named = [one for one in path if not one.isdigit()]
    return any(".".join(named[: count + 1]) in lit for count in range(len(named)))


def _text(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}…"
