"""Rules that were written for other products' names of this feed work as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.detect.matching import operations_of
from rules import fires, load_good, rule_text

ALERT = {
    "Workload": "SecurityComplianceCenter",
    "Operation": "AlertTriggered",
    "RecordType": 40,
    "ResultStatus": "Succeeded",
    "Name": "Logon from a risky IP address",
}


@pytest.mark.parametrize("service", ["threat_management", "threat_detection"])
def test_an_alert_of_microsofts_is_found_by_its_name(tmp_path: Path, service: str) -> None:
    """EventSource is the workload, eventName the alert's name, status the outcome."""
    detection = {
        "selection": {
            "eventSource": "SecurityComplianceCenter",
            "eventName": "Logon from a risky IP address",
            "status": "success",
        },
        "condition": "selection",
    }

    assert fires(tmp_path, detection, ALERT, service=service)
    assert not fires(tmp_path, detection, {**ALERT, "Name": "Something else"}, service=service)
    assert not fires(tmp_path, detection, {**ALERT, "ResultStatus": "Failed"}, service=service)
    assert not fires(tmp_path, detection, {**ALERT, "Workload": "Exchange"}, service=service)


def test_a_cmdlet_is_found_by_its_event_name(tmp_path: Path) -> None:
    """In the service exchange, eventName is the operation; success is spelled True there."""
    detection = {
        "selection": {
            "eventSource": "Exchange",
            "eventName": ["New-SafeLinksPolicy", "Disable-SafeLinksRule"],
            "status": "success",
        },
        "condition": "selection",
    }
    fields = {"Workload": "Exchange", "Operation": "disable-SafeLinksRule", "ResultStatus": "True"}

    assert fires(tmp_path, detection, fields)
    assert not fires(tmp_path, detection, {**fields, "ResultStatus": "False"})
    library = load_good(tmp_path, rule_text(detection))
    assert library.rules[0].condition is not None
    assert operations_of(library.rules[0].condition) == frozenset(
        {"new-safelinkspolicy", "disable-safelinksrule"}
    )


def test_a_failure_can_be_asked_for(tmp_path: Path) -> None:
    """status: failure is the outcome's other side."""
    detection = {
        "selection": {"eventSource": "Exchange", "eventName": "New-X", "status": "failure"},
        "condition": "selection",
    }

    assert fires(tmp_path, detection, {"Workload": "Exchange", "Operation": "New-X", "ResultStatus": "False"})


@pytest.mark.parametrize(
    ("detection", "fields"),
    [
        (
            {"selection": {"Operation": "Disable Strong Authentication."}, "condition": "selection"},
            {"Operation": "Disable Strong Authentication.", "Workload": "AzureActiveDirectory"},
        ),
        (
            {
                "selection": {"Operation|contains": "domain"},
                "more": {"Operation|contains": ["add", "new"]},
                "condition": "selection and more",
            },
            {"Operation": "Add unverified domain."},
        ),
        (
            {
                "selection": {"Operation": "UserLoggedIn", "RequestType": "Cmsi:Cmsi"},
                "condition": "selection",
            },
            {
                "Operation": "UserLoggedIn",
                "ExtendedProperties": [{"Name": "RequestType", "Value": "Cmsi:Cmsi"}],
            },
        ),
        (
            {
                "selection": {
                    "Operation": ["New-InboxRule", "Set-InboxRule"],
                    "Parameters|contains": ["ForwardTo", "RedirectTo"],
                },
                "condition": "selection",
            },
            {"Operation": "Set-InboxRule", "Parameters": [{"Name": "RedirectTo", "Value": "x@example.net"}]},
        ),
        (
            {
                "selection": {"eventSource": "SecurityComplianceCenter", "Payload|contains": "MailRedirect"},
                "condition": "selection",
            },
            {"Workload": "SecurityComplianceCenter", "Data": '{"op":"MailRedirect"}'},
        ),
    ],
)
def test_native_names_of_the_audit_service_work(
    tmp_path: Path, detection: dict[str, Any], fields: dict[str, Any]
) -> None:
    """What is spelled as in the feed is read as it is; RequestType and Payload stand inside other fields."""
    assert fires(tmp_path, detection, fields, service="audit")


def test_a_rule_needs_nothing_of_ours(tmp_path: Path) -> None:
    """Without the key m365watch, the user is the entity and the title the explanation."""
    library = load_good(tmp_path, rule_text({"s": {"Operation": "X"}, "condition": "s"}, level="high"))

    assert library.rules[0].extension.entity == {"user": "UserId"}
    assert library.rules[0].severity == "high"
