"""A rule with a condition as query and trigger: what makes alerts of its rows, by the rule's kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from m365watch.detection.export.devo_alert_definitions import Changed, Each, Low, Rolling, Several, Trigger
from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.condition_to_linq import ask
from m365watch.detection.export.linq.devo_schema import PREFIX, Columns, table_of
from m365watch.detection.export.linq.query_builder import COUNT, Draft
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.condition_operations import operations_of
from m365watch.detection.rules.extension import Change, Deviation, Kind
from m365watch.detection.rules.rule import Rule

LOOKS_EVERY_S = 300
"""Devo's own pack looks at rows in periods of 5 minutes."""
TRAVEL_PERIOD_S = 3_600
"""As Devo's own alert about travel has it."""
_DAY_S = 86_400


@dataclass(slots=True)
class Made:
    """A query in the making, its trigger, and in what it differs from the rule here."""

    draft: Draft
    trigger: Trigger
    differences: list[str]


def make_alert(rule: Rule, knowledge: Knowledge) -> Made:
    """The rule as Devo can run it. Raises: Unsayable."""
    assert rule.condition is not None  # noqa: S101 - correlations are made elsewhere
    operations = operations_of(rule.condition)
    columns = Columns(table_of(rule.service, knowledge), knowledge, operations=operations)
    draft = Draft(columns, wanted=ask(rule.condition, columns), operations=operations)
    make = {
        Kind.EACH: _each,
        Kind.SEVERAL: _several,
        Kind.LOW: _low,
        Kind.ROLLING: _rolling,
        Kind.GRADIENT: _changed,
        Kind.DEVIATION: _changed,
        Kind.FIRST_SEEN: _first_seen,
        Kind.TRAVEL: _travel,
    }[rule.kind]
    made = make(rule, draft)
    if rule.extension.raises:
        made.differences.append(
            f"the priority is always that of {rule.severity}; here it rises in some cases "
            f"({', '.join(f'{one.to} with {one.when}' for one in rule.extension.raises)})"
        )
    return made


def _each(rule: Rule, draft: Draft) -> Made:
    """One row for each group and 5 minutes; here matches of one group within `quiet` are one alert."""
    differences = [f"matches of 5 minutes make an alert, and not those of {rule.extension.quiet // 3600:g} h"]
    draft.every_s = LOOKS_EVERY_S
    for name in ("OrganizationId", *_group_of(rule)):
        try:
            draft.add_key(name, required=False)
        except Unsayable as error:
            differences.append(f"not grouped by {name}: {error}")
    draft.add_times()
    return Made(draft, Each(), differences)


def _group_of(rule: Rule) -> tuple[str, ...]:
    extension = rule.extension
    return extension.group_by or extension.entity_fields


def _several(rule: Rule, draft: Draft) -> Made:
    several = rule.extension.several
    assert several is not None  # noqa: S101 - the kind says so
    keys = [draft.add_key(name, required=False) for name in several.keys or rule.extension.group_by]
    draft.is_grouped = False
    period = timedelta(seconds=several.period)
    return Made(draft, Several(period, several.threshold, tuple(keys)), [])


def _low(rule: Rule, draft: Draft) -> Made:
    low = rule.extension.low
    assert low is not None  # noqa: S101 - the kind says so
    if rule.extension.group_by:
        raise Unsayable("low: Devo counts the rows of a query together, and not by group")
    draft.is_grouped = False
    return Made(
        draft, Low(timedelta(seconds=low.period), low.threshold), ["silence counts from the first day on"]
    )


def _rolling(rule: Rule, draft: Draft) -> Made:
    rolling = rule.extension.rolling
    assert rolling is not None  # noqa: S101 - the kind says so
    for name in ("OrganizationId", *rule.extension.group_by):
        draft.add_key(name, required=False)
    draft.add_times()
    draft.having = f"{COUNT} >= {rolling.threshold}"
    trigger = Rolling(timedelta(seconds=rolling.period), timedelta(seconds=rolling.back_period))
    return Made(draft, trigger, [])


def _changed(rule: Rule, draft: Draft) -> Made:
    """Devo compares the periods' values by itself; it does not say over how many of them."""
    change = rule.extension.gradient or rule.extension.deviation
    assert change is not None  # noqa: S101 - the kind says so
    for name in ("OrganizationId", *rule.extension.group_by):
        draft.add_key(name, required=False)
    draft.every_s = change.period
    draft.add_times()
    value = f"{PREFIX}value"
    draft.totals[value] = _value_of(change, draft)
    differences = [
        (
            "in what Devo measures a threshold that is not absolute, and over how many periods, is not "
            f"documented: {change.threshold:g} is what the rule has here; look at the first alerts"
        ),
        "both directions count",
    ]
    if change.at_least > 1:
        differences.append(f"periods with less than {change.at_least:g} count too")
    trigger = Changed(str(rule.kind), change.threshold, change.absolute, (value,))
    return Made(draft, trigger, differences)


def _value_of(change: Change | Deviation, draft: Draft) -> str:
    if not change.value:
        return "count()"
    return f"sum(nvl(float({draft.columns.text(change.value)}), 0.0))"


def _travel(rule: Rule, draft: Draft) -> Made:
    """Two countries within an hour: LINQ sees one row at a time, and compares no two places."""
    columns = draft.columns
    country, address = columns.text("m365.country"), columns.text("m365.ip")
    for name in ("OrganizationId", *rule.extension.group_by):
        draft.add_key(name, required=False)
    draft.wanted = linq.all_of([draft.wanted, f"isnotnull({country})"])
    draft.every_s = TRAVEL_PERIOD_S
    draft.add_times()
    distinct = f"{PREFIX}distinct"
    draft.totals[distinct] = f"sizedistinct({country})"
    for field, column in (("m365.country", country), ("m365.ip", address)):
        draft.shown[field] = f"every_{column.removeprefix(PREFIX)}"
        draft.totals[draft.shown[field]] = f"collectdistinct({column})"
    draft.having = f"{distinct} > 1"
    columns.leave_out("two places of one country, however far apart")
    columns.leave_out(
        "a journey with more than an hour between its sign-ins, or with a full hour between them"
    )
    return Made(draft, Each(), ["two countries within an hour are a hit, even if they are neighbours"])


def _first_seen(rule: Rule, draft: Draft) -> Made:
    """Once a day, what the day before had and the days before that did not."""
    first = rule.extension.first_seen
    assert first is not None  # noqa: S101 - the kind says so
    draft.add_key("OrganizationId", required=False)
    for name in first.key:
        draft.add_key(name, required=True)
    draft.add_times()
    seen = f"{PREFIX}seen"
    draft.totals[seen] = "min(eventdate)"
    draft.having = f'({seen} >= today("UTC") - 1d and {seen} < today("UTC"))'
    days = -(-first.period // _DAY_S)
    trigger = Rolling(timedelta(days=1), timedelta(days=days + 2))
    return Made(
        draft,
        trigger,
        [
            "it is told on the day after, once the day is over in UTC",
            f"install it once the table goes back {days} days: before that everything is new",
            "what counts is the day of arrival, and not that of the record",
        ],
    )
