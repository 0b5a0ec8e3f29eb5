"""Rules that were written for other products' names of this feed work as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m365watch.detection.engine.rule_matcher import operations_of
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule_library import load_library
from rules import fires, load_good, record, rule_text

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


def test_an_alert_of_defender_for_cloud_apps_is_found_by_its_name_too(tmp_path: Path) -> None:
    """It comes under another workload, with its name in another field and a state for a result."""
    detection = {
        "selection": {
            "eventSource": "SecurityComplianceCenter",
            "eventName": "Suspicious OAuth app file download activities",
            "status": "success",
        },
        "condition": "selection",
    }
    alert = {
        "Workload": "MCAS",
        "Operation": "MCAS_ALERT_CABINET",
        "RecordType": 98,
        "ResultStatus": "New",
        "AlertDisplayName": "Suspicious OAuth app file download activities",
    }

    assert fires(tmp_path, detection, alert, service="threat_management")
    assert not fires(tmp_path, detection, {**alert, "AlertDisplayName": "x"}, service="threat_management")
    assert not fires(tmp_path, detection, {**alert, "ResultStatus": "Dismissed"}, service="threat_management")
    assert not fires(tmp_path, detection, {**alert, "Workload": "Exchange"}, service="threat_management")


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


PAIR = [{"Name": "RedirectTo", "Value": "x@example.net"}, {"Name": "Enabled", "Value": "True"}]


@pytest.mark.parametrize(
    ("asked", "field", "is_found"),
    [
        ("Parameters.Name", "Parameters", True),
        ("OperationProperties.Name", "OperationProperties", True),
        ("ModifiedProperties.Name", "Parameters", False),
    ],
)
def test_any_name_among_named_values_can_be_asked_for(
    tmp_path: Path, asked: str, field: str, *, is_found: bool
) -> None:
    """Parameters.Name is one of the names there, in rules that take Parameters for a list of objects."""
    detection = {"selection": {asked: ["RedirectTo", "ForwardTo"]}, "condition": "selection"}

    assert fires(tmp_path, detection, {"Operation": "X", field: PAIR}) is is_found
    assert not fires(tmp_path, detection, {"Operation": "X", field: PAIR[1:]})


def test_any_value_among_named_values_can_be_asked_for(tmp_path: Path) -> None:
    """OperationProperties.Value is any of them, and the sides of a change are kept apart."""
    changed = [{"Name": "Role", "NewValue": "Owner", "OldValue": "Reader"}]
    for asked, value, fields, is_found in (
        ("OperationProperties.Value|contains", "example.net", {"OperationProperties": PAIR}, True),
        ("OperationProperties.Value|contains", "RedirectTo", {"OperationProperties": PAIR}, False),
        ("ModifiedProperties.NewValue", "owner", {"ModifiedProperties": changed}, True),
        ("ModifiedProperties.OldValue", "reader", {"ModifiedProperties": changed}, True),
        ("ModifiedProperties.OldValue", "owner", {"ModifiedProperties": changed}, False),
    ):
        detection = {"selection": {asked: value}, "condition": "selection"}
        assert fires(tmp_path, detection, {"Operation": "X", **fields}) is is_found, (asked, value)


def test_in_a_rule_with_our_key_a_name_is_that_of_a_parameter(tmp_path: Path) -> None:
    """Parameters.Name is the value of the parameter Name alone, as the guide says."""
    detection = {"selection": {"Parameters.Name": "RedirectTo"}, "condition": "selection"}
    named = [{"Name": "Name", "Value": "RedirectTo"}]
    ours = {"entity": {"user": "UserId"}}

    assert fires(tmp_path, detection, {"Operation": "X", "Parameters": named}, m365watch=ours)
    assert not fires(tmp_path, detection, {"Operation": "X", "Parameters": PAIR}, m365watch=ours)


def test_an_absent_name_can_be_asked_for(tmp_path: Path) -> None:
    """Null is told of a list without any name, and not of one without the name Name."""
    detection = {"selection": {"Parameters.Name": None}, "condition": "selection"}

    assert fires(tmp_path, detection, {"Operation": "X"})
    assert not fires(tmp_path, detection, {"Operation": "X", "Parameters": PAIR})


def test_a_rule_of_the_old_form_of_log_sources_is_read(tmp_path: Path) -> None:
    """SigmaHQ once wrote the product as service, and the service as category."""
    detection = {
        "selection": {
            "eventSource": "SecurityComplianceCenter",
            "eventName": "Logon from a risky IP address",
            "status": "success",
        },
        "condition": "selection",
    }
    text = rule_text(detection, logsource={"category": "ThreatManagement", "service": "m365"})
    library = load_good(tmp_path, text)

    assert library.rules[0].service == "threat_management"
    assert fires(tmp_path, detection, ALERT, logsource={"category": "ThreatManagement", "service": "m365"})


def test_names_that_another_shipper_writes_are_read(tmp_path: Path) -> None:
    """o365.audit. stands before the feed's names there, and who did it is user.email."""
    detection = {
        "selection": {"user.email": "*@*.onmicrosoft.com", "o365.audit.MessageURLs|endswith": ".msi"},
        "condition": "selection",
    }
    fields = {"Operation": "MessageSent", "MessageURLs": ["https://files.example/a.msi"]}

    assert fires(tmp_path, detection, {**fields, "UserId": "desk@lure.onmicrosoft.com"}, service="audit")
    assert not fires(tmp_path, detection, {**fields, "UserId": "desk@lure.example"}, service="audit")


