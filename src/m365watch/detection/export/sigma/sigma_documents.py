"""Rules as Sigma documents, and those that Sigma has no words for, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import yaml

from m365watch.detection.export.not_translatable import Unsaid, Unsayable
from m365watch.detection.export.sigma.native_fields import Known, finds_more, native_field, nativize
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.condition import (
    Compared,
    ComparedTime,
    Comparison,
    Condition,
    ContainsOneOf,
    Every,
    Exists,
    InNetwork,
    IsNull,
    Like,
    Matches,
    Never,
    OneOf,
    Order,
    SameAs,
    Some,
    Test,
    TimePart,
    Wildcard,
)
from m365watch.detection.rules.condition_operations import operations_of
from m365watch.detection.rules.extension import Kind, Raise
from m365watch.detection.rules.extension_text import write_extension
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Named, Rule
from m365watch.detection.rules.spans import span_text

_PLACES = {"anywhere": "contains", "start": "startswith", "end": "endswith"}
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_SPECIAL = re.compile(r"[*?\\]")
_FLAGGED = re.compile(r"\(\?([ims]+)\)")
_FREE_WORD = re.compile(r"[^A-Za-z0-9_]+")


def write_detection(condition: Condition, selections: Mapping[str, Condition], *, kept: Iterable[str]) -> Any:
    """The key `detection`: selections keep their names where they can, and those in `kept` are always there.

    Raises: Unsayable.
    """
    writer = _Writer(selections)
    joined = writer.join(condition, outer="")
    for name in sorted(kept):
        writer.keep(name)
    return {**writer.made, "condition": joined}


class _Writer:
    """The selections of one rule, as far as they are written."""

    def __init__(self, selections: Mapping[str, Condition]) -> None:
        self._names = {one: name for name, one in reversed(list(selections.items()))}
        self._selections = selections
        self.made: dict[str, Any] = {}

    def join(self, condition: Condition, *, outer: str) -> str:
        """The words that stand for the condition; what is joined by another word than `outer` in brackets."""
        name = self._names.get(condition, "")
        written = _selection(condition)
        if written is not None:
            return self._add(name, condition, written)
        match condition:
            case Never(part):
                return f"not {self.join(part, outer='not')}"
            case Every(parts):
                return self._joined("and", parts, outer)
            case Some(parts):
                return self._joined("or", parts, outer)
        raise Unsayable("a part of its condition is no selection")

    def keep(self, name: str) -> None:
        """Write the selection even if the condition does without; it says when the severity rises."""
        self.made.setdefault(name, _selection(self._selections[name]))

    def _joined(self, word: str, parts: tuple[Condition, ...], outer: str) -> str:
        text = f" {word} ".join(self.join(part, outer=word) for part in parts)
        return text if outer in ("", word) or len(parts) == 1 else f"({text})"

    def _add(self, name: str, condition: Condition, written: Any) -> str:
        for known, other in self.made.items():
            if other == written and (not name or known == name):
                return known
        chosen = name or self._free_name(condition)
        self.made[chosen] = written
        return chosen

    def _free_name(self, condition: Condition) -> str:
        field = condition.field if isinstance(condition, Test) and condition.field else "selection"
        word = _FREE_WORD.sub("_", field).strip("_").lower()
        number = 1
        while (name := f"{word}_{number}") in self.made or name in self._selections:
            number += 1
        return name


def is_selection(condition: Condition) -> bool:
    """Whether the condition can stand under one name. Raises: Unsayable."""
    return _selection(condition) is not None


def _selection(condition: Condition) -> Any:
    """The condition as one selection; None where it takes several."""
    match condition:
        case Test(None, comparison):
            return _keywords(comparison)
        case Test():
            return dict([_pair(condition)])
        case Every(parts) if all(isinstance(part, Test) and part.field is not None for part in parts):
            pairs = [_pair(part) for part in parts if isinstance(part, Test)]
            return dict(pairs) if len(dict(pairs)) == len(pairs) else None
        case Some(parts):
            written = [_selection(part) for part in parts]
            return written if all(isinstance(one, dict) for one in written) else None
    return None


def _keywords(comparison: Comparison) -> list[str]:
    match comparison:
        case OneOf(values):
            return [_text((one,)) for one in sorted(values)]
        case Like(parts, False):
            return [_text(parts)]
    raise Unsayable("a pattern is asked of the whole record")


def _pair(test: Test) -> tuple[str, Any]:
    """The field with its modifiers, and the value or values."""
    field = str(test.field)
    match test.comparison:
        case Like(parts, cased):
            return f"{field}|cased" if cased else field, _value(parts, cased=cased)
        case OneOf(values):
            found = [_value((one,), cased=False) for one in sorted(values)]
            return field, found[0] if len(found) == 1 else found
        case ContainsOneOf(values, place, unless):
            if unless:
                raise Unsayable(f"{field}: one part of a value without another has no word in Sigma")
            return f"{field}|{_PLACES[place]}", [_text((one,)) for one in sorted(values)]
        case Matches(pattern):
            return _expression(field, pattern)
        case comparison:
            return _other_pair(field, comparison)


def _other_pair(field: str, comparison: Comparison) -> tuple[str, Any]:
    match comparison:
        case Compared(order, number) if order not in (Order.EQUAL, Order.OTHER):
            return f"{field}|{order}", int(number) if number == int(number) else number
        case ComparedTime(part, order, number):
            return _time(field, part, order), int(number)
        case InNetwork(network):
            return f"{field}|cidr", str(network)
        case Exists(wanted):
            return f"{field}|exists", wanted
        case IsNull():
            return field, None
        case SameAs(other, place):
            return f"{field}|fieldref" + ("" if place == "whole" else f"|{_PLACES[place]}"), other
    raise Unsayable(f"a comparison of the kind {type(comparison).__name__} has no word in Sigma")


def _expression(field: str, pattern: str) -> tuple[str, str]:
    flags = _FLAGGED.match(pattern)
    if flags is None:
        return f"{field}|re", pattern
    return f"{field}|re|{'|'.join(flags[1])}", pattern[flags.end() :]


def _time(field: str, part: TimePart, order: Order) -> str:
    return f"{field}|{part}" + ("" if order is Order.EQUAL else f"|{order}")


def _value(parts: tuple[str | Wildcard, ...], *, cased: bool) -> str | int:
    """A text, or the number that it spells: products compare numbers with numbers."""
    match parts:
        case (str() as word,) if not cased and _NUMBER.fullmatch(word):
            return int(word)
    return _text(parts)


def _text(parts: tuple[str | Wildcard, ...]) -> str:
    """A text in which wildcards are wildcards, and stars of the text itself are none."""
    return "".join(
        part.value if isinstance(part, Wildcard) else _SPECIAL.sub(lambda one: f"\\{one[0]}", part)
        for part in parts
    )


LINE_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Written:
    """A rule as a document of Sigma."""

    rule: Rule
    document: Mapping[str, Any]
    differences: tuple[str, ...] = ()
    """In what it is another rule than the one here."""

    def text(self) -> str:
        """The document as YAML."""
        return yaml.safe_dump(dict(self.document), sort_keys=False, allow_unicode=True, width=LINE_WIDTH)


@dataclass(frozen=True, slots=True)
class SigmaExport:
    """What came of the rules: also those that only serve one that was asked for."""

    exported: tuple[Written, ...]
    unsaid: tuple[Unsaid, ...]


def write_rules(rules: Iterable[Rule], *, every: Mapping[str, Rule], knowledge: Knowledge) -> SigmaExport:
    """The rules as documents, with all that the correlations among them join."""
    written: dict[str, Written] = {}
    unsaid: list[Unsaid] = []
    for rule in rules:
        if not rule.alerts:
            continue
        try:
            needed = {one.id: write_rule(one, every=every, knowledge=knowledge) for one in _all(rule, every)}
        except Unsayable as error:
            unsaid.append(Unsaid(rule, str(error)))
        else:
            written |= needed
    return SigmaExport(tuple(written.values()), tuple(unsaid))


def _all(rule: Rule, every: Mapping[str, Rule]) -> list[Rule]:
    """What it joins, directly or not, and the rule itself at the end."""
    sources = rule.correlation.sources if rule.correlation is not None else ()
    return [*(one for source in sources for one in _all(every[source], every)), rule]


def write_rule(rule: Rule, *, every: Mapping[str, Rule], knowledge: Knowledge) -> Written:
    """The rule as a document. Raises: Unsayable."""
    raises = rule.extension.raises
    if rule.kind is not Kind.EACH:
        raise Unsayable(f"{rule.kind} is no kind of rule in Sigma: every match would be an alert there")
    if rule.correlation is not None:
        body: dict[str, Any] = {"correlation": _correlation(rule.correlation, every)}
    else:
        assert rule.condition is not None  # noqa: S101 - a rule has one or the other
        known = Known(knowledge, operations_of(rule.condition))
        selections = _native_selections(rule, known)
        raises = tuple(one for one in rule.extension.raises if one.when in selections)
        condition = nativize(rule.condition, known)
        service = {"service": rule.service} if rule.service else {}
        body = {
            "logsource": {"product": "m365", **service},
            "detection": write_detection(condition, selections, kept=(one.when for one in raises)),
        }
    document = _without_empty({**_head(rule), **body, **_tail(rule, raises)})
    lost = [one.when for one in rule.extension.raises if one not in raises]
    told = (f"the severity does not rise with {', '.join(lost)}, worked out here",) if lost else ()
    return Written(rule, document, (*told, *finds_more(rule)))


def _native_selections(rule: Rule, known: Known) -> dict[str, Condition]:
    """The rule's selections that stand under one name in native fields too."""
    found = {}
    for name, condition in rule.selections.items():
        with suppress(Unsayable):
            native = nativize(condition, known)
            if is_selection(native):
                found[name] = native
    return found


