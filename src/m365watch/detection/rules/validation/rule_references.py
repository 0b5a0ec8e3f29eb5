"""The rules that correlations and filters name: whether there are such, and whether they can be used."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from m365watch.detection.rules.condition import ORDERS
from m365watch.detection.rules.rule import Correlation, Joined, Rule
from m365watch.detection.rules.validation.diagnostics import Fault, perhaps
from m365watch.detection.rules.validation.field_names import looks_like_a_field

_TEMPORAL = frozenset({Joined.TEMPORAL, Joined.ORDERED})
_LEAST = {Joined.COUNT: 1, Joined.DISTINCT: 0, Joined.TEMPORAL: 1, Joined.ORDERED: 0}
"""The least that can be counted when a record has come in: that record, where it counts by itself."""


def proofread_joins(
    rule: Rule, references: Sequence[tuple[str, str]], rules: Mapping[str, Rule]
) -> Iterator[Fault]:
    """Every mistake of this kind; `references` are the rules as they are named there, each with its id."""
    correlation = rule.correlation
    # Of one that joins a rule with a mistake, that one is told.
    if correlation is None or not rules.keys() >= {*correlation.sources}:
        return
    if correlation.expression is None:
        yield from _numbers(correlation, references)
    yield from _aliases(correlation, rules)


def _numbers(correlation: Correlation, references: Sequence[tuple[str, str]]) -> Iterator[Fault]:
    """A number that what is counted never comes to."""
    least = _LEAST.get(correlation.joined)
    if least is None:
        return
    where = ("correlation", "condition", str(correlation.order))
    if not _reaches(correlation, least, math.inf):
        told = f"holds of no count, which is a whole number from {least} on; give another number"
        yield Fault(where, f"{told}, or find silence by a rule with `m365watch.low`")
    elif correlation.joined in _TEMPORAL and not _reaches(correlation, least, len(correlation.sources)):
        if _reaches(correlation, least, len(references)):
            yield _again(correlation, references)
        else:
            most = len(correlation.sources)
            told = f"of {most} rules no more than {most} match; give a number that this reaches"
            yield Fault(where, f"{told}, or join more rules")


def _reaches(correlation: Correlation, least: int, most: float) -> bool:
    """Whether the condition holds of any count between these."""
    compare, threshold = ORDERS[correlation.order], correlation.threshold
    # Where it holds of any, it does of one of these.
    counts = (least, least + 1, int(threshold), int(threshold) + 1)
    return any(least <= one <= most and compare(one, threshold) for one in counts)


def _again(correlation: Correlation, references: Sequence[tuple[str, str]]) -> Fault:
    """A rule that is named once more than it counts."""
    named = [name for name, _ in references]
    ids = [rule_id for _, rule_id in references]
    place = next(n for n, one in enumerate(ids) if one in ids[:n])
    told = f"names {named[place]} again, and each rule counts once, so that {len(named)} are never reached"
    cure = f"name it once and count to {len(correlation.sources)}"
    # An expression has names and no ids.
    if correlation.joined is Joined.ORDERED and all(one.isascii() and one.isidentifier() for one in named):
        cure += f", or write `condition: {' and '.join(named)}`"
    return Fault(("correlation", "rules", place), f"{told}; {cure}")


def _aliases(correlation: Correlation, rules: Mapping[str, Rule]) -> Iterator[Fault]:
    """Aliases that stand for nothing in a rule's records: without a group, or a value, none is joined."""
    asked = {*correlation.fields} if len(correlation.fields) == 1 else set()
    # What is counted counts in a group of which a part is absent.
    if correlation.joined in _TEMPORAL or len(correlation.group_by) == 1:
        asked |= {*correlation.group_by}
    for alias, fields in correlation.aliases.items():
        if alias not in asked or looks_like_a_field(alias):
            continue
        for source in correlation.sources:
            inner = rules[source].correlation
            if source not in fields and not (inner and alias in inner.group_by):
                name = rules[source].name or source
                told = f"says nothing of {name}, whose matches are never joined"
                cure = f"add `{name}: ` and the field that it stands for there"
                yield Fault(("correlation", "aliases", alias), f"{told}; {cure}")


def proofread_references(
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
            if str(name) not in known:
                yield Fault((kind, "rules", place), _told(str(name), known, broken))


def _told(name: str, known: AbstractSet[str], broken: Container[str]) -> str:
    if name in broken:
        return f"{name} has mistakes of its own and is left out; mend it first"
    return f"there is no rule {name}{perhaps(name, known) or '; name one by its name or id'}"


def names_in(document: Mapping[str, Any]) -> Iterator[str]:
    """By what other documents may name this one."""
    yield from (str(document[key]) for key in ("id", "name") if document.get(key))
