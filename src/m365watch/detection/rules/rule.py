"""A rule as the engine has it: parsed, checked, its condition ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from m365watch.detection.rules.condition import Condition, Order
from m365watch.detection.rules.extension import Extension, Kind, Severity

TACTICS = (
    "reconnaissance",
    "resource-development",
    "initial-access",
    "execution",
    "persistence",
    "privilege-escalation",
    "defense-evasion",
    "credential-access",
    "discovery",
    "lateral-movement",
    "collection",
    "command-and-control",
    "exfiltration",
    "impact",
)
"""In the order of an attack."""


PLACEHOLDER = re.compile(r"\{([^{}\s][^{}]{0,200})\}")
OPTIONAL = re.compile(r"\[\[(.{0,600}?)\]\]", re.DOTALL)


class Joined(StrEnum):
    """What a correlation asks of the matches within its timespan; Sigma's types."""

    COUNT = "event_count"
    DISTINCT = "value_count"
    SUM = "value_sum"
    AVERAGE = "value_avg"
    PERCENTILE = "value_percentile"
    MEDIAN = "value_median"
    TEMPORAL = "temporal"
    ORDERED = "temporal_ordered"
    RISK = "risk"
    """Our own: points that alerts have put on an entity."""


@dataclass(frozen=True, slots=True)
class Named:
    """A rule that has matched, in a correlation's expression."""

    rule_id: str


@dataclass(frozen=True, slots=True)
class Joint:
    """Parts of a correlation's expression under `and`, `or` or `not`."""

    operator: str
    parts: tuple[Expression, ...]


Expression = Named | Joint


@dataclass(frozen=True, slots=True)
class Correlation:
    """Sigma's correlation: matches of other rules, joined within a timespan."""

    joined: Joined
    sources: tuple[str, ...]
    """The ids of the rules whose matches are joined, in their order."""
    timespan_s: int
    group_by: tuple[str, ...] = ()
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By alias and source, the field that it stands for there."""
    order: Order = Order.AT_LEAST
    threshold: float = 1
    fields: tuple[str, ...] = ()
    """Whose values are counted, summed and so on."""
    percentile: int = 50
    expression: Expression | None = None

    def group_fields(self, source: str) -> tuple[str, ...]:
        """The fields of a source's records that make the group."""
        return tuple(self.aliases.get(name, {}).get(source, name) for name in self.group_by)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    id: str
    title: str
    severity: Severity
    path: str
    """The file that it comes from, for whoever has to look."""
    name: str = ""
    status: str = "stable"
    description: str = ""
    author: str = ""
    date: str = ""
    techniques: tuple[str, ...] = ()
    """T1114.003"""
    tactics: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    service: str = ""
    condition: Condition | None = None
    """What a record has to fulfil; None for a correlation."""
    selections: Mapping[str, Condition] = field(default_factory=dict)
    correlation: Correlation | None = None
    extension: Extension = field(default_factory=Extension)
    alerts: bool = True
    """False for a rule that only serves correlations."""

    @property
    def names(self) -> tuple[str, ...]:
        """By what it may be called: id, name, title, number in the catalogue, aliases."""
        return (self.id, self.name, self.title, self.extension.detection, *self.extension.aliases)

    @property
    def kind(self) -> Kind:
        """What makes alerts of its matches, where it is no correlation."""
        return self.extension.effective_kind

    @property
    def risk(self) -> int:
        """Points that an alert of it puts on its entities."""
        given = self.extension.risk
        return (0, 5, 15, 40, 70)[self.severity.rank] if given is None else given

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What its texts for the analyst have in braces, each alternative of {A|B} by itself."""
        return list_placeholders(self._texts)

    @property
    def choices(self) -> tuple[str, ...]:
        """What its texts and entities have of the kind A|B."""
        named = (one for text in self._texts if "|" in text for one in PLACEHOLDER.findall(text))
        return tuple(dict.fromkeys(one for one in (*self.extension.entity.values(), *named) if "|" in one))

    @property
    def _texts(self) -> tuple[str, ...]:
        return (self.extension.headline, self.extension.explanation, *self.extension.check)


def list_placeholders(texts: Iterable[str]) -> tuple[str, ...]:
    """What texts have in braces, each alternative of {A|B} by itself."""
    found = [one for text in texts for one in PLACEHOLDER.findall(text)]
    return tuple(dict.fromkeys(name for one in found for name in one.split("|")))


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """The text with each {name} replaced; what has no value reads "(unknown)".

    {A|B} is what `values` have under that name, or else the first of them that has a value. What stands in
    [[ ]] is left out whole where nothing in it has one.
    """

    def value_of(names: str) -> str:
        return next((values[name] for name in (names, *names.split("|")) if values.get(name)), "")

    def keep(part: re.Match[str]) -> str:
        return part[1] if any(map(value_of, PLACEHOLDER.findall(part[1]))) else ""

    return PLACEHOLDER.sub(lambda found: value_of(found[1]) or "(unknown)", OPTIONAL.sub(keep, text))
