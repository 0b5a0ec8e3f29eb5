"""What is wrong with a document of rules: by pySigma, by our conversion, and in its key `m365watch`."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from sigma.rule import SigmaDetections

from m365watch.detection.fields.field_catalog import why_no_field
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.diagnostics import MISREAD, Fault, Where, reason_of
from m365watch.detection.rules.extension import Extension, Kind
from m365watch.detection.rules.extension_text import parse_extension
from m365watch.detection.rules.rule import OPTIONAL, PLACEHOLDER, Joined, list_placeholders
from m365watch.detection.rules.sigma_parser import (
    DEPTH_MAX,
    Lists,
    Source,
    Untranslatable,
    convert_selection,
)

_PLACES: Mapping[str, Where] = {
    "SigmaIdentifierError": ("id",),
    "SigmaTagError": ("tags",),
    "SigmaTimespanError": ("correlation", "timespan"),
    "SigmaCorrelationRuleError": ("correlation",),
    "SigmaCorrelationConditionError": ("correlation", "condition"),
    "SigmaCorrelationTypeError": ("correlation", "type"),
    "SigmaFilterConditionError": ("filter", "condition"),
    "SigmaFilterRuleReferenceError": ("filter", "rules"),
} | {
    f"Sigma{key}Error": (key.lower(),)
    for key in (
        "Author",
        "Date",
        "Description",
        "Detection",
        "FalsePositives",
        "Fields",
        "Filter",
        "Level",
        "License",
        "Logsource",
        "Modified",
        "Name",
        "References",
        "Related",
        "Scope",
        "Status",
        "Taxonomy",
        "Title",
    )
}
"""Where a mistake stands, by the name of pySigma's error."""
_IN_TEXT: dict[str, Where] = {
    "Sigma tag": ("tags",),
    "rule name": ("name",),
    "generate": ("correlation", "generate"),
    "without rule references": ("correlation", "rules"),
    "rules list": ("correlation", "rules"),
    "group-by": ("correlation", "group-by"),
    "alias": ("correlation", "aliases"),
    "timespan": ("correlation", "timespan"),
}
"""The same for an error that several keys share, by what pySigma says of them."""
_HINTS: dict[Where, str] = {
    ("id",): "make one with `uuidgen`, or leave the key out",
    ("level",): "give informational, low, medium, high or critical",
    ("logsource",): "write `logsource: {product: m365, service: exchange}`",
    ("related",): "each entry has an `id`, a UUID, and a `type` such as similar",
    ("status",): "give stable, test, experimental, deprecated or unsupported",
    ("tags",): "write tags as attack.t1114.003",
    ("correlation", "condition"): "write `{gte: 10}`, or join all rules by and, or, not",
    ("correlation", "timespan"): "write a number and s, m, h or d, as 10m",
    ("correlation", "type"): f"there are {', '.join(one.value for one in Joined if one is not Joined.RISK)}",
    ("filter", "rules"): "name rules by name or id, or `any`",
}
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
_KEYS = frozenset(
    [
        "action",
        "author",
        "correlation",
        "date",
        "description",
        "detection",
        "falsepositives",
        "fields",
        "filter",
        "id",
        "level",
        "license",
        "logsource",
        "m365watch",
        "modified",
        "name",
        "references",
        "related",
        "scope",
        "status",
        "tags",
        "taxonomy",
        "title",
    ]
)
"""What Sigma and this collector read at the top of a document; others may add keys of their own."""
_OPENED = re.compile(r"\{\w")


