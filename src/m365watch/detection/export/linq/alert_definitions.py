"""Rules as alert definitions of Devo, and those that cannot be, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from m365watch.detection.export.devo_alert_definitions import Definition
from m365watch.detection.export.linq.correlation_query import make_correlation
from m365watch.detection.export.linq.rule_query import Made, make_alert
from m365watch.detection.export.linq.words import description_of, headline_of
from m365watch.detection.export.not_translatable import Unsaid, Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule import Rule

SUBCATEGORY = "m365watch"


@dataclass(frozen=True, slots=True)
class Exported:
    """A rule as Devo can have it."""

    rule: Rule
    definition: Definition
    differences: tuple[str, ...] = ()
    """In what the alert at Devo is another than the one here."""


@dataclass(frozen=True, slots=True)
class Export:
    """What came of the rules."""

    exported: tuple[Exported, ...]
    unsaid: tuple[Unsaid, ...]


def export_rules(rules: Iterable[Rule], *, every: Mapping[str, Rule], knowledge: Knowledge) -> Export:
    """The rules that make alerts, as definitions; `every` has those that correlations join, by their ids."""
    exported: list[Exported] = []
    unsaid: list[Unsaid] = []
    for rule in rules:
        if not rule.alerts:
            continue
        try:
            exported.append(export_rule(rule, every=every, knowledge=knowledge))
        except Unsayable as error:
            unsaid.append(Unsaid(rule, str(error)))
    return Export(tuple(exported), tuple(unsaid))


def export_rule(rule: Rule, *, every: Mapping[str, Rule], knowledge: Knowledge) -> Exported:
    """The rule as a definition. Raises: Unsayable."""
    made = make_correlation(rule, every, knowledge) if rule.correlation else make_alert(rule, knowledge)
    if rule.extension.from_severity.rank:
        least = rule.extension.from_severity
        raise Unsayable(f"it joins what is {least} or graver, and no row says how grave it is")
    if rule.extension.trusted:
        made.draft.want_untrusted(rule.extension.trusted)
    left_out = made.draft.columns.left_out
    told = [f"it does not find: {one}" for one in left_out]
    return Exported(rule, _definition(rule, made, left_out), (*made.differences, *told))


def _definition(rule: Rule, made: Made, left_out: Sequence[str]) -> Definition:
    aliases = rule.correlation.aliases if rule.correlation is not None else {}

    def column_of(fields: tuple[str, ...]) -> str | None:
        return made.draft.carry(tuple(one for one in fields if one not in aliases))

    detection = f"{rule.extension.detection} " if rule.extension.detection else ""
    return Definition(
        name=f"m365watch {detection}{rule.title}",
        headline=headline_of(rule, column_of),
        description=description_of(rule, column_of, left_out=left_out),
        query=made.draft.text(),
        trigger=made.trigger,
        priority=rule.severity.rank + 1,
        subcategory=SUBCATEGORY,
    )
