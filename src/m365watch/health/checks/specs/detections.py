"""The detections, in `detection_checks`: what reads rules is loaded only where there are any to be read."""

from __future__ import annotations

from m365watch.health.checks.check_specs import CheckSpec, MachineContext
from m365watch.registry.checks import Checked


def _look(it: MachineContext) -> list[Checked]:
    if not it.settings.detections.enabled:
        return []
    from m365watch.health.checks.detection_checks import check_detections, check_enrichment, check_file

    return [
        *check_detections(it.settings),
        *check_file(it.settings, it.clock),
        *check_enrichment(it.settings, it.clock),
    ]


SPEC = CheckSpec(
    type="detections",
    rank=70,
    text="How many rules are in force, of the packs and of yours; each mistake in rules and exceptions, with "
    "its file and line; which rules go without a table or list of `detections.enrich`.",
    look=_look,
)