def misspelled_keys(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Keys at the top that nobody reads, and that look like one that is read."""
    for key in document.keys() - _KEYS:
        near = get_close_matches(str(key).lower(), _KEYS - document.keys(), n=1, cutoff=0.75)
        if near:
            yield Fault((key,), f"unknown key; did you mean {near[0]}?")


def empty_list_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Lists without a value in a detection or filter, which pySigma reads as null."""
    left: list[tuple[Where, object]] = [((key,), document.get(key)) for key in ("detection", "filter")]
    while left:
        where, value = left.pop()
        if value == [] and len(where) > 1:
            yield Fault(where, "an empty list matches nothing; give a value, or null for a field without one")
        elif isinstance(value, Mapping):
            left += [((*where, str(key)), one) for key, one in value.items()]
        elif isinstance(value, list):
            left += [((*where, place), one) for place, one in enumerate(value)]


def faults_of(document: Mapping[str, Any], lists: Lists, errors: Sequence[Exception]) -> list[Fault]:
    """Every mistake of a document of which these errors were found first."""
    located = [*_detection_faults(document, lists), *empty_list_faults(document)]
    covered = {(), ("detection",), *(fault.where for fault in located)} if located else set[Where]()
    found = [fault for fault in map(fault_of, errors) if fault.where not in covered]
    return [*found, *located, *read_extension(document)[1]]


def fault_of(error: Exception) -> Fault:
    """An error of pySigma or our conversion, with its place and what to do, where these are known."""
    said = reason_of(error)
    if isinstance(error, Untranslatable):
        return Fault(error.where or ("detection",), said)
    where = _PLACES.get(type(error).__name__, ())
    if said.startswith("Sigma "):
        where = next((place for words, place in _IN_TEXT.items() if words in said), where)
    return Fault(where, f"{said}; {_HINTS[where]}" if where in _HINTS else said)


def _detection_faults(document: Mapping[str, Any], lists: Lists) -> Iterator[Fault]:
    """The mistakes of each selection of a rule or filter, and of its condition."""
    key, others = ("filter", {"condition", "rules"}) if "filter" in document else ("detection", {"condition"})
    section = document.get(key)
    named = section if isinstance(section, Mapping) else {}
    selections = {str(name): one for name, one in named.items() if name not in others}
    if not selections:
        return
    source = Source("", lists, is_ours="m365watch" in document)
    for name, one in selections.items():
        yield from _locate(one, (key, name), source)
    stand_ins: dict[str, object] = dict.fromkeys(selections, "x")
    if "condition" in named:
        stand_ins["condition"] = named["condition"]
    try:
        for parsed in SigmaDetections.from_dict(stand_ins).parsed_condition:
            _ = parsed.parsed
    except MISREAD as error:
        told = f"{reason_of(error)}; the selections are {', '.join(selections)}"
        yield Fault((key, "condition"), told)


def _locate(value: object, where: Where, source: Source, key: str | None = None) -> Iterator[Fault]:
    """The innermost parts of a selection, or of the values of its `key`, that cannot be converted."""
    try:
        compile_condition(convert_selection(value if key is None else {key: value}, source=source))
    except MISREAD as error:
        parts: list[tuple[str | int, object, str | None]] = []
        if isinstance(value, Mapping) and key is None:
            parts = [(str(name), one, name) for name, one in value.items()]
        elif isinstance(value, list):
            parts = [(place, one, key) for place, one in enumerate(value)]
        inner = [
            fault
            for step, one, name in parts
            if len(where) < DEPTH_MAX
            for fault in _locate(one, (*where, step), source, name)
        ]
        told = reason_of(error)
        # What is wrong with a key is wrong with each of its values.
        is_of_key = key is not None and [fault.text for fault in inner] == [told] * len(parts)
        yield from [Fault(where, told)] if is_of_key or not inner else inner


def read_extension(document: Mapping[str, Any]) -> tuple[Extension, list[Fault]]:
    """A document's key `m365watch`, and every mistake in it."""
    extension, faults = parse_extension(document.get("m365watch"))
    return extension, faults or [*_extension_faults(document, extension)]


def _extension_faults(document: Mapping[str, Any], extension: Extension) -> Iterator[Fault]:
    """What the key says of the rest of the rule, and is not so."""
    correlation, detection = document.get("correlation"), document.get("detection")
    known = _CONTEXT | extension.entity.keys()
    if isinstance(correlation, Mapping):
        if extension.effective_kind is not Kind.EACH:
            told = f"{extension.effective_kind} is for rules with a detection, and this is a correlation"
            yield Fault(("m365watch", "kind"), told)
        groups = correlation.get("group-by")
        known |= set(map(str, groups)) if isinstance(groups, list) else {str(groups)}
    names = [str(one) for one in detection if one != "condition"] if isinstance(detection, Mapping) else []
    for place, one in enumerate(extension.raises):
        if one.when not in names:
            told = f"there is no selection {one.when}; the rule has {', '.join(names) or 'none'}"
            yield Fault(("m365watch", "raise", place, "when"), told)
    named: list[tuple[Where, str]] = [(("entity", kind), one) for kind, one in extension.entity.items()]
    named += [(("group_by",), one) for one in extension.group_by]
    keys = extension.first_seen.key if extension.first_seen else ()
    named += [(("first_seen", "key"), one) for one in keys]
    for where, fields in named:
        for field in fields.split("|"):
            if told := why_no_field(field):
                yield Fault(("m365watch", *where), told)
    texts: list[tuple[Where, str]] = [(("headline",), extension.headline)]
    texts += [(("explanation",), extension.explanation)]
    texts += [(("check", place), one) for place, one in enumerate(extension.check)]
    for where, text in texts:
        for told in _placeholder_mistakes(text, known):
            yield Fault(("m365watch", *where), told)


def _placeholder_mistakes(text: str, known: Container[str]) -> Iterator[str]:
    if _OPENED.search(PLACEHOLDER.sub("", text)):
        yield "a { has no }; close it, as {UserId}"
    if "[[" in OPTIONAL.sub("", text):
        yield "a [[ has no ]]; close it, or take it out"
    for name in list_placeholders([text]):
        if not (name in known or name[:1].isupper() or name.startswith("m365.")):
            yield f"{{{name}}} is neither an entity nor a field; name one, as {{UserId}}"
        elif told := why_no_field(name):
            yield told


def reference_faults(
    document: Mapping[str, Any], names: Iterable[str], broken: Container[str]
) -> Iterator[Fault]:
    """Each rule that a document names and that there is not; `broken` are names of those with mistakes."""
    known = set(names)
    for kind in ("correlation", "filter"):
        part = document.get(kind)
        rules = part.get("rules") if isinstance(part, Mapping) else None
        if isinstance(rules, str):
            rules = [] if kind == "filter" and rules == "any" else [rules]
        for place, name in enumerate(rules if isinstance(rules, list) else ()):
            if str(name) in known:
                continue
            told = f"there is no rule {name}; name one by its name or id"
            if str(name) in broken:
                told = f"{name} has mistakes of its own and is left out; mend it first"
            yield Fault((kind, "rules", place), told)


def names_in(document: Mapping[str, Any]) -> Iterator[str]:
    """By what other documents may name this one."""
    yield from (str(document[key]) for key in ("id", "name") if document.get(key))
