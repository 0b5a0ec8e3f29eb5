"""What is to be done about an alert, whatever its records call what they are about."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import msgspec

from fuzz_contract import Attempt, Target, check_line
from fuzz_values import TEXTS
from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.rules.extension import Severity
from m365watch.response.plans.planner import BUILDERS, plan_response

_AT_MS = 1_795_730_400_000
_ENTITIES = {
    "user": "ann@contoso.example", "actor": "eve@contoso.example", "app": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "address": "203.0.114.9", "mailbox": "bob@contoso.example", "grantee": "eve@contoso.example", "site": "https://contoso.example/sites/a",
    "policy": "Safe links", "domain": "contoso.example", "guest": "mallory@fabrikam.example", "sender": "mallory@fabrikam.example",
    "recipient": "mallory@fabrikam.example", "file": "b.docx", "link": "https://contoso.example/sites/a/b.docx",
}  # fmt: skip
_FIELDS = {
    "Operation": "AnonymousLinkCreated", "ObjectId": "https://contoso.example/sites/a/Shared Documents/b.docx", "SiteUrl": "https://contoso.example/sites/a",
    "SourceFileName": "b.docx", "SourceRelativeUrl": "Shared Documents", "UserId": "ann@contoso.example", "Subject": "Invoice",
    "Parameters.Identity": "ann\\\\rule", "Parameters.Name": "..", "TargetUserOrGroupName": "mallory@fabrikam.example", "m365.outside_members": "mallory@fabrikam.example",
    "ModifiedProperties.Role.DisplayName.new": "Global Administrator",
    "m365.indicator": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}  # fmt: skip
_OPERATIONS = (
    "AnonymousLinkCreated", "AddedToSecureLink", "New-InboxRule", "Set-Mailbox", "Add-MailboxPermission", "FileUploaded", "FileMalwareDetected",
    "Add member to role.", "Consent to application.", "New-TransportRule", "Set-AdminAuditLogConfig", "SharingSet", "SiteCollectionAdminAdded",
)  # fmt: skip


class _Case(msgspec.Struct):
    """An alert, and the fields of its record."""

    words: list[str]
    entities: dict[str, str]
    fields: dict[str, str]


def cases() -> list[bytes]:
    """Every word, each with everything that a record can name, and all of them together."""
    return [msgspec.json.encode(_Case(sorted(BUILDERS), _ENTITIES, _FIELDS))] + [
        msgspec.json.encode(_Case([word], _ENTITIES, _FIELDS | {"Operation": operation}))
        for word, operation in zip(sorted(BUILDERS), _OPERATIONS * len(BUILDERS), strict=False)
    ]


def grow_case(random: Random) -> bytes:
    """Some words, and names of which some are others: mostly one, so that the rest leads to it."""
    entities, fields = dict(_ENTITIES), dict(_FIELDS)
    for _ in range(random.choice((1, 2, 5))):
        named = random.choice((entities, fields, fields))
        named[random.choice(sorted(named))] = random.choice(TEXTS)
    if random.random() < 0.5:
        fields["Operation"] = random.choice(_OPERATIONS)
    words = random.sample(sorted(BUILDERS), random.choice((3, len(BUILDERS))))
    text = json.dumps({"words": words, "entities": entities, "fields": fields}, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def _alert_of(case: _Case) -> Alert:
    return Alert(
        id=AlertId("a" * 32),
        rule_id="rule",
        title="Something happened",
        severity=Severity("high"),
        tenant="22222222-2222-2222-2222-222222222222",
        group=("ann",),
        entities=tuple(case.entities.items()),
        first_at_ms=_AT_MS,
        last_at_ms=_AT_MS + 60_000,
        count=1,
        evidence=("r1",),
        explanation="Something happened.",
        contain=tuple(word for word in case.words if word in BUILDERS),
    )


def _match_of(case: _Case) -> Match:
    return Match(
        rule_id="rule",
        source_id="rule",
        tenant="22222222-2222-2222-2222-222222222222",
        group=("ann",),
        at_ms=_AT_MS,
        identity="0" * 32,
        record_id="r1",
        severity=Severity("high"),
        values=case.fields,
    )


def _prepare_plans(_: Path) -> Attempt:
    def attempt(given: bytes) -> None:
        try:
            case = msgspec.json.decode(given, type=_Case)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        plan = plan_response(_alert_of(case), [_match_of(case)])
        for step in plan.steps:
            check_line(step.title)
            for line in step.powershell:
                check_line(line)

    return attempt


TARGETS = (Target("plans", _prepare_plans, cases, grow_case, (b"https://", b"[", b"]/", b"%20")),)
