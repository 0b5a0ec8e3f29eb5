"""Rules as alert definitions of Devo, and those that cannot be, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from m365watch.detection.export.devo_alert_definitions import Definition
from m365watch.detection.export.linq.correlation_query import make_correlation
from m365watch.detection.export.linq.rule_query import Made, make_alert
from m365watch.detection.export.not_translatable import Unsaid, Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule import OPTIONAL, PLACEHOLDER, Rule

WORDS_MAX = 1_000
"""Characters of an alert's headline."""
DESCRIPTION_MAX = 4_000
_UNSHOWN = "(see the record)"

ColumnOf = Callable[[tuple[str, ...]], str | None]
"""The column with the first of these fields that has a value; None where no column can hold it."""


def headline_of(rule: Rule, column_of: ColumnOf) -> str:
    """The explanation, each value as $column; a part in [[ ]] that no column can fill is left out."""
    text = rule.extension.explanation or rule.title
    words = _filled(text, rule, column_of)
    # Half the name of a column is none: what is too long ends with a whole word.
    return words if len(words) <= WORDS_MAX else words[: WORDS_MAX + 1].rsplit(" ", 1)[0]


def description_of(rule: Rule, column_of: ColumnOf, *, left_out: Sequence[str] = ()) -> str:
    """What the rule is about, what its query leaves out, what is to be done, and where the rule is from."""
    extension = rule.extension
    lines = [rule.description.strip()]
    lines += [f"Weaker than the rule at the collector, it does not find: {'; '.join(left_out)}."] * bool(
        left_out
    )
    lines += [f"Next: {_filled(one, rule, column_of)}" for one in extension.check]
    lines += [f"To contain it: {', '.join(one.replace('_', ' ') for one in extension.contain)}."] * bool(
        extension.contain
    )
    lines += [f"False alarms: {one}" for one in rule.false_positives]
    lines += [f"ATT&CK: {', '.join(rule.techniques)}."] * bool(rule.techniques)
    lines.append(f"Rule {rule.id} of m365watch, {rule.status}.")
    return "\n".join(line for line in lines if line)[:DESCRIPTION_MAX]


def _filled(text: str, rule: Rule, column_of: ColumnOf) -> str:
    def column(names: str) -> str | None:
        return column_of(tuple(one for name in names.split("|") for one in _field_of(name, rule).split("|")))

    def keep(part: re.Match[str]) -> str:
        named = PLACEHOLDER.findall(part[1])
        return part[1] if any(column(names) for names in named) or not named else ""

    whole = OPTIONAL.sub(keep, text)
    return PLACEHOLDER.sub(lambda one: f"${found}" if (found := column(one[1])) else _UNSHOWN, whole).replace(
        f"({_UNSHOWN})", _UNSHOWN
    )


def _field_of(name: str, rule: Rule) -> str:
    """The field that a placeholder stands for: an entity's, or the one of that name."""
    return rule.extension.entity.get(name, "UserId" if name == "user" else name)


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
