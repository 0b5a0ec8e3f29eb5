"""Sigma rules, as pySigma parses them, turned into our own values.

pySigma knows the format, its modifiers and its mistakes; it is imported while rules are loaded and not
while they run. What Sigma's m365 rules call by other names than the feed does (eventSource, eventName,
status ...) is mapped here, so that rules of SigmaHQ run unchanged.

Source: the Sigma specification 2; SigmaHQ's rules for the product m365 and what they are meant to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sigma.collection import SigmaCollection
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.correlations import (
    CorrelationConditionItem,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.exceptions import SigmaError
from sigma.filters import SigmaFilter
from sigma.policy import SigmaPolicy
from sigma.policy.regex_engine import RegexEngine
from sigma.rule import SigmaDetections, SigmaLogSource, SigmaRule
from sigma.types import (
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from m365watch.detection.fields.field_catalog import why_no_field
from m365watch.detection.fields.record_view import MAPS
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
from m365watch.detection.rules.condition_compiler import BadPattern, compile_pattern
from m365watch.detection.rules.extension_text import PERIOD_S_MAX
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named
from m365watch.detection.rules.value_aliases import CLICK_ACTION, by_both, without_blanks

Lists = Mapping[str, tuple[str, ...]]

PRODUCTS = {"m365", "o365", "office365", "microsoft365"}
"""The products of whose rules this feed has the records."""
DEPTH_MAX = 60
"""How deep conditions may be nested."""
EXPANDED_MAX = 2_000
"""Texts that a list inside a longer text, or beside wildcards in the middle, may become."""

_ALERT_SERVICES = {"threat_management", "threat_detection"}
_ALERT_NAMES = ("Name", "AlertDisplayName")
"""How the compliance centre, and Defender for Cloud Apps, call what an alert is called."""
_ALERT_WORKLOADS = frozenset({"securitycompliancecenter", "mcas"})
"""Rules about alerts name the first; those of Defender for Cloud Apps come as the second since."""
_DONE = Test("m365.ok", Like(("true",)))
_NOT_DONE = Test("m365.ok", Like(("false",)))
_RENAMED = {
    "eventSource": "Workload",
    "RequestType": "ExtendedProperties.RequestType",
    "ResultStatusDetail": "ExtendedProperties.ResultStatusDetail",
    "Payload": "Data",
    "eventData": "Parameters",
    "user.email": "UserId",
    "user.id": "UserId",
    "user.name": "UserId",
    "source.ip": "m365.ip",
    "event.action": "Operation",
}
SERVICES = frozenset(
    {
        "audit",
        "azureactivedirectory",
        "dlp",
        "exchange",
        "general",
        "onedrive",
        "sharepoint",
        "teams",
        "threat_detection",
        "threat_management",
    }
)
"""Which records a rule is about its fields decide; the service, which names these fields have."""
_PREFIX = "o365.audit."
"""What another shipper writes before the names of the feed; rules were written against that, too."""
_PARTS_OF_PAIRS = {"Name": "#names", "Value": "#values", "NewValue": "#values", "OldValue": "#values.old"}
"""How rules of others ask for any name, or any value, among named values."""
_PLACES = {(False, False): "whole", (True, True): "anywhere", (False, True): "start", (True, False): "end"}
"""Where a text has to stand, by whether anything may be before and after it."""


class Untranslatable(ValueError):
    """A part of a rule that has no meaning for this feed; says why."""

    def __init__(self, text: str, *where: str) -> None:
        """`where` are the keys that lead to it; none stands for the detection."""
        super().__init__(text)
        self.where = where


class _QuietEngine(RegexEngine):
    """RE2 as rules are run with it: it logs nothing of a pattern that it refuses."""

    error = BadPattern

    def compile(self, pattern: str, flags: int = 0) -> Any:  # noqa: ARG002 - as pySigma calls it
        """The pattern without its flags, which make none a bad one. Raises: BadPattern."""
        return compile_pattern(pattern)


_POLICY = SigmaPolicy(regex_engine=_QuietEngine())


def parse_documents(documents: Iterable[Mapping[str, Any]]) -> SigmaCollection:
    """The rules and filters of these documents, and every error that pySigma collects.

    Raises: one of MISREAD, where it stops at the first.
    """
    # pySigma stops at an id that is a number.
    made = [{**one, "id": str(one["id"])} if one.get("id") is not None else {**one} for one in documents]
    return SigmaCollection.from_dicts(
        made, collect_errors=True, collect_filters=True, resolve_references=False, policy=_POLICY
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rule's records come from, as its logsource says, and the lists that it may name."""

    service: str
    lists: Lists
    is_ours: bool
    """Whether the rule has our key, and so names fields as this page says."""


