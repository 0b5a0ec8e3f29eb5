"""What an alert of the packs says: who, to whom or what, and from where; and nothing that no record holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from expand import case_files, load_cases, written
from promises import guarantee
from verdicts import alerts_of, knowledge_of, packs

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.fields.record_view import View
from m365watch.detection.rule_test_cases import find_alerts, with_sources
from m365watch.detection.rules.rule import list_placeholders

UNSAID = {"session", "alert", "link", "site", "domain"}
"""Kinds that tell a reader nothing beside the rest: ids, and where a thing with an address lies."""
NOBODY = "urn:spo:anon"
"""How SharePoint calls whoever comes by a link for anyone."""


@guarantee(33)
@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_an_explanation_says_who_whom_and_from_where(path: Path) -> None:
    """Of each kind that the alert names, and of the addresses that its records have, one at least."""
    file = load_cases(path)
    knowledge = knowledge_of(file.settings)
    unsaid = set()
    for case in file.cases:
        views = [View(json.loads(one), knowledge=knowledge) for one in case.records]
        for alert in alerts_of(file, case.records) if case.kind == "hit" else ():
            own = [view for view in views if view.first("Id") in alert.evidence]
            names = {kind: set(alert.named(kind)) for kind, _ in alert.entities}
            names["address"] = _read(own, "m365.ip")
            names["app"] = names.get("app", set()) and names["app"] | _read(own, "ApplicationDisplayName")
            unsaid |= {
                f"{alert.title}: {kind} {sorted(found)} in: {alert.explanation}"
                for kind, found in names.items()
                if kind not in UNSAID and found and not any(_says(alert, one) for one in found)
            }

    assert sorted(unsaid) == []


SAID_BY = {
    "m365.alerted_user": "Data.f3u",
    "m365.inside_members": "Members.UPN",
    "m365.recipients": "Parameters.ForwardingSmtpAddress Parameters.JournalEmailAddress",
}
"""Entities that other fields of the explanation have, as they were written."""
OF_NOBODY = ("s01_link_used_from_new_country", "s01_link_used_through_tor")
"""Rules whose records name a user who is nobody."""


@guarantee(33)
def test_an_explanation_has_a_place_for_every_kind_of_entity() -> None:
    """Records of the cases may happen to have one name in two places, or lack an address that others have."""
    lacking = set()
    for rule in packs().rules:
        told = list_placeholders([rule.extension.explanation])
        counted = rule.correlation.fields if rule.correlation is not None else ()
        for kind, names in (
            rule.extension.entity.items() if rule.alerts and rule.name not in OF_NOBODY else ()
        ):
            fields = names.split("|")
            said = {kind, names, *fields, *(one for name in fields for one in SAID_BY.get(name, "").split())}
            if kind not in UNSAID and not said & {*told, *counted}:
                lacking.add(f"{rule.name}: {kind}")

    assert sorted(lacking) == []


def _read(views: list[View], field: str) -> set[str]:
    return {str(one) for view in views for one in view.values(field)}


def _says(alert: Alert, name: str) -> bool:
    return name.lower() in alert.explanation.lower() or name.startswith(NOBODY)


def _told(detection: str, *entries: dict[str, Any]) -> str:
    """The explanation of the one alert of a detection."""
    library = packs()
    rules = library.find(detection)
    known = knowledge_of({"accepted_domains": ["contoso.example"]})
    found = find_alerts(with_sources(rules, library), written(list(entries)), knowledge=known)
    [alert] = [one for one in found if one.rule_id in {rule.id for rule in rules}]
    return alert.explanation


def _copilot(*, jailbreak: bool, injected: bool) -> dict[str, Any]:
    read = [{"Name": "plan.docx", "XPIADetected": False}, {"Name": "evil.docx", "XPIADetected": injected}]
    asked = [{"Id": "1", "isPrompt": True, "JailbreakDetected": jailbreak}]
    return {
        "shape": "copilot",
        "CopilotEventData": {"AppHost": "Word", "AccessedResources": read, "Messages": asked},
    }


def test_a_document_without_instructions_is_not_blamed() -> None:
    """Where somebody tried to talk Copilot out of its rules, every file that it had read was named for it."""
    asked = _told("E03", _copilot(jailbreak=True, injected=False))
    hidden = _told("E03", _copilot(jailbreak=False, injected=True))

    assert "docx" not in asked
    assert "talk it out of its rules" in asked
    assert "hidden in evil.docx" in hidden
    assert "plan.docx" not in hidden
    assert "talk it out of its rules" not in hidden


def _retention(duration: str) -> dict[str, Any]:
    return {
        "shape": "compliance",
        "Operation": "Set-UnifiedAuditLogRetentionPolicy",
        "Parameters": f'-Identity "Keep" -RetentionDuration "{duration}"',
    }


@pytest.mark.parametrize("duration", ["ThreeMonths", "TenYears"])
def test_a_retention_is_told_as_it_is_now(duration: str) -> None:
    """Ten years were told as "a shorter time"; which of them is shorter, no record says."""
    told = _told("D03", _retention(duration))

    assert duration in told
    assert "are kept for a shorter time" not in told


def test_a_bypassed_account_is_told_apart_from_a_mailbox() -> None:
    """What it does in any mailbox goes unrecorded, and not what is done in its own."""
    bypass = {"Operation": "Set-MailboxAuditBypassAssociation", "Parameters": {"AuditBypassEnabled": "True"}}
    off = {"Operation": "Set-Mailbox", "Parameters": {"AuditEnabled": "False"}}
    account, mailbox = (_told("D02", {"shape": "cmdlet", "ObjectId": "svc", **one}) for one in (bypass, off))

    assert "any mailbox" in account
    assert "that mailbox" not in account
    assert "that mailbox" in mailbox
    assert "any mailbox" not in mailbox


def test_an_address_that_is_not_new_is_not_called_so() -> None:
    """The administrator who gave the method sits where he always did."""
    stranger = {"ClientIP": "203.0.113.66", "ActorIpAddress": "203.0.113.66"}
    own = {"shape": "signin", "DeviceProperties": {"OS": "Linux", "IsCompliantAndManaged": "False"}}
    methods = ['[{"MethodType":6,"Default":true},{"MethodType":7,"Default":false}]', '[{"MethodType":6}]']
    update = {"shape": "directory", "Operation": "Update user.", "ObjectId": "ada@contoso.example"}
    library, known = packs(), knowledge_of({})
    given = written(
        [
            {**own, "CreationTime": "2024-02-01T08:00:00"},
            {**own, **stranger, "CreationTime": "2024-03-05T09:00:00"},
            {
                **update,
                "ModifiedProperties": {"StrongAuthenticationMethod": methods},
                "CreationTime": "2024-03-05T09:30:00",
            },
        ]
    )
    found = find_alerts(with_sources(library.find("I14"), library), given, knowledge=known)
    [told] = [one.explanation for one in found if "signed in" in one.explanation]

    assert "new network (" not in told
    assert "203.0.113.66" in told


def test_an_alert_asks_for_nothing_that_its_plan_puts_last() -> None:
    """The plan of a log that is off shuts the door first, and puts the log on again behind it."""
    off = {
        "shape": "cmdlet",
        "Operation": "Set-AdminAuditLogConfig",
        "Parameters": {"UnifiedAuditLogIngestionEnabled": "False"},
    }

    assert "before anything else" not in _told("D01", off)


@pytest.mark.parametrize(("kind", "is_told"), [("Edit", True), ("View", False)])
def test_a_link_to_change_a_file_is_told_as_one(kind: str, is_told: bool) -> None:
    """It is why the alert is high; both were "can open"."""
    link = {
        "shape": "sharing",
        "Operation": "AnonymousLinkCreated",
        "SourceFileName": "plan.docx",
        "EventData": f"<Type>{kind}</Type>",
    }

    assert ("edit plan.docx" in _told("S01", link)) == is_told
