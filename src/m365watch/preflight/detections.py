"""The rules and what they may know: whether all of it can be read, and which rules go without something."""

from __future__ import annotations

from m365watch.clock import Clock
from m365watch.config.settings import Settings
from m365watch.preflight.report import Check, Checked, good, odd

TOLD_MAX = 10
"""Mistakes of rules and troubles of files that are told one by one."""


def check_detections(settings: Settings, clock: Clock) -> list[Checked]:
    """How many rules are in force, what is wrong with the others, and what nobody has told the rules."""
    detections = settings.detections
    if not detections.enabled:
        return []
    from m365watch.detect.enrich.lacking import all_lacks
    from m365watch.detect.enrich.making import troubles_of
    from m365watch.detecting import knowledge_of, load_rules

    library = load_rules(detections)
    knowledge = knowledge_of(detections, clock=clock)
    lacking = all_lacks(library.rules, knowledge)
    seen = f"{len(library.rules):,} rules are in force"
    if lacking:
        keys = sorted({key for keys in lacking.values() for key in keys})
        seen += (
            f"; {len(lacking):,} find less or nothing without {', '.join(keys)} of detections.enrich "
            "(`m365watch rules list` names them)"
        )
    steps = [good(Check.DETECTIONS, seen)]
    steps += [
        odd(Check.DETECTIONS, str(mistake), fix="correct the rule, or take it away")
        for mistake in library.mistakes[:TOLD_MAX]
    ]
    steps += [
        odd(Check.DETECTIONS, trouble, fix="put the file in order; until then rules go without it")
        for trouble in troubles_of(knowledge)[:TOLD_MAX]
    ]
    return steps
