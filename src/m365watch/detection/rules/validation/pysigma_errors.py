"""What pySigma says of a mistake, with its place and what to do."""

from __future__ import annotations

from m365watch.detection.rules.rule import Joined
from m365watch.detection.rules.validation.diagnostics import Fault, Where

MISREAD = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
"""All that says that a rule cannot be understood; SigmaError and our own reasons are ValueErrors."""
_OF_ANOTHER_KIND = (TypeError, AttributeError, LookupError, ArithmeticError)


def reason_of(error: Exception) -> str:
    """Why a rule, or its file, cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    said = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, _OF_ANOTHER_KIND):
        return f"has a value of a kind that is not known at its place, such as a number for a text ({said})"
    return said


_PLACES: dict[str, tuple[Where, str]] = {
    "SigmaRelatedError": (("related",), "each entry has an `id`, a UUID, and a `type` such as similar"),
    "SigmaTagError": (("tags",), "write tags as attack.t1114.003"),
    "SigmaTitleError": (("title",), ""),
    "SigmaLicenseError": (("license",), ""),
    "SigmaTaxonomyError": (("taxonomy",), ""),
    "SigmaLogsourceError": (("logsource",), "write `logsource: {product: m365, service: exchange}`"),
    "SigmaTimespanError": (("correlation", "timespan"), "write a number and s, m, h or d, as 10m"),
    "SigmaCorrelationConditionError": (("correlation", "condition"), "write for example `{gte: 10}`"),
    "SigmaFilterRuleReferenceError": (("filter", "rules"), "name rules by name or id, or `any`"),
    "SigmaCorrelationTypeError": (
        ("correlation", "type"),
        f"there are {', '.join(one.value for one in Joined if one is not Joined.RISK)}",
    ),
}
"""Where a mistake stands of which pySigma says only what it is, and what to do, by the name of its error."""
_IN_TEXT = {
    "generate": "generate",
    "rule reference": "rules",
    "rules list": "rules",
    "group": "group-by",
    "alias": "aliases",
    "field reference": "condition",
    "timespan": "timespan",
    "condition": "condition",
}
"""The key of a correlation that is meant, by what pySigma says."""


def fault_of(error: Exception) -> Fault:
    """What pySigma has found, with its place and what to do, where its words give them away."""
    said = reason_of(error).removesuffix(".")
    name = type(error).__name__
    if name in _PLACES:
        where, told = _PLACES[name]
        if "not referenced" in said:
            told = "name each, or take it out of `rules`"
        return Fault(where, f"{said}; {told}" if told else said)
    if name == "SigmaCorrelationRuleError":
        key = next((key for words, key in _IN_TEXT.items() if words in said.lower()), "")
        return Fault(("correlation", key) if key else ("correlation",), said)
    return Fault((), said)
