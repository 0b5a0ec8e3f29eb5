"""What an alert at Devo says: the rule's own words, with columns of the query where the values stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
