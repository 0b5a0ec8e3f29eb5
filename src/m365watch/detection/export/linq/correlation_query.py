"""A correlation as one grouped query: what its rules match is told apart by columns, and counted per group.

Periods of a query stand side by side, from full hours on, and do not slide: what lies on both sides of a
boundary is counted apart. That is said of each such alert. A rolling trigger would look at every span, but at
longer ones than the rule asks for, so that fewer a minute would do; and each run would tell the same again.
"""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.detection.export.devo_alert_definitions import Each
from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.condition_to_linq import ask, sign_of
from m365watch.detection.export.linq.derived_columns import WEAKER
from m365watch.detection.export.linq.devo_schema import PREFIX, Columns, common_table, table_of
from m365watch.detection.export.linq.query_builder import Draft
from m365watch.detection.export.linq.rule_query import Made
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.condition_operations import operations_of, union_of
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Joint, Named, Rule
from m365watch.detection.rules.spans import span_text

_FAR_MS = 9_999_999_999_999
_TOTALS = {
    Joined.SUM: "sum({0})",
    Joined.AVERAGE: "avg({0})",
    Joined.MEDIAN: "median({0})",
    Joined.PERCENTILE: "percentile({0}, {1})",
}


def make_correlation(rule: Rule, by_id: Mapping[str, Rule], knowledge: Knowledge) -> Made:
    """The correlation as Devo can run it. Raises: Unsayable."""
    return _Joining(rule, by_id, knowledge).make()


