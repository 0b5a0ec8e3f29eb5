"""What a rule's key `m365watch` says about the rest of the rule: selections, fields and values in braces."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from m365watch.config.models.values import PERIOD_UNITS_S
from m365watch.detection.rules.extension import Extension, Kind
from m365watch.detection.rules.extension_text import PERIOD_S_MAX
from m365watch.detection.rules.rule import OPTIONAL, PLACEHOLDER, list_placeholders
from m365watch.detection.rules.validation.diagnostics import Fault, Where, perhaps
from m365watch.detection.rules.validation.field_names import looks_like_a_field, meant_field, misnamed

KINDS = frozenset(
    [
        "actor",
        "address",
        "alert",
        "app",
        "device",
        "domain",
        "file",
        "grantee",
        "group",
        "guest",
        "ip",
        "link",
        "mailbox",
        "owner",
        "policy",
        "recipient",
        "sender",
        "session",
        "site",
        "target",
        "team",
        "tenant",
        "user",
    ]
)
"""Kinds of entities that there are names for; a rule may have others, but none close to these."""
_CONTEXT = frozenset(
    [
        "user",
        "count",
        "first",
        "last",
        "distinct",
        "values",
        "value",
        "tenant",
        "group",
        "distance",
        "speed",
        "from",
        "to",
        "periods",
        "rules",
    ]
)
"""What an explanation may name beside entities and fields."""
_OPENED = re.compile(r"\{\w")


def proofread_whole(document: Mapping[str, Any], extension: Extension) -> Iterator[Fault]:
    """Every mistake of this kind."""
    correlation = document.get("correlation")
    groups: list[str] = []
    if isinstance(correlation, Mapping):
        if extension.effective_kind is not Kind.EACH:
            told = f"{extension.effective_kind} is for rules with a detection, and this is a correlation"
            yield Fault(("m365watch", "kind"), told)
        yield from _bounds(correlation)
        groups = _texts(correlation.get("group-by"))
        aliases = correlation.get("aliases")
        known = aliases if isinstance(aliases, Mapping) else {}
        for name in groups:
            if name not in known:
                yield from misnamed(name, ("correlation", "group-by"))
        condition = correlation.get("condition")
        counted = condition.get("field") if isinstance(condition, Mapping) else None
        for name in _texts(counted):
            if name not in known:
                yield from misnamed(name, ("correlation", "condition", "field"))
    else:
        yield from _raises(document.get("detection"), extension)
        yield from _unasked(document.get("detection"), extension)
    yield from _kinds(extension)
    yield from _fields(extension)
    yield from _placeholders(extension, _CONTEXT | extension.entity.keys() | set(groups))


def _bounds(correlation: Mapping[str, Any]) -> Iterator[Fault]:
    """Numbers that hold always, or never."""
    span = str(correlation.get("timespan", ""))
    if span[:-1].isdecimal() and int(span[:-1][:12]) * PERIOD_UNITS_S.get(span[-1], 0) > PERIOD_S_MAX:
        yield Fault(("correlation", "timespan"), "is longer than 90 days, and nothing is kept for longer")
    condition = correlation.get("condition")
    if str(correlation.get("type")) not in ("event_count", "value_count") or not isinstance(
        condition, Mapping
    ):
        return
    for order, number in condition.items():
        if type(number) in (int, float) and number < 0:
            yield Fault(("correlation", "condition", str(order)), f"{number} is no count; give 0 or more")


def _kinds(extension: Extension) -> Iterator[Fault]:
    for kind in extension.entity.keys() - KINDS:
        if close := perhaps(kind, KINDS):
            yield Fault(("m365watch", "entity", kind), f"is no kind of entity{close}")
    seen = extension.first_seen
    if seen is not None and seen.learn > seen.period:
        told = "is longer than the period: what was learnt is forgotten before anything is new"
        yield Fault(("m365watch", "first_seen", "learn"), told)
    rolling = extension.rolling
    if rolling is not None and rolling.back_period < rolling.period:
        told = "is shorter than the period: what lies between is never looked at; give as much or more"
        yield Fault(("m365watch", "rolling", "back_period"), told)


def _texts(value: object) -> list[str]:
    return (
        [str(one) for one in value] if isinstance(value, list) else [value] if isinstance(value, str) else []
    )


def _raises(detection: object, extension: Extension) -> Iterator[Fault]:
    names = [str(one) for one in detection if one != "condition"] if isinstance(detection, Mapping) else []
    for place, one in enumerate(extension.raises):
        if one.when not in names:
            told = perhaps(one.when, names) or f"; the rule has {', '.join(names)}"
            yield Fault(("m365watch", "raise", place, "when"), f"there is no selection {one.when}{told}")


def _unasked(detection: object, extension: Extension) -> Iterator[Fault]:
    """Fields of `without` that no `contains` asks for."""
    asked = {key.partition("|")[0] for key in _keys_of(detection) if "contains" in key.split("|")[1:]}
    for field in extension.without:
        if field not in asked:
            told = f"no selection asks whether {field} `contains` something; name such a field"
            yield Fault(("m365watch", "without", field), told)


def _keys_of(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key)
            yield from _keys_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from _keys_of(one)


def _fields(extension: Extension) -> Iterator[Fault]:
    named: list[tuple[Where, str]] = [
        (("entity", kind), one) for kind, name in extension.entity.items() for one in name.split("|")
    ]
    named += [(("group_by",), name) for name in extension.group_by]
    if extension.first_seen is not None:
        named += [(("first_seen", "key"), name) for name in extension.first_seen.key]
    for where, name in named:
        yield from misnamed(name, ("m365watch", *where))


def _placeholders(extension: Extension, known: Collection[str]) -> Iterator[Fault]:
    texts: list[tuple[Where, str]] = [(("headline",), extension.headline)]
    texts += [(("explanation",), extension.explanation)]
    texts += [(("check", place), one) for place, one in enumerate(extension.check)]
    for where, text in texts:
        if _OPENED.search(PLACEHOLDER.sub("", text)):
            yield Fault(("m365watch", *where), "a { has no }; close it, as {UserId}")
        if "[[" in OPTIONAL.sub("", text):
            yield Fault(("m365watch", *where), "a [[ has no ]]; close it, or take it out")
        for name in list_placeholders([text]):
            if name not in known and not looks_like_a_field(name):
                told = perhaps(name, known) or "; name one, as {UserId}"
                yield Fault(("m365watch", *where), f"{{{name}}} is neither an entity nor a field{told}")
            elif name not in known and (meant := meant_field(name)):
                yield Fault(("m365watch", *where), f"no record has {name}; did you mean {meant}?")
