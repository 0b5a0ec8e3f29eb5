"""What matches are kept for: a rule's own alerts, and those of the correlations that join it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from m365watch.detection.correlation.impossible_travel import PLACE
from m365watch.detection.correlation.period_rules import bucket_of
from m365watch.detection.engine.match_consumers import Sought, Use
from m365watch.detection.engine.rule_pruning import list_promising, told_by
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import constant_fields
from m365watch.detection.rules.containment import READS
from m365watch.detection.rules.extension import Kind
from m365watch.detection.rules.rule import Joined, Rule


def list_sought(rules: Iterable[Rule], knowledge: Knowledge) -> list[Sought]:
    """What is looked for in records, of all that can come to something.

    `rules` include those that correlations join.
    """
    promising = list_promising(rules, knowledge)
    uses, constant = plan_uses(promising), constant_fields(knowledge)
    found = []
    for rule in promising:
        possible = tuple(use for use in uses.get(rule.id, ()) if not use.is_idle(constant))
        if rule.condition is not None and possible:
            raises = tuple(
                (one.to, rule.selections[one.when])
                for one in rule.extension.raises
                if one.when in rule.selections
            )
            found.append(Sought(rule.id, rule.severity, rule.condition, possible, raises))
    return found


def plan_uses(rules: Iterable[Rule]) -> dict[str, tuple[Use, ...]]:
    """By the id of each rule with a condition, for whom its matches are kept."""
    by_id = {rule.id: rule for rule in rules}
    outer: dict[str, list[Rule]] = {}
    for rule in by_id.values():
        if rule.correlation is not None:
            for source in rule.correlation.sources:
                outer.setdefault(source, []).append(rule)
    uses: dict[str, tuple[Use, ...]] = {}
    for rule in by_id.values():
        if rule.condition is not None:
            joining = outer.get(rule.id, ())
            if links(rule):
                found = (_own_use(rule, outer),) if rule.alerts or joining else ()
            else:
                own = (_own_use(rule, outer),) if rule.alerts else ()
                found = (*own, *(_joined_use(one, rule.id, outer) for one in joining))
            uses[rule.id] = tuple(replace(use, kept=told_by(rule.condition, use.kept)) for use in found)
    return uses


def links(rule: Rule) -> bool:
    """Whether correlations join the rule's episodes, and not the matches themselves."""
    return rule.correlation is not None or rule.kind is not Kind.EACH


def group_of(rule: Rule) -> tuple[str, ...]:
    """The fields that make the groups of the rule's alerts; none where it looks at whole tenants."""
    extension = rule.extension
    if rule.correlation is not None:
        return rule.correlation.group_by
    if extension.first_seen is not None:
        return extension.first_seen.key
    if extension.several is not None and extension.several.keys:
        return extension.several.keys
    return extension.group_by or (() if rule.kind is Kind.LOW else extension.entity_fields)


def _own_use(rule: Rule, outer: Mapping[str, list[Rule]]) -> Use:
    extension = rule.extension
    group, requires = group_of(rule), extension.first_seen is not None
    keys = extension.several.keys if extension.several is not None else ()
    spreads = requires or bool(keys or extension.group_by)
    extra = ("m365.ip", PLACE, "m365.country") if rule.kind is Kind.TRAVEL else ()
    kept = (*kept_fields(rule), *extra, *_kept_for_others(rule, outer))
    change = extension.gradient or extension.deviation
    counted = (change.value,) if change is not None and change.value else ()
    # By the places that are counted a tally sees that nobody has been anywhere.
    required = (PLACE,) if rule.kind is Kind.TRAVEL else ()
    bucket_ms = bucket_of(extension.first_seen) if extension.first_seen is not None else 0
    return Use(
        rule.id,
        group,
        spreads,
        requires,
        tuple(dict.fromkeys(kept)),
        counted or required,
        required,
        bucket_ms,
    )


def _joined_use(rule: Rule, source: str, outer: Mapping[str, list[Rule]]) -> Use:
    correlation = rule.correlation
    assert correlation is not None  # noqa: S101 - only correlations are among the outer rules
    kept = dict.fromkeys((*kept_fields(rule), *_kept_for_others(rule, outer)))
    counted = tuple(correlation.aliases.get(name, {}).get(source, name) for name in correlation.fields)
    return Use(
        rule.id,
        correlation.group_fields(source),
        spreads=True,
        requires_group=True,
        kept=tuple(kept),
        counted=counted,
        bucket_ms=once_ms(rule),
        by_counted=True,
        # What is counted by session counts without one, too; nothing is joined on what is absent.
        fills_gaps=correlation.joined not in (Joined.TEMPORAL, Joined.ORDERED),
    )


def once_ms(rule: Rule) -> int:
    """The stretch of time in which a counted value counts once; 0 where each record counts."""
    correlation, once = rule.correlation, rule.extension.once
    return once * 1000 if once and correlation is not None and correlation.joined is Joined.DISTINCT else 0


def _kept_for_others(rule: Rule, outer: Mapping[str, list[Rule]]) -> list[str]:
    """What the correlations that join the rule's episodes, and those beyond them, will want to know."""
    kept: list[str] = []
    left, seen = [rule], {rule.id}
    while left:
        inner = left.pop()
        for one in outer.get(inner.id, ()):
            if one.id not in seen and one.correlation is not None:
                seen.add(one.id)
                left.append(one)
                aliases = one.correlation.aliases
                kept += kept_fields(one)
                kept += one.correlation.group_fields(inner.id)
                kept += (aliases.get(name, {}).get(inner.id, name) for name in one.correlation.fields)
    return kept


def kept_fields(rule: Rule) -> tuple[str, ...]:
    """The fields whose values an alert of the rule repeats, or a plan that contains it is made of."""
    named = [name for name in rule.placeholders if name[:1].isupper() or name.startswith("m365.")]
    correlation = rule.correlation
    grouped = correlation.group_by if correlation is not None else rule.extension.group_by
    aliases = correlation.aliases if correlation is not None else {}
    entities = (one for name in rule.extension.entity.values() for one in name.split("|"))
    acted_on = (name for word in rule.extension.contain for name in READS.get(word, ()))
    trusted = filter(None, rule.extension.trusted.split("|"))
    wanted = dict.fromkeys((*entities, *named, *grouped, *acted_on, *trusted))
    return tuple(name for name in wanted if name not in aliases)