def check_product(rule: SigmaRule | SigmaFilter) -> str:
    """The service of a rule or filter, in lower case; empty for all of them.

    Raises: Untranslatable: it is about another product, or a service that this feed has no records of.
    """
    product, service = logsource_of(rule.logsource)
    if product not in PRODUCTS:
        told = f"{product or 'none'} is not m365, whose records this collector has"
        raise Untranslatable(told, "logsource", "product")
    if service and service not in SERVICES:
        told = f"{service} is none of this feed; give one of {', '.join(sorted(SERVICES))}, or none"
        raise Untranslatable(told, "logsource", "service")
    return service


def logsource_of(source: SigmaLogSource) -> tuple[str, str]:
    """Product and service in lower case. Old rules of SigmaHQ call these service and category."""
    product, service = (source.product or "").lower(), (source.service or "").lower()
    if not product and service in PRODUCTS:
        return service, (source.category or "").lower().replace("threatmanagement", "threat_management")
    return product, service


def _source_of(rule: SigmaRule, lists: Lists) -> Source:
    return Source(logsource_of(rule.logsource)[1], lists, is_ours="m365watch" in rule.custom_attributes)


def convert_condition(rule: SigmaRule, *, lists: Lists) -> Condition:
    """The condition of a rule; several conditions are alternatives.

    Raises: Untranslatable, SigmaError.
    """
    source = _source_of(rule, lists)
    parts = [_convert(parsed.parsed, source, 0) for parsed in rule.detection.parsed_condition]
    return parts[0] if len(parts) == 1 else Some(tuple(parts))


def convert_filter(found: SigmaFilter, *, lists: Lists) -> Condition:
    """The condition of a filter. Raises: Untranslatable, SigmaError."""
    source = Source(logsource_of(found.logsource)[1], lists, is_ours="m365watch" in found.custom_attributes)
    parts = [_convert(parsed.parsed, source, 0) for parsed in found.filter.parsed_condition]
    return parts[0] if len(parts) == 1 else Every(tuple(parts))


def convert_selections(rule: SigmaRule, *, lists: Lists) -> dict[str, Condition]:
    """Each selection by its name. Raises: Untranslatable, SigmaError."""
    source = _source_of(rule, lists)
    return {
        name: _convert(detection.postprocess(rule.detection), source, 0)
        for name, detection in rule.detection.detections.items()
    }


def expand_parts(without: Mapping[str, tuple[str, ...]], *, lists: Lists) -> dict[str, tuple[str, ...]]:
    """The parts of texts by field, each list in the place of its %name%. Raises: Untranslatable."""
    found: dict[str, tuple[str, ...]] = {}
    for field, parts in without.items():
        texts: list[str] = []
        for part in parts:
            name = part.strip("%")
            is_list = part == f"%{name}%"
            texts += _list_of(name, Source("", lists, is_ours=True)) if is_list else [part]
        found[field] = tuple(text.lower() for text in texts)
    return found


def convert_selection(definition: object, *, source: Source) -> Condition:
    """The condition of a selection, or of a part of one, by itself.

    Raises: Untranslatable, SigmaError.
    """
    made = SigmaDetections.from_dict({"part": definition, "condition": "part"}, policy=_POLICY)
    return _convert(made["part"].postprocess(made), source, 0)


def _convert(parsed: object, source: Source, depth: int) -> Condition:
    if depth > DEPTH_MAX:
        raise Untranslatable("is nested too deeply")
    match parsed:
        case ConditionAND():
            return Every(tuple(_convert(part, source, depth + 1) for part in parsed.args))
        case ConditionOR():
            return _merged([_convert(part, source, depth + 1) for part in parsed.args])
        case ConditionNOT():
            return Never(_convert(parsed.args[0], source, depth + 1))
        case ConditionFieldEqualsValueExpression():
            return _field_test(parsed.field, parsed.value, source)
        case ConditionValueExpression():
            return _value_test(None, parsed.value, source)
    raise Untranslatable(f"a {type(parsed).__name__} is not understood")