def test_a_rule_needs_nothing_of_ours(tmp_path: Path) -> None:
    """Without the key m365watch, the user is the entity and the title the explanation."""
    library = load_good(tmp_path, rule_text({"s": {"Operation": "X"}, "condition": "s"}, level="high"))

    assert library.rules[0].extension.entity == {"user": "UserId"}
    assert library.rules[0].severity == "high"


def test_a_keyword_stands_anywhere_in_a_value(tmp_path: Path) -> None:
    """A list without a field is looked for in all that a record says, in any case and in longer texts."""
    detection = {"keywords": ["needle", "pin*cushion"], "condition": "keywords"}

    assert fires(tmp_path, detection, {"Operation": "X", "Deep": {"inside": ["a NEEDLE in hay"]}})
    assert fires(tmp_path, detection, {"Operation": "X", "Text": "one pin on a cushion, blue"})
    assert not fires(tmp_path, detection, {"Operation": "X", "Text": "a cushion, a pin"})


def test_a_regular_expression_sees_operations_as_all_comparisons_do(tmp_path: Path) -> None:
    """Trimmed, with plain dashes and in any case, as New-X is also written set-X and Entra has U+2013."""
    detection = {"s": {"Operation|re": "^Update application - Cert.*management$"}, "condition": "s"}
    name = " update application \u2013 Certificates and secrets management "

    assert fires(tmp_path, detection, {"Operation": name})
    assert not fires(tmp_path, detection, {"Operation": "Update application"})


def test_the_organisations_own_domains_are_a_list_of_every_rule(tmp_path: Path) -> None:
    """Under the name that SigmaHQ has for it; a list beside the rules goes first."""
    selection = {"Operation": "New-InboxRule"}
    detection = {
        "s": selection,
        "inside": {"Parameters|contains|expand": "%internal_domains%"},
        "condition": "s and not inside",
    }
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yml").write_text(rule_text(detection), encoding="utf-8")

    def found(domains: tuple[str, ...], recipient: str) -> bool:
        library = load_library([folder], own_domains=domains)
        assert library.mistakes == ()
        one = record(0, Operation="New-InboxRule", Parameters=[{"Name": "ForwardTo", "Value": recipient}])
        return bool(find_alerts(library.rules, [one], knowledge=NOTHING_KNOWN))

    assert not found(("contoso.example",), "a@contoso.example")
    assert found(("contoso.example",), "a@evil.example")
    assert found((), "a@contoso.example")
    (folder / "lists").mkdir()
    (folder / "lists" / "internal_domains.txt").write_text("evil.example\n", encoding="utf-8")
    assert not found(("contoso.example",), "a@evil.example")


@pytest.mark.parametrize("written", [4, "4", "BlockpageOverride"])
@pytest.mark.parametrize("asked", [4, "BlockPageOverride", [4, 5]])
def test_a_click_is_found_by_its_number_and_by_its_name(
    tmp_path: Path, written: object, asked: object
) -> None:
    """Some records have the one, some the other."""
    click = {"Workload": "ThreatIntelligence", "Operation": "TIUrlClickData", "RecordType": 41}
    detection = {"s": {"Operation": "TIUrlClickData", "UrlClickAction": asked}, "condition": "s"}

    assert fires(tmp_path, detection, {**click, "UrlClickAction": written}, service="audit")
    assert not fires(tmp_path, detection, {**click, "UrlClickAction": 2}, service="audit")


def test_the_data_of_an_operation_are_its_parameters(tmp_path: Path) -> None:
    """As JSON with blanks between its parts; Payload is anywhere in the record."""
    policy = {"Workload": "Exchange", "Operation": "Set-AntiPhishPolicy", "ResultStatus": "True"}
    detection = {"s": {"eventData|contains": ['"Enabled", "Value": "False']}, "condition": "s"}
    off, on = ({**policy, "Parameters": [{"Name": "Enabled", "Value": value}]} for value in ("False", "True"))
    assert fires(tmp_path, detection, off, service="exchange")
    assert not fires(tmp_path, detection, on, service="exchange")

    export = {"Workload": "SecurityComplianceCenter", "Operation": "New-ComplianceSearchAction"}
    words = {"s": {"Payload|contains|all": ["New-ComplianceSearchAction", "Export"]}, "condition": "s"}
    given = {**export, "Parameters": "-SearchName x -Export"}
    assert fires(tmp_path, words, given, service="threat_management")
    assert not fires(tmp_path, words, {**export, "Parameters": "x"}, service="threat_management")
