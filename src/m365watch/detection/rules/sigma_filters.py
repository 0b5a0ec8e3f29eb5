"""Sigma's filters: what a rule of others is to leave alone, said in a document of its own.

A filter names rules, or any, and has a condition; a record then fulfils the rule if both hold. It applies
to rules whose records come from where its logsource says, and to no correlation: those join what is left.

Source: the Sigma specification 2, filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sigma.filters import SigmaFilter

from m365watch.detection.rules import sigma_parser as sigma
from m365watch.detection.rules.condition import Condition, Every
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.diagnostics import Fault
from m365watch.detection.rules.rule import Rule


@dataclass(slots=True)
class FilterDraft:
    """A filter between parsing and use."""

    parsed: SigmaFilter
    lists: sigma.Lists


def apply_filter(
    draft: FilterDraft, rules: Mapping[str, Rule], names: Mapping[str, str]
) -> tuple[dict[str, Rule], list[Fault]]:
    """The rules, those that the filter is about with its condition as well, and which it cannot be about.

    `names` has the id of a rule by each name that a filter may call it; a name that is none is passed over.
    Raises: one of MISREAD: the filter cannot be translated.
    """
    service = sigma.check_product(draft.parsed)
    condition = sigma.convert_filter(draft.parsed, lists=draft.lists)
    compile_condition(condition)
    wanted = draft.parsed.filter.rules
    if isinstance(wanted, str):
        return {
            one.id: _filtered(one, condition) if _is_of(one, service) else one for one in rules.values()
        }, []
    found, faults = dict(rules), list[Fault]()
    for place, reference in enumerate(str(one.reference) for one in wanted):
        rule = rules.get(names.get(reference, ""))
        if rule is None:
            continue
        if told := _unfit(rule, reference, service):
            faults.append(Fault(("filter", "rules", place), told))
        else:
            found[rule.id] = _filtered(rule, condition)
    return found, faults


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