def _head(rule: Rule) -> dict[str, Any]:
    tags = [*rule.tactics, *(one.lower() for one in rule.techniques)]
    return {
        "title": rule.title,
        "id": rule.id,
        "name": rule.name,
        "status": rule.status,
        "description": rule.description,
        "references": list(rule.references),
        "author": rule.author,
        "date": rule.date,
        "tags": [f"attack.{one}" for one in tags],
    }


def _tail(rule: Rule, raises: tuple[Raise, ...]) -> dict[str, Any]:
    return {
        "falsepositives": list(rule.false_positives),
        "level": str(rule.severity),
        "m365watch": write_extension(replace(rule.extension, raises=raises)),
    }


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in ("", [], {}, None)}


def _correlation(correlation: Correlation, every: Mapping[str, Rule]) -> dict[str, Any]:
    """The key `correlation`. Raises: Unsayable."""
    if correlation.joined is Joined.RISK:
        raise Unsayable("risk points exist only in m365watch")
    fields = {name for alias in correlation.aliases.values() for name in alias.values()}
    for name in (*correlation.group_by, *correlation.fields, *fields):
        native_field(name)
    body: dict[str, Any] = {
        "type": str(correlation.joined),
        "rules": [_called(every[source]) for source in correlation.sources],
        "generate": any(every[source].alerts for source in correlation.sources),
        "group-by": list(correlation.group_by),
        "timespan": span_text(correlation.timespan_s),
        "aliases": {
            alias: {_called(every[source]): field for source, field in mapping.items()}
            for alias, mapping in correlation.aliases.items()
        },
        "condition": _joined(correlation, every),
    }
    return _without_empty(body)


def _joined(correlation: Correlation, every: Mapping[str, Rule]) -> Any:
    if correlation.expression is not None:
        return _expressed(correlation.expression, every)
    if correlation.joined in (Joined.TEMPORAL, Joined.ORDERED):
        return {str(correlation.order): int(correlation.threshold)}
    fields = list(correlation.fields)
    condition: dict[str, Any] = {str(correlation.order): _number(correlation.threshold)}
    if fields:
        condition["field"] = fields[0] if len(fields) == 1 else fields
    if correlation.joined is Joined.PERCENTILE:
        condition["percentile"] = correlation.percentile
    return condition


def _expressed(expression: Expression, every: Mapping[str, Rule]) -> str:
    if isinstance(expression, Named):
        return _called(every[expression.rule_id])
    parts = [_expressed(part, every) for part in expression.parts]
    if expression.operator == "not":
        return f"not ({parts[0]})"
    return f"({f' {expression.operator} '.join(parts)})"


def _called(rule: Rule) -> str:
    return rule.name or rule.id


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value