def _field_test(field: str, value: SigmaType, source: Source) -> Condition:
    if field == "status" and isinstance(value, SigmaString):
        return _NOT_DONE if value.to_plain().lower().startswith("fail") else _DONE
    if field == "eventName":
        if source.service in _ALERT_SERVICES:
            return _merged([_value_test(name, value, source) for name in _ALERT_NAMES])
        if source.service == "exchange":
            return _value_test("Operation", value, source)
        return Some((_value_test("Operation", value, source), _value_test("Name", value, source)))
    if field == "eventSource" and source.service in _ALERT_SERVICES and _names_alerts(value):
        return Test("Workload", OneOf(_ALERT_WORKLOADS))
    if field == "Payload" and not source.is_ours and isinstance(value, SigmaString):
        # What others have as the whole of an alert: anywhere in the record.
        return _value_test(None, value, source)
    if field == "eventData" and isinstance(value, SigmaString):
        value = without_blanks(value)
    if field.removeprefix(_PREFIX) == CLICK_ACTION:
        return _merged([_value_test(CLICK_ACTION, one, source) for one in by_both(value)])
    names = _names_of(field, source)
    if len(names) > 1 and isinstance(value, SigmaNull | SigmaExists):
        names = names[1:]
    return _merged([_value_test(name, value, source) for name in names])


def _names_alerts(value: SigmaType) -> bool:
    return isinstance(value, SigmaString) and value.to_plain().lower() in _ALERT_WORKLOADS


def _names_of(field: str, source: Source) -> tuple[str, ...]:
    """What a field is called here; two where Parameters.Name may be any name, or what is called Name."""
    name = _name_of(field)
    head, _, last = name.rpartition(".")
    if source.is_ours or head not in MAPS or last not in _PARTS_OF_PAIRS:
        return (name,)
    return (name, f"{head}.{_PARTS_OF_PAIRS[last]}")


def _name_of(field: str) -> str:
    name = field.removeprefix(_PREFIX)
    name = _RENAMED.get(name, name)
    if told := why_no_field(name):
        raise Untranslatable(told)
    return name


def _value_test(field: str | None, value: SigmaType, source: Source) -> Condition:
    """A test, or several where the value stands for several."""
    if isinstance(value, SigmaExpansion):
        return _merged([_value_test(field, one, source) for one in value.values])
    if isinstance(value, SigmaTimestampPart):
        part = TimePart(value.timestamp_part.name.lower())
        return Test(field, ComparedTime(part, Order.EQUAL, value.number))
    if isinstance(value, SigmaString):
        return _text(field, value, source)
    if isinstance(value, SigmaRegularExpression):
        return _merged([Test(field, Matches(text)) for text in _patterns(field, value, source)])
    return Test(field, _comparison(value))


def _comparison(value: SigmaType) -> Comparison:
    match value:
        case SigmaNumber():
            return Like((str(value.number),))
        case SigmaBool():
            return Like((str(value.boolean).lower(),))
        case SigmaNull():
            return IsNull()
        case SigmaExists():
            return Exists(value.exists)
        case SigmaCIDRExpression():
            return InNetwork(value.network)
        case SigmaFieldReference():
            return SameAs(_name_of(value.field), _PLACES[value.ends_with, value.starts_with])
        case SigmaCompareExpression():
            order = Order(value.op.name.lower())
            if isinstance(value.number, SigmaTimestampPart):
                part = TimePart(value.number.timestamp_part.name.lower())
                return ComparedTime(part, order, value.number.number)
            return Compared(order, value.number.number)
    raise Untranslatable(f"a value of the kind {type(value).__name__} is not understood")


def _text(field: str | None, value: SigmaString, source: Source) -> Condition:
    cased = isinstance(value, SigmaCasedString)
    whole = _whole_list(value, source)
    if whole is not None and not cased:
        place, values = whole
        if field is None:
            place = "anywhere"
        if place == "whole":
            return Test(field, OneOf(frozenset(one.lower() for one in values)))
        return Test(field, ContainsOneOf(tuple(one.lower() for one in values), place))
    ways = _expanded(value, source)
    if field is None:  # a keyword stands anywhere in what a record says
        ways = (_joined((Wildcard.MANY, *way, Wildcard.MANY)) for way in ways)
    tests = [Test(field, Like(parts, cased=cased)) for parts in ways]
    return _merged(list(tests))


def _whole_list(value: SigmaString, source: Source) -> tuple[str, tuple[str, ...]] | None:
    """The values and their place, where the text is one list and at most a wildcard on either side of it."""
    names = [part for part in value.s if isinstance(part, Placeholder)]
    many = SpecialChars.WILDCARD_MULTI
    if len(names) != 1 or any(part is not many for part in value.s if not isinstance(part, Placeholder)):
        return None
    ends = (value.s[0] is many, value.s[-1] is many)
    return _PLACES[ends], _list_of(names[0].name, source)


