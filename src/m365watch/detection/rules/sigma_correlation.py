"""Sigma's correlations, as pySigma parses them, turned into our own values.

Source: the Sigma specification 2, correlation rules.
"""

from __future__ import annotations

from collections.abc import Callable

from sigma.correlations import (
    CorrelationConditionItem,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)

from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named
from m365watch.detection.rules.sigma_parser import Untranslatable


def convert_correlation(rule: SigmaCorrelationRule, *, find: Callable[[str], str]) -> Correlation:
    """The correlation; `find` gives the id of the rule that a name or id refers to.

    Raises: Untranslatable.
    """
    condition = rule.condition
    expression: Expression | None = None
    references = [reference.reference for reference in rule.rules or ()]
    if isinstance(condition, SigmaExtendedCorrelationCondition):
        expression = _expression(condition.parsed, find)
        references = references or condition.get_referenced_rules()
    if not references:
        raise Untranslatable("correlation.rules: names no rule")
    sources = tuple(dict.fromkeys(find(reference) for reference in references))
    plain = condition if isinstance(condition, SigmaCorrelationCondition) else None
    return Correlation(
        joined=Joined(rule.type.name.lower()),
        sources=sources,
        timespan_s=rule.timespan.seconds,
        group_by=tuple(rule.group_by or ()),
        aliases={
            alias.alias: {find(one.reference): name for one, name in alias.mapping.items()}
            for alias in rule.aliases
        },
        order=Order(plain.op.name.lower()) if plain else Order.AT_LEAST,
        threshold=plain.count if plain else len(sources),
        fields=_fields_of(plain),
        percentile=_percentile_of(plain),
        expression=expression,
    )


def _fields_of(condition: SigmaCorrelationCondition | None) -> tuple[str, ...]:
    if condition is None or condition.fieldref is None:
        return ()
    return (condition.fieldref,) if isinstance(condition.fieldref, str) else tuple(condition.fieldref)


def _percentile_of(condition: SigmaCorrelationCondition | None) -> int:
    percentile = 50 if condition is None or condition.percentile is None else condition.percentile
    if not 0 <= percentile <= 100:
        raise Untranslatable(f"correlation.condition.percentile: {percentile} is not between 0 and 100")
    return percentile


def _expression(
    node: CorrelationConditionItem | SigmaRuleReference, find: Callable[[str], str]
) -> Expression:
    if isinstance(node, SigmaRuleReference):
        return Named(find(node.reference))
    operator = "or" if isinstance(node, CorrelationConditionOR) else "and"
    if isinstance(node, CorrelationConditionNOT):
        operator = "not"
    return Joint(operator, tuple(_expression(part, find) for part in node.args))
