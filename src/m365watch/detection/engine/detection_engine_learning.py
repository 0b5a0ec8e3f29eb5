"""What has to be known of a tenant's past before a rule tells anything, and what is judged anew by that."""

from __future__ import annotations

from m365watch.detection.rules.rule import Rule


def learns(rule: Rule) -> bool:
    """Whether what the rule tells depends on since when the tenant is watched."""
    return rule.extension.first_seen is not None or rule.extension.deviation is not None


def unsettled(rule: Rule, *, since_ms: int, known_ms: int) -> tuple[int, int]:
    """Where a group has matches, [from, to), that is judged anew once its tenant is watched since earlier."""
    first_seen, deviation = rule.extension.first_seen, rule.extension.deviation
    if first_seen is not None:
        return since_ms + first_seen.learn * 1000, known_ms + first_seen.learn * 1000
    assert deviation is not None  # noqa: S101 - only rules that learn are asked
    # A period that falls behind those before it has no match of its own.
    return since_ms, known_ms + (deviation.periods + 2) * deviation.period * 1000