def _expanded(value: SigmaString, source: Source) -> Iterator[tuple[str | Wildcard, ...]]:
    """The text's parts, once for every way in which its lists can be filled in."""
    ways: list[tuple[str | Wildcard, ...]] = [()]
    for part in value.s:
        if isinstance(part, Placeholder):
            ways = [(*way, one) for way in ways for one in _list_of(part.name, source)]
        elif isinstance(part, SpecialChars):
            ways = [(*way, _wildcard(part)) for way in ways]
        else:
            ways = [(*way, part) for way in ways]
        if len(ways) > EXPANDED_MAX:
            raise Untranslatable(f"{value} stands for more than {EXPANDED_MAX} texts")
    for way in ways:
        yield _joined(way)


def _wildcard(part: SpecialChars) -> Wildcard:
    return Wildcard.MANY if part is SpecialChars.WILDCARD_MULTI else Wildcard.ONE


def _joined(parts: tuple[str | Wildcard, ...]) -> tuple[str | Wildcard, ...]:
    """The parts with neighbouring texts made one, and neighbouring stars one."""
    found: list[str | Wildcard] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Wildcard) or last is None or isinstance(last, Wildcard):
            if not (part is Wildcard.MANY and last is Wildcard.MANY):
                found.append(part)
        else:
            found[-1] = last + part
    return tuple(found)


def _patterns(field: str | None, value: SigmaRegularExpression, source: Source) -> Iterator[str]:
    """The pattern, once for every way of its lists; operations are the same in either case, here too."""
    named = {_flag(flag) for flag in value.flags} | ({"i"} if field == "Operation" else set())
    flags = "".join(sorted(named))
    prefix = f"(?{flags})" if flags else ""
    for way in _expanded(value.regexp, source):
        yield prefix + "".join(part.value if isinstance(part, Wildcard) else part for part in way)


def _flag(flag: SigmaRegularExpressionFlag) -> str:
    return {"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}[flag.name]


def _list_of(name: str, source: Source) -> tuple[str, ...]:
    found = source.lists.get(name)
    if found is None:
        raise Untranslatable(f"there is no list {name} (lists/{name}.txt beside the rules)")
    return found


def _merged(parts: list[Condition]) -> Condition:
    """The alternatives as one condition: plain texts asked of one field become one look-up."""
    if len(parts) == 1:
        return parts[0]
    plain: dict[str | None, set[str]] = {}
    others: list[Condition] = []
    for part in parts:
        text = _plain_text(part)
        if text is None:
            others.append(part)
        else:
            plain.setdefault(cast(Test, part).field, set()).update(text)
    tests: list[Condition] = [Test(field, OneOf(frozenset(texts))) for field, texts in plain.items()]
    found = (*tests, *others)
    return found[0] if len(found) == 1 else Some(found)


def _plain_text(part: Condition) -> frozenset[str] | None:
    match part:
        case Test(_, OneOf(values)):
            return values
        case Test(_, Like((str() as text,), False)):
            return frozenset((text.lower(),))
        case Test(_, Like((), False)):
            return frozenset(("",))
    return None


__all__ = [
    "Lists",
    "SigmaError",
    "Untranslatable",
    "check_product",
    "convert_condition",
    "convert_selection",
    "convert_selections",
    "expand_parts",
]


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
        raise Untranslatable("names no rule", "correlation", "rules")
    if rule.timespan.seconds > PERIOD_S_MAX:
        raise Untranslatable("is longer than 90 days", "correlation", "timespan")
    sources = tuple(dict.fromkeys(find(reference) for reference in references))
    plain = condition if isinstance(condition, SigmaCorrelationCondition) else None
    aliases = {
        alias.alias: {find(one.reference): name for one, name in alias.mapping.items()}
        for alias in rule.aliases
    }
    fields, groups = _fields_of(plain), tuple(rule.group_by or ())
    for key, names in (("condition", fields), ("group-by", groups)):
        for name in names:
            if name not in aliases and (told := why_no_field(name)):
                raise Untranslatable(told, "correlation", key)
    return Correlation(
        joined=Joined(rule.type.name.lower()),
        sources=sources,
        timespan_s=rule.timespan.seconds,
        group_by=groups,
        aliases=aliases,
        order=Order(plain.op.name.lower()) if plain else Order.AT_LEAST,
        threshold=plain.count if plain else len(sources),
        fields=fields,
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
        told = f"{percentile} is not between 0 and 100"
        raise Untranslatable(told, "correlation", "condition", "percentile")
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
