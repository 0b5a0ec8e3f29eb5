"""What rules may know beyond the records: which files cannot be read, and which rules go without one."""

from __future__ import annotations

from m365watch.common.clock import Clock
from m365watch.config.models.settings import Settings
from m365watch.registry.report import Check, Checked, good, odd

TOLD_MAX = 20
"""Files with a trouble that are told one by one."""


def check_enrichment(settings: Settings, clock: Clock) -> list[Checked]:
    """What nobody has told the rules, and a line for each file that cannot be read."""
    detections = settings.detections
    if not detections.enabled:
        return []
    from m365watch.detection.enrichment.context_loader import readable, remarks_of
    from m365watch.detection.enrichment.missing_sources import all_lacks
    from m365watch.detection.factory import knowledge_of, load_rules

    known, troubles = readable(detections, clock=clock)
    knowledge = knowledge_of(known, clock=clock)
    lacking = all_lacks(load_rules(detections).rules, knowledge)
    steps = [
        odd(Check.DETECTIONS, trouble, fix="put the file in order; until then rules go without it")
        for trouble in troubles[:TOLD_MAX]
    ]
    steps += [
        odd(Check.DETECTIONS, remark, fix="correct what is meant to be one; the rest of the file counts")
        for remark in remarks_of(knowledge)[:TOLD_MAX]
    ]
    if lacking:
        keys = ", ".join(sorted({key for keys in lacking.values() for key in keys}))
        seen = (
            f"{len(lacking):,} rules find less or nothing without {keys} of detections.enrich "
            "(`m365watch rules list` names them)"
        )
        steps.append(good(Check.DETECTIONS, seen))
    return steps
