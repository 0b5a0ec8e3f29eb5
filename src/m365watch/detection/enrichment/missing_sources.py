"""What rules ask for and nobody has told: they find less then, or nothing, and it is said which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import CATALOGUE, INDICATORS, constant_fields
from m365watch.detection.rules.condition import Condition, list_fields
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.rule import Joined, Rule

SETTINGS = {
    "places": "databases",
    "networks": "databases",
    "tor": "tor_lists",
    "vpn": "vpn_lists",
    "hosting": "hosting_lists",
    "vip": "vip_lists",
    "admin": "admin_lists",
    **dict.fromkeys(INDICATORS, "indicator_lists"),
}
"""The key of `detections.enrich` that would tell."""
_ANY_OF_SEVERAL = {Joined.RISK, Joined.TEMPORAL}
"""Correlations that work on without one of the rules that they join."""


def lacks_of(rule: Rule, knowledge: Knowledge) -> tuple[str, ...]:
    """The keys of `detections.enrich` that are not set, and without which it finds less or nothing."""
    missing = fields_of(rule) & constant_fields(knowledge)
    return tuple(sorted({SETTINGS[_source_of(name)] for name in missing}))


def all_lacks(rules: Iterable[Rule], knowledge: Knowledge) -> Mapping[str, tuple[str, ...]]:
    """By the id of each rule that lacks something, what it lacks."""
    every = {rule.id: rule for rule in rules}
    found = {rule.id: set(lacks_of(rule, knowledge)) for rule in every.values()}
    for rule in every.values():
        if rule.correlation is not None and rule.correlation.joined not in _ANY_OF_SEVERAL:
            found[rule.id].update(*(found.get(source, ()) for source in rule.correlation.sources))
    return {rule_id: tuple(sorted(lacks)) for rule_id, lacks in found.items() if lacks}


def rules_without(
    rules: Iterable[Rule], lacks: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    """By the key that is missing, the rules that would want it, by their numbers."""
    found: dict[str, dict[str, None]] = {}
    for rule in rules:
        for key in lacks.get(rule.id, ()):
            found.setdefault(key, {})[rule.extension.detection or rule.title] = None
    return {key: tuple(names) for key, names in sorted(found.items())}


def fields_of(rule: Rule) -> frozenset[str]:
    """Every field that decides what the rule finds; not those that its words repeat."""
    extension = rule.extension
    conditions: list[Condition] = [rule.condition] if rule.condition is not None else []
    conditions += [rule.selections[one.when] for one in extension.raises if one.when in rule.selections]
    named = {name for one in conditions for name in list_fields(one) or ()}
    named |= set(extension.group_by)
    if extension.first_seen is not None:
        named |= set(extension.first_seen.key)
    if rule.kind is Kind.TRAVEL:
        named.add("m365.place")
    if rule.correlation is not None:
        aliases = rule.correlation.aliases
        named |= {*rule.correlation.group_by, *rule.correlation.fields} - aliases.keys()
        named |= {field for alias in aliases.values() for field in alias.values()}
    return frozenset(named)


def _source_of(field: str) -> str:
    """What has to be known for the field to say anything."""
    name = field.removeprefix("m365.")
    return CATALOGUE[name].of_address or name
