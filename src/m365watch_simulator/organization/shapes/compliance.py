"""The compliance centre: its cmdlets (18), its alerts (40), and what its pages look up (52)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m365watch_simulator.organization.guids import random_guid
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor
    from m365watch_simulator.organization.scene import Record, Scene

_ALERTING = "SecurityComplianceAlerts"
_WORKLOAD = "SecurityComplianceCenter"
_PORTAL_ID = "fc780465-2017-40d4-a0c5-307022471b92"
"""The threat protection service; its id is the same in every tenant."""

CMDLETS = {
    "Get-DlpSiDetectionsReport": ("-StartDate", "-EndDate"),
    "Get-DlpCompliancePolicy": (),
    "Get-ComplianceTag": (),
    "Get-RetentionCompliancePolicy": ("-ExcludeTeamsPolicy",),
    "Get-ComplianceRetentionEvent": (),
    "Get-DlpSensitiveInformationType": ("-Identity",),
    "New-DlpCompliancePolicy": ("-Name", "-Comment", "-ExchangeLocation", "-Mode"),
    "New-DlpComplianceRule": ("-Name", "-Policy", "-ReportSeverityLevel"),
    "Get-UnifiedAuditLogRetentionPolicy": (),
}
"""Cmdlets of type 18, with the parameters that they are called with."""

_VALUES = {
    "-Name": "Customer lists {day}",
    "-Policy": "Customer lists {day}",
    "-Comment": "Asked for by the works council",
    "-ExchangeLocation": "All",
    "-Mode": "TestWithNotifications",
    "-ReportSeverityLevel": "Low",
    "-ExcludeTeamsPolicy": "True",
    "-Identity": "Credit Card Number",
}
"""What is given for a parameter; those that are not here are times."""

LOOKUPS = (
    "SearchDataInsightsSubscription",
    "ValidaterbacAccessCheck",
    "SearchMtpStatus",
    "AggregateThreatProfileDetails",
    "SearchCustomerInsight",
    "SearchAirBatch",
    "SearchSecurityRedirection",
    "SearchAlert",
    "SearchAlertAggregate",
    "AggregateThreatInstanceList",
    "AggregateCampaignIntelligenceData",
    "SearchCustomTag",
    "SearchComplianceRedirection",
    "AggregateActivityData",
)
"""Operations of type 52, the frequent ones first."""

_ALERTS = (
    ("Unusual volume of file deletion", "DataGovernance", "Medium", "FileDeleted"),
    ("Messages have been delayed", "MailFlow", "High", "MailFlow"),
    ("User restricted from sharing forms", "ThreatManagement", "Low", "FormsShare"),
    ("DLP policy match for staff records", "DataLossPrevention", "Low", "DlpRuleMatch"),
)
FORWARDING_ALERT = (
    "Creation of forwarding/redirect rule",
    "ThreatManagement",
    "Informational",
    "MailRedirect",
)
"""Name, category, severity and operation of the service's own alert."""

Alert = tuple[str, str, str, str]


def cmdlet_called(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A page of the compliance centre calls a cmdlet; `Parameters` is one string here."""
    person = actor.person
    day = scene.created[:10]
    arguments = " ".join(
        f'{name} "{_VALUES.get(name, scene.created).format(day=day)}"' for name in CMDLETS[operation]
    )
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=18,
        result="Success",
        user_key=person.upn,
        user_type=2,
        workload=_WORKLOAD,
        object_id="",
        user_id=person.upn,
    )
    record["SecurityComplianceCenterEventType"] = 0
    record["ClientApplication"] = "EMC"
    record["CmdletVersion"] = "..."
    record["EffectiveOrganization"] = scene.estate.domain
    record["NonPIIParameters"] = " ".join(f'{name} "<SNIP-PII>"' for name in CMDLETS[operation])
    record["Parameters"] = arguments
    record["StartTime"] = scene.created
    record["UserServicePlan"] = ""
    return record


def looked_up(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A page of the security centre asks for what it is to show (record type 52)."""
    kind = operation.removeprefix("Search").removeprefix("Aggregate")
    verb = "Aggregate" if operation.startswith("Aggregate") else "Find"
    record = common_block(
        scene,
        record_id=scene.comb(),
        operation=operation,
        record_type=52,
        user_key=actor.person.object_id,
        user_type=0,
        workload=_WORKLOAD,
        user_id=actor.person.object_id,
    )
    record["AadAppId"] = _PORTAL_ID
    record["DataType"] = kind
    record["DatabaseType"] = "DataInsights"
    record["RelativeUrl"] = (
        f"/DataInsights/DataInsightsService.svc/{verb}/{kind}"
        f"?tenantid={scene.estate.tenant_id}&PageSize=100&Filter=StartDate+le+{scene.created}Z"
    )
    record["ResultCount"] = str(scene.dice.getrandbits(3))
    return record


def alert_raised(scene: Scene, actor: Actor, *, operation: str, alert: Alert | None = None) -> Record:
    """An alert of the service's own, an entity of it, or its update (record type 40)."""
    name, category, severity, cause = alert or scene.pick(_ALERTS)
    upn = actor.person.upn
    about_entity = operation == "AlertEntityGenerated"
    alert_id = random_guid(scene.dice)
    record = common_block(
        scene,
        record_id=scene.comb(),
        operation=operation,
        record_type=40,
        result="Succeeded",
        user_key=_ALERTING,
        user_type=4,
        workload=_WORKLOAD,
        object_id=upn if about_entity else alert_id,
        user_id=_ALERTING,
    )
    if about_entity:
        record["AlertEntityId"] = upn
    record["AlertId"] = alert_id
    record["AlertLinks"] = [{"AlertLinkHref": ""}]
    record["AlertType"] = "System"
    record["Category"] = category
    record["Comments"] = "New alert"
    record["Data"] = _alert_facts(scene, upn, name, severity, cause, about_entity=about_entity)
    if about_entity:
        record["EntityType"] = "User"
    record["Name"] = name
    record["PolicyId"] = f"{scene.estate.tenant_id[:24]}{len(name):012x}"
    record["Severity"] = severity
    record["Source"] = "Office 365 Security & Compliance"
    record["Status"] = "Investigating" if operation == "AlertUpdated" else "Active"
    return record


def _alert_facts(scene: Scene, upn: str, name: str, severity: str, cause: str, *, about_entity: bool) -> str:
    span = {"ts": f"{scene.created}.0000000Z", "te": f"{scene.created}.0000000Z"}
    tenant_id = scene.estate.tenant_id
    facts: dict[str, str] = (
        {
            "etype": "User",
            "eid": upn,
            "tid": tenant_id,
            **span,
            "op": cause,
            "tdc": "1",
            "suid": upn,
        }
        if about_entity
        else {"f3u": upn, **span, "op": cause, "wl": "Exchange", "tid": tenant_id, "tdc": "1"}
        | {"reid": scene.guid(), "rid": scene.guid(), "an": name, "sev": severity}
    )
    return json.dumps({**facts, "lon": cause}, separators=(",", ":"))
