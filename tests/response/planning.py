"""Plans as users get them: of records as they come over the wire, through detection."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from verdicts import packs

from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.engine.match_extractor import Told
from m365watch.detection.engine.purposes import list_sought
from m365watch.detection.engine.rule_matcher import Matcher
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule import Rule
from m365watch.records.headers import headers_of
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import Plan, Step

Record = dict[str, Any]

AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
INSIDE = Knowledge(accepted_domains=frozenset({"contoso.example"}))


def cmdlet(operation: str, *, by: str = "adm@contoso.example", of: str = "", **parameters: str) -> Record:
    """A cmdlet of Exchange; `of` is the record's ObjectId."""
    return {
        "Operation": operation,
        "RecordType": 1,
        "ResultStatus": "True",
        "UserType": 2,
        "Workload": "Exchange",
        "ClientIP": "192.0.2.10:51334",
        "ObjectId": of,
        "UserId": by,
        "OrganizationName": "contoso.example",
        "Parameters": [{"Name": name, "Value": value} for name, value in parameters.items()],
    }


def plan_of(detection: str, *records: Record) -> Plan:
    """The plan for the one alert that the rules of the detection make of the records, a second apart."""
    bodies = [
        json.dumps(
            {"Id": f"r{number}", "CreationTime": f"{AT + timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}", **one}
        ).encode()
        for number, one in enumerate(records)
    ]
    rules = packs().find(detection)
    wanted = {rule.id for rule in rules}
    [plan] = plans_of(with_sources(rules, packs()), bodies, INSIDE, wanted=wanted)
    return plan


def plans_of(
    rules: Sequence[Rule], bodies: Sequence[bytes], knowledge: Knowledge, *, wanted: Collection[str] = ()
) -> list[Plan]:
    """The plan for each alert of the wanted rules, or of all, of what its own records say."""
    matcher = Matcher(list_sought(rules, knowledge), knowledge=knowledge)
    matches = [
        match
        for body, header in zip(bodies, headers_of(bodies), strict=True)
        for match in matcher.match(body, Told("", AT), header=header)
    ]
    by_id = {rule.id: rule for rule in rules}
    return [
        plan_response(alert, [one for one in matches if _is_of(alert, one)], rules=by_id)
        for alert in find_alerts(rules, bodies, knowledge=knowledge)
        if not wanted or alert.rule_id in wanted
    ]


def _is_of(alert: Alert, match: Match) -> bool:
    return (match.rule_id, match.group) == (alert.rule_id, alert.group)


def steps_of(word: str, detection: str, *records: Record) -> list[Step]:
    """The plan's steps for that word."""
    return [step for step in plan_of(detection, *records).steps if step.word == word]


def lines_of(steps: list[Step]) -> list[str]:
    """What the steps would run: PowerShell without its comments, and Graph."""
    said = [line for step in steps for line in step.powershell if not line.startswith("#")]
    return [*said, *(f"{call.method} {call.path}" for step in steps for call in step.calls)]
