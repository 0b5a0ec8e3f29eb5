"""Which rules can come to anything, given what is known beside records.

Without a list of hosting providers no record comes from one, and whatever a correlation joins with such a
record is kept for nothing: of those that everybody does all day, thousands an hour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from m365watch.detection.engine.prefilter import specialise
from m365watch.detection.engine.rule_matcher import operations_of
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import constant_fields
from m365watch.detection.fields.record_view import MAPS, View
from m365watch.detection.rules.condition import Condition, Order, SameAs, Test
from m365watch.detection.rules.condition_compiler import compile_condition
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Named, Rule

_RULE = "OperationProperties.Rule"
"""Those of its properties that tell of a mail rule."""
_NO_CHANGE = frozenset({"Parameters", "ModifiedProperties", _RULE})
_NO_DIRECTORY = _NO_CHANGE | {"Target", "ActorContextId", "ExternalAccess"}
_LACKING = {
    "userloggedin": _NO_CHANGE,
    "userloginfailed": _NO_CHANGE,
    "mailitemsaccessed": _NO_CHANGE,
    "fileaccessed": _NO_DIRECTORY,
    "filedeleted": _NO_DIRECTORY,
    "filedeletedfirststagerecyclebin": _NO_DIRECTORY,
    "filedeletedsecondstagerecyclebin": _NO_DIRECTORY,
    "filedownloaded": _NO_DIRECTORY,
    "filerecycled": _NO_DIRECTORY,
    "filesyncdownloadedfull": _NO_DIRECTORY,
    "fileuploaded": _NO_DIRECTORY,
    "fileversionsalldeleted": _NO_DIRECTORY,
    "searchqueryperformed": _NO_DIRECTORY,
    "send": _NO_CHANGE,
    "sendas": _NO_CHANGE,
    "sendonbehalf": _NO_CHANGE,
}
"""By operation in its normal form, the top fields and properties that its records lack, or have empty."""
_MADE_OF = {
    "m365.consent_types": {"ModifiedProperties"},
    "m365.external_recipients": {"Parameters", _RULE},
    "m365.made_grants": {"ModifiedProperties"},
    "m365.outside_actor": {"ActorContextId", "ExternalAccess"},
    "m365.recipients": {"Parameters", _RULE},
    "m365.rule_actions": {_RULE},
    "m365.scopes": {"ModifiedProperties"},
    "m365.target_group": {"Target"},
    # Without a target it is ObjectId, which stands for itself.
    "m365.target_name": {"Target"},
}
"""By derived field, the top fields without all of which it has nothing to say."""


def told_by(condition: Condition, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the fields that a record which fulfils the condition may have."""
    operations = operations_of(condition)
    if not operations:
        return names
    lacking = frozenset.intersection(*(_LACKING.get(one, frozenset()) for one in operations))
    return tuple(name for name in names if not lacking or not _made_of(name) <= lacking)


def _made_of(name: str) -> frozenset[str] | set[str]:
    """The top fields of which a record has to have one; the field itself, where it is one of them."""
    if name.startswith(_RULE):
        return {_RULE}
    top = name.partition(".")[0]
    return _MADE_OF.get(name, {top if top in MAPS else name})


_AT_LEAST_SO_MANY = frozenset({Order.AT_LEAST, Order.EQUAL})


def list_promising(rules: Iterable[Rule], knowledge: Knowledge) -> list[Rule]:
    """The rules that can lead to an alert, in their order; `rules` with all that correlations join.

    Left out are those whose condition no record can fulfil with this knowledge, correlations that cannot
    do without one of them, and what only serves these.
    """
    kept = list(rules)
    prospects = _Prospects({rule.id: rule for rule in kept}, knowledge)
    able = [rule for rule in kept if prospects.may_match(rule.id)]
    wanted = {rule.id for rule in able if rule.alerts}
    # A correlation may be joined by another one: until nothing more is found.
    while found := _joined_by(able, wanted) - wanted:
        wanted |= found
    return [rule for rule in able if rule.id in wanted]


def _joined_by(rules: Iterable[Rule], wanted: Collection[str]) -> set[str]:
    return {
        source
        for rule in rules
        if rule.id in wanted and rule.correlation is not None
        for source in rule.correlation.sources
    }


class _Prospects:
    """Whether rules can match at all; each is looked at once."""

    def __init__(self, by_id: Mapping[str, Rule], knowledge: Knowledge) -> None:
        self._by_id = by_id
        self._knowledge = knowledge
        self._constant = constant_fields(knowledge)
        self._nothing = View({}, knowledge=knowledge)
        self._known: dict[str, bool] = {}

    def may_match(self, rule_id: str) -> bool:
        """Whether a record, or what is joined, can fulfil the rule."""
        if rule_id not in self._known:
            self._known[rule_id] = False  # what joins itself comes to nothing
            rule = self._by_id.get(rule_id)
            self._known[rule_id] = rule is not None and self._may_hold(rule)
        return self._known[rule_id]

    def _may_hold(self, rule: Rule) -> bool:
        if rule.correlation is not None:
            present = {source for source in rule.correlation.sources if self.may_match(source)}
            return _may_join(rule.correlation, present)
        return rule.condition is None or self._may_fulfil(rule.condition)

    def _may_fulfil(self, condition: Condition) -> bool:
        return specialise(condition, self._holds) is not False

    def _holds(self, test: Test) -> bool | None:
        """Whether a test holds of every record; None where that depends on the record."""
        if test.field not in self._constant or isinstance(test.comparison, SameAs):
            return None
        return compile_condition(test)(self._nothing)


def _may_join(correlation: Correlation, present: Collection[str]) -> bool:
    """Whether the correlation can hold where only the rules that are `present` ever match."""
    if correlation.joined is Joined.RISK:
        return True
    if correlation.joined in {Joined.TEMPORAL, Joined.ORDERED} and correlation.order in _AT_LEAST_SO_MANY:
        if correlation.expression is not None:
            return may_be_fulfilled(correlation.expression, present)
        return len(present) >= correlation.threshold
    return bool(present)


def may_be_fulfilled(expression: Expression, present: Collection[str]) -> bool:
    """Whether the expression can hold in some stretch of time, of the rules that have matched at all."""
    if isinstance(expression, Named):
        return expression.rule_id in present
    if expression.operator == "not":
        return True
    parts = [may_be_fulfilled(part, present) for part in expression.parts]
    return all(parts) if expression.operator == "and" else any(parts)
