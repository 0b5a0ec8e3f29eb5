"""Sigma's filters: what a rule of others is to leave alone, said in a document of its own.

A filter names rules, or any, and has a condition; a record then fulfils the rule if both hold. It applies
to rules whose records come from where its logsource says, and to no correlation: those join what is left.

Source: the Sigma specification 2, filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from m365watch.detect.compile import compile_condition
from m365watch.detect.condition import Condition, Every
from m365watch.detect.misread import MISREAD, reason_of
from m365watch.detect.rule import Rule
from m365watch.values import dataclass

if TYPE_CHECKING:
    from sigma.filters import SigmaFilter

Complain = Callable[[str], None]
"""Takes what is wrong with a filter."""


@dataclass(slots=True)
class FilterDraft:
    """A filter between parsing and use."""

    path: str
    parsed: SigmaFilter
    lists: Mapping[str, tuple[str, ...]]
    line: int = 0


def apply_filter(
    draft: FilterDraft, rules: Mapping[str, Rule], names: Mapping[str, str], complain: Complain
) -> dict[str, Rule]:
    """The rules, those that the filter is about with its condition as well.

    `names` has the id of a rule by each name that a filter may call it. What is wrong goes to `complain`.
    """
    from m365watch.detect import sigma

    try:
        service = sigma.check_product(draft.parsed)
        condition = sigma.convert_filter(draft.parsed, lists=draft.lists)
        compile_condition(condition)
    except MISREAD as error:
        complain(reason_of(error))
        return dict(rules)
    found = {rule.id: rule for rule in _rules_for(draft, rules, names, service, complain)}
    return {**rules, **{rule_id: _filtered(rule, condition) for rule_id, rule in found.items()}}


def _rules_for(
    draft: FilterDraft, rules: Mapping[str, Rule], names: Mapping[str, str], service: str, complain: Complain
) -> list[Rule]:
    wanted = draft.parsed.filter.rules
    if isinstance(wanted, str):
        return [rule for rule in rules.values() if rule.condition is not None and _is_of(rule, service)]
    found: list[Rule] = []
    for reference in (str(one.reference) for one in wanted):
        rule = rules.get(names.get(reference, ""))
        if rule is None:
            complain(f"filter.rules: there is no rule {reference}")
        elif rule.condition is None:
            complain(f"filter.rules: {reference} is a correlation; name the rules that it joins")
        elif not _is_of(rule, service):
            told = f"is about {rule.service or 'every service'}, and the filter about {service}"
            complain(f"filter.rules: {reference} {told}")
        else:
            found.append(rule)
    return found


def _is_of(rule: Rule, service: str) -> bool:
    """Whether the rule's records come from that service, or the filter names none."""
    return not service or rule.service == service


def _filtered(rule: Rule, condition: Condition) -> Rule:
    return rule if rule.condition is None else replace(rule, condition=Every((rule.condition, condition)))
