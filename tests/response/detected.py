"""Plans as they come of records: from the bytes through the engine and its file to the steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from expand import written
from verdicts import packs

from m365watch.config.models.clouds import CLOUDS
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rule_test_cases import with_sources
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from m365watch.response.plans.alert_records import recall
from m365watch.response.plans.planner import plan_recalled
from m365watch.response.steps.step import Plan, Step

TENANT = "6f1d2c3b-0a4e-4d55-9d3b-2f6a1b7c8d90"


def rules_of(*names: str, library: Library | None = None) -> list[Rule]:
    """The rules of these names, with all that they join."""
    library = library or packs()
    return with_sources([rule for name in names for rule in library.find(name)], library)


def detect(
    directory: Path,
    records: Sequence[bytes],
    rules: Sequence[Rule],
    *,
    knowledge: Knowledge = NOTHING_KNOWN,
    risk_points: int = 0,
) -> list[KeptAlert]:
    """The alerts of these records that are shown, kept in the folder as a collector keeps them."""
    every = [*rules, make_risk_rule(risk_points)] if risk_points else rules
    with closing(DetectionState(directory / FILE_NAME, survives_power_cuts=False)) as state:
        engine = Engine(every, state, knowledge=knowledge)
        # Day by day, as they would come: what is older than the horizon is looked at no more.
        for number, (day, some) in enumerate(_by_day(records), 1):
            now = day + timedelta(days=1)
            engine.take([Portion(TENANT, now, some, headers_of(some))], number=number, now=now)
            # Whole days are judged once they are over.
            engine.look(now=now + timedelta(hours=3))
        return [one for one in state.alerts.list() if one.shown]


def _by_day(records: Sequence[bytes]) -> list[tuple[datetime, list[bytes]]]:
    found: dict[datetime, list[bytes]] = {}
    for record, header in zip(records, headers_of(records), strict=True):
        day = datetime.fromisoformat(str(header.CreationTime)[:10]).replace(tzinfo=UTC)
        found.setdefault(day, []).append(record)
    return sorted(found.items())


def plan_of(
    directory: Path,
    kept: KeptAlert,
    rules: Iterable[Rule],
    *,
    own_apps: Sequence[str] = (),
    spared: Sequence[str] = (),
) -> Plan:
    """The plan for an alert that is kept in the folder."""
    by_id: Mapping[str, Rule] = {rule.id: rule for rule in rules}
    recalled = recall(directory, kept)
    return plan_recalled(
        kept.alert, recalled, rules=by_id, cloud=CLOUDS["worldwide"], own_apps=own_apps, spared=spared
    )


def plan_from(
    directory: Path,
    rule: str,
    *entries: dict[str, Any],
    beside: Sequence[str] = (),
    knowledge: Knowledge = NOTHING_KNOWN,
    own_apps: Sequence[str] = (),
    spared: Sequence[str] = (),
) -> Plan:
    """The plan for the only alert of that rule which these records make; `beside` are further rules."""
    rules = rules_of(rule, *beside)
    kept = detect(directory, written(entries), rules, knowledge=knowledge)
    wanted = {one.id for one in packs().find(rule)}
    [found] = [one for one in kept if one.alert.rule_id in wanted]
    return plan_of(directory, found, rules, own_apps=own_apps, spared=spared)


def titles(plan: Plan, word: str) -> list[str]:
    """What the plan says of a word."""
    return [step.title for step in steps(plan, word)]


def steps(plan: Plan, word: str) -> list[Step]:
    """The steps of a word."""
    return [step for step in plan.steps if step.word == word]