class _Joining:
    """One correlation on its way into a query."""

    def __init__(self, rule: Rule, by_id: Mapping[str, Rule], knowledge: Knowledge) -> None:
        self._rule = rule
        self._by_id = by_id
        self._outer = _correlation_of(rule)
        self._leaves = self._list_leaves(self._outer)
        conditions = [one.condition for one in self._leaves.values() if one.condition is not None]
        operations = union_of(map(operations_of, conditions))
        table = common_table({table_of(one.service, knowledge) for one in self._leaves.values()})
        self._draft = Draft(Columns(table, knowledge, operations=operations), operations=operations)
        self._flags: dict[str, str] = {}

    def make(self) -> Made:
        draft, columns = self._draft, self._draft.columns
        for number, (rule_id, leaf) in enumerate(self._leaves.items(), 1):
            assert leaf.condition is not None  # noqa: S101 - leaves have one
            asked = ask(leaf.condition, columns)
            self._flags[rule_id] = columns.make(f"is_{number}", f"ifthenelse({asked}, 1, 0)")
        draft.wanted = linq.any_of(f"{flag} = 1" for flag in self._flags.values())
        draft.add_key("OrganizationId", required=False)
        self._add_keys()
        draft.every_s = self._outer.timespan_s
        draft.add_times()
        draft.having = self._having(self._outer, depth=0)
        columns.leave_out(
            f"what lies on both sides of a boundary between periods of {span_text(draft.every_s)},"
            " which stand side by side"
        )
        return Made(draft, Each(), [])

    def _list_leaves(self, correlation: Correlation) -> dict[str, Rule]:
        """The rules with conditions that it comes down to. Raises: Unsayable."""
        found: dict[str, Rule] = {}
        for source in correlation.sources:
            inner = self._by_id[source]
            if inner.correlation is not None:
                self._check_alike(inner, inner.correlation)
                found |= self._list_leaves(inner.correlation)
            elif inner.kind is not Kind.EACH:
                raise Unsayable(
                    f"it joins alerts of the kind {inner.kind} ({inner.title}), which one query has not"
                )
            else:
                found[source] = inner
        return found

    def _check_alike(self, inner: Rule, correlation: Correlation) -> None:
        """An inner correlation can be worked out in the same groups, if it has the same."""
        outer = self._outer
        same = (correlation.group_by, correlation.timespan_s) == (outer.group_by, outer.timespan_s)
        fits = outer.joined is Joined.TEMPORAL or (
            outer.joined is Joined.ORDERED
            and correlation.joined is Joined.COUNT
            and inner.id == outer.sources[0]
        )
        if not same or not fits or correlation.aliases or outer.aliases:
            raise Unsayable(
                f"it joins alerts of another correlation ({inner.title}), which one query has not"
            )

    def _add_keys(self) -> None:
        """Group by the fields: what is counted has one of them at least, what is joined has all."""
        keys = [self._add_key(name) for name in self._outer.group_by]
        there = [f'{key} != ""' for key in keys]
        if self._outer.joined not in (Joined.TEMPORAL, Joined.ORDERED) and there:
            there = [linq.any_of(there)]
        self._draft.wanted = linq.all_of([self._draft.wanted, *there])

    def _add_key(self, name: str) -> str:
        """Group by a field, which may have another name in each rule."""
        aliases = self._outer.aliases.get(name)
        if aliases is None:
            return self._draft.add_key(name, required=False)
        key = self._draft.columns.make(f"by_{name}", f"lower({self._aliased(aliases)})")
        self._draft.keys.append(key)
        return key

    def _aliased(self, aliases: Mapping[str, str]) -> str:
        value = '""'
        for rule_id, flag in reversed(self._flags.items()):
            if rule_id in aliases:
                text = linq.never_null(self._draft.columns.text(aliases[rule_id]))
                if aliases[rule_id] in WEAKER:
                    self._draft.columns.leave_out(WEAKER[aliases[rule_id]])
                value = f"ifthenelse({flag} = 1, {text}, {value})"
        return value

    def _having(self, correlation: Correlation, *, depth: int) -> str:
        """What a group has to fulfil, with the totals that it needs."""
        match correlation.joined:
            case Joined.TEMPORAL:
                return self._all_there(correlation, depth)
            case Joined.ORDERED:
                return self._in_order(correlation)
            case Joined.COUNT:
                total = self._total("n", self._sum_of(correlation))
            case Joined.DISTINCT:
                counted = self._counted(correlation)
                total = self._total("distinct", f"sizedistinct({counted})")
                self._total("values", f"collectdistinct({counted})")
            case Joined.SUM | Joined.AVERAGE | Joined.MEDIAN | Joined.PERCENTILE:
                number = f"nvl(float({self._counted(correlation)}), 0.0)"
                total = self._total(
                    "value", _TOTALS[correlation.joined].format(number, correlation.percentile)
                )
            case Joined.RISK:
                raise Unsayable("risk points exist only in m365watch")
        return f"{total} {sign_of(correlation.order)} {correlation.threshold:g}"

    def _total(self, name: str, how: str) -> str:
        column, number = f"{PREFIX}{name}", 2
        while self._draft.totals.get(column, how) != how:
            column, number = f"{PREFIX}{name}_{number}", number + 1
        self._draft.totals[column] = how
        return column

    def _sum_of(self, correlation: Correlation) -> str:
        return f"sum({' + '.join(self._flags[one] for one in correlation.sources)})"

    def _counted(self, correlation: Correlation) -> str:
        """The column with what is counted; null where it is none of the correlation's rows."""
        parts = []
        for name in correlation.fields:
            aliases = correlation.aliases.get(name)
            value = self._aliased(aliases) if aliases else linq.never_null(self._draft.columns.text(name))
            parts.append(f"lower({value})")
        if not parts:
            raise Unsayable("it counts values, and names no field")
        joined = ' + "|" + '.join(parts)
        is_any = linq.any_of(f"{self._flags[one]} = 1" for one in correlation.sources)
        filled = linq.peek(f'ifthenelse({is_any}, {joined}, "")', r"(?s)^.*[^|].*$", 0)
        return self._draft.columns.make(f"counted_{'_'.join(correlation.fields)}", filled)

    def _all_there(self, correlation: Correlation, depth: int) -> str:
        if correlation.expression is not None:
            return self._expressed(correlation.expression, depth)
        return linq.all_of(self._is_there(source, depth) for source in correlation.sources)

    def _expressed(self, expression: Expression, depth: int) -> str:
        match expression:
            case Named(rule_id):
                return self._is_there(rule_id, depth)
            case Joint(operator, parts):
                found = [self._expressed(part, depth) for part in parts]
                if operator == "not":
                    return linq.negated(found[0])
                return linq.all_of(found) if operator == "and" else linq.any_of(found)

    def _is_there(self, rule_id: str, depth: int) -> str:
        inner = self._by_id[rule_id].correlation
        if inner is not None:
            return f"({self._having(inner, depth=depth + 1)})"
        flag = self._flags[rule_id]
        return f"{self._total(f'n_{flag.removeprefix(PREFIX)}', f'sum({flag})')} > 0"

    def _in_order(self, correlation: Correlation) -> str:
        """Two rules: the first is fulfilled no later than the last match of the second."""
        if correlation.expression is not None or len(correlation.sources) != 2:
            raise Unsayable("an order of more than two rules, or of alternatives, has no word in LINQ")
        first, second = correlation.sources
        if self._by_id[second].correlation is not None:
            raise Unsayable("an order that ends with a count has no word in LINQ")
        created = f"epoch({self._draft.created()})"
        late = f"ifthenelse({self._flags[second]} = 1, {created}, 0)"
        ended = self._total("ended_ms", f"max({self._draft.columns.make('second_at', late)})")
        counted = self._by_id[first].correlation
        if counted is not None:
            return self._counted_first(counted, created=created, ended=ended)
        early = f"ifthenelse({self._flags[first]} = 1, {created}, {_FAR_MS})"
        begun = self._total("begun_ms", f"min({self._draft.columns.make('first_at', early)})")
        return f"{begun} <= {ended}"

    def _counted_first(self, counted: Correlation, *, created: str, ended: str) -> str:
        """So many matches, the last of which is no later than the second rule's last one.

        The times of what is no such match lie in the far future, and so behind all others when sorted.
        """
        least = counted.threshold + (1 if counted.order is Order.MORE else 0)
        if counted.order not in (Order.MORE, Order.AT_LEAST):
            raise Unsayable("an order that begins with at most so many has no word in LINQ")
        is_any = linq.any_of(f"{self._flags[one]} = 1" for one in counted.sources)
        early = self._draft.columns.make("first_at", f"ifthenelse({is_any}, {created}, {_FAR_MS})")
        times = self._total("times", f"collect({early})")
        reached = f"{PREFIX}reached_ms"
        self._draft.after += [
            f"select sort({times})[{least - 1:g}] as {reached}",
            f"where {reached} <= {ended}",
        ]
        return f"{self._total('n', self._sum_of(counted))} >= {least:g}"


def _correlation_of(rule: Rule) -> Correlation:
    assert rule.correlation is not None  # noqa: S101 - only correlations come here
    return rule.correlation
