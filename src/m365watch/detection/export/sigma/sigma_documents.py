"""Rules as Sigma documents, and those that Sigma has no words for, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import yaml

from m365watch.detection.export.not_translatable import Unsaid, Unsayable
from m365watch.detection.export.sigma.members import finds_more
from m365watch.detection.export.sigma.native_fields import Known, native_field, nativize
from m365watch.detection.export.sigma.sigma_documents_writing import is_selection, write_detection
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.condition import Condition
from m365watch.detection.rules.condition_operations import operations_of
from m365watch.detection.rules.extension import Kind, Raise
from m365watch.detection.rules.extension_text import write_extension
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Named, Rule
from m365watch.detection.rules.spans import span_text

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
        raise Unsayable("the points of risk are this product's own")
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
