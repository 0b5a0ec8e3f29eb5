"""Plans of alerts that are made by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from alerts import ANN, APP, make_alert, make_match
from m365watch.detection.alerts.alert import AlertId, Match
from m365watch.response.plans.alert_records import Told
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import Plan, Step

FULL = {
    "user": ANN,
    "actor": "eve@contoso.example",
    "app": APP,
    "address": "203.0.114.9",
    "mailbox": "bob@contoso.example",
    "grantee": "eve@contoso.example",
    "site": "https://contoso.example/sites/a",
    "policy": "Safe links",
    "domain": "contoso.example",
    "guest": "mallory@fabrikam.example",
    "sender": "mallory@fabrikam.example",
    "recipient": "mallory@fabrikam.example",
}
FIELDS = {
    "ObjectId": "https://contoso.example/sites/a/b.docx",
    "Subject": "Invoice",
    "m365.indicator": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "Parameters.Name": "..",
    "m365.outside_members": "mallory@fabrikam.example",
    "ModifiedProperties.Role.DisplayName.new": "Global Administrator",
}


def plan(*words: str, fields: dict[str, str] | None = None, **entities: str) -> Plan:
    """The plan for an alert with these words."""
    return plan_response(make_alert(*words, **entities), [make_match(fields)] if fields else [])


BOB, EVE, FRED = "bob@contoso.example", "eve@contoso.example", "fred@contoso.example"


def one_record(word: str, fields: dict[str, str], **kinds: str) -> list[Step]:
    """The steps of an alert of one record, about these entities."""
    return list(plan_response(make_alert(word, **kinds), [make_match(fields)]).steps)


def joined(*sources: Match) -> list[Match]:
    """Matches of an alert that joins these of other rules."""
    return [
        msgspec.structs.replace(one, source_id=f"part {n}", identity=f"{n:x}".rjust(32, "f"))
        for n, one in enumerate(sources)
    ]


def part(number: int, *words: str, fields: dict[str, str] | None = None, **entities: str) -> Told:
    """An alert that is joined, of the rule of that number."""
    alert = replace(make_alert(*words, **entities), id=AlertId(f"{number:032x}"), rule_id=f"part {number}")
    return Told(alert, [make_match(fields, after_ms=number)] if fields else [])
