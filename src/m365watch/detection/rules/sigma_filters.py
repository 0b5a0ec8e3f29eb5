"""Sigma's filters: what a rule of others is to leave alone, said in a document of its own.

A filter names rules, or any, and has a condition; a record then fulfils the rule if both hold. It applies
to rules whose records come from where its logsource says, and to no correlation: those join what is left.

Source: the Sigma specification 2, filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from m365watch.detection.rules.condition import Condition, Every
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.validation.diagnostics import Fault
from m365watch.detection.rules.validation.pysigma_errors import MISREAD, reason_of

if TYPE_CHECKING:
    from sigma.filters import SigmaFilter


class Complain(Protocol):
    """Takes what is wrong with a filter, made with these lists; `alone` where nothing else can be."""

    def __call__(self, lists: Mapping[str, tuple[str, ...]], fault: Fault, *, alone: bool) -> None:
        """Keep it."""
        ...


@dataclass(slots=True)
class FilterDraft:
    """A filter between parsing and use."""

    parsed: SigmaFilter
    lists: Mapping[str, tuple[str, ...]]
    complain: Complain


def apply_filter(draft: FilterDraft, rules: Mapping[str, Rule], names: Mapping[str, str]) -> dict[str, Rule]:
    """The rules, those that the filter is about with its condition as well.

    `names` has the id of a rule by each name that a filter may call it. What is wrong goes to its `complain`.
    """
    from m365watch.detection.rules import sigma_parser as sigma

    try:
        service = sigma.check_product(draft.parsed)
        condition = sigma.convert_filter(draft.parsed, lists=draft.lists)
        compile_condition(condition)
    except MISREAD as error:
        draft.complain(draft.lists, Fault((), reason_of(error)), alone=False)
        return dict(rules)
    found = {rule.id: rule for rule in _rules_for(draft, rules, names, service)}
    return {**rules, **{rule_id: _filtered(rule, condition) for rule_id, rule in found.items()}}


def _rules_for(
    draft: FilterDraft, rules: Mapping[str, Rule], names: Mapping[str, str], service: str
) -> list[Rule]:
    wanted = draft.parsed.filter.rules
    if isinstance(wanted, str):
        return [rule for rule in rules.values() if rule.condition is not None and _is_of(rule, service)]
    found: list[Rule] = []
    for place, reference in enumerate(str(one.reference) for one in wanted):
        rule = rules.get(names.get(reference, ""))
        if rule is None:
            # Whoever reads the documents tells which rules there are not.
            continue
        told = _unfit(rule, reference, service)
        if told:
            draft.complain(draft.lists, Fault(("filter", "rules", place), told), alone=True)
        else:
            found.append(rule)
    return found


def _unfit(rule: Rule, reference: str, service: str) -> str:
    """Why the filter cannot be about this rule; empty where it can."""
    if rule.condition is None:
        return f"{reference} is a correlation; name the rules that it joins"
    if not _is_of(rule, service):
        seen = f"{reference} is about {rule.service or 'every service'}, and the filter about {service}"
        return f"{seen}; give them the same logsource.service"
    return ""


def _is_of(rule: Rule, service: str) -> bool:
    """Whether the rule's records come from that service, or the filter names none."""
    return not service or rule.service == service


def _filtered(rule: Rule, condition: Condition) -> Rule:
    return rule if rule.condition is None else replace(rule, condition=Every((rule.condition, condition)))
