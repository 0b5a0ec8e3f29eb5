"""Matches of data loss prevention: files (11), mail (13) and devices (63)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block
from m365watch_simulator.organization.shapes.sharepoint import site_of

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor

_ON_DEVICE = 63
"""What a device reports, under its user's name and not the agent's."""

_AGENT = "DlpAgent"
_AGENT_KEY = "DLPAgent"
_CARD_NUMBER = ("Credit Card Number", "50842eb7-edc8-4019-85dd-5a5c1f2bb085")
"""A sensitive information type and its id, the same in every tenant."""


def file_matched(scene: Scene, actor: Actor, *, workload: str) -> Record:
    """A rule matched a file in a site; the operation is spelled with three capitals."""
    site = site_of(scene, actor, workload)
    file = scene.pick(site.files)
    record = _block(
        scene,
        actor,
        operation="DLPRuleMatch",
        record_type=11,
        workload=workload,
        object_id=file.url if workload == "OneDrive" else None,
    )
    record["SharePointMetaData"] = {
        "FileName": file.name,
        "FileOwner": actor.person.name,
        "FilePathUrl": file.url,
        **({"FileSize": file.size_bytes} if workload == "SharePoint" else {}),
        "From": actor.person.upn,
        **({"IsViewableByExternalUsers": False} if workload == "SharePoint" else {}),
        "ItemCreationTime": scene.created,
        "ItemLastModifiedTime": scene.created,
        "SiteCollectionGuid": site.site_id,
        "SiteCollectionUrl": site.url,
        "UniqueID": file.unique_id,
    }
    return record


def mail_matched(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A rule matched a mail, or a match was taken back as wrong."""
    server = scene.pick(scene.estate.servers).partition(" ")[0]
    internet_id = f"<{scene.dice.getrandbits(128):032X}@{server}.example>"
    record = _block(
        scene,
        actor,
        operation=operation,
        record_type=13,
        workload="Exchange",
        object_id=internet_id,
    )
    record["ExchangeMetaData"] = {
        "BCC": [],
        "CC": [],
        "FileSize": scene.dice.getrandbits(18),
        "From": actor.person.upn,
        "MessageID": internet_id,
        "RecipientCount": 1,
        "Sent": scene.created,
        "Subject": "Kundenliste für März",
        "To": [f"buyer{scene.dice.randrange(40)}@customer.example"],
        "UniqueID": scene.guid(),
    }
    if operation == "DlpRuleUndo":
        record["ExceptionInfo"] = {"FalsePositive": False}
    return record


def device_matched(scene: Scene, actor: Actor) -> Record:
    """A rule matched a file that left a device, for example to a stick."""
    file = scene.pick(scene.estate.drives[actor.person.number].files)
    path = f"C:\\Users\\{actor.person.upn.partition('@')[0]}\\Documents\\{file.name}"
    record = _block(
        scene,
        actor,
        operation="DLPRuleMatch",
        record_type=63,
        workload="Endpoint",
        object_id=path,
    )
    record["EndpointMetaData"] = {
        "SensitiveInformation": [_information(scene)],
        "EnforcementMode": "1",
        "FileExtension": file.extension,
        "FileType": file.extension.upper(),
        "DeviceName": actor.person.desk.name,
    }
    return record


def _block(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    record_type: int,
    workload: str,
    object_id: str | None,
) -> Record:
    by_agent = record_type != _ON_DEVICE
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=record_type,
        user_key=_AGENT_KEY if by_agent else actor.person.object_id,
        user_type=4 if by_agent else 0,
        workload=workload,
        object_id=object_id,
        user_id=_AGENT if by_agent else actor.person.upn,
    )
    record["IncidentId"] = scene.guid()
    policy, policy_id = scene.pick(scene.estate.policies)
    found, management_id, rule_id = _information(scene), scene.guid(), scene.guid()
    kind, severity = _volume(scene, str(record["IncidentId"]))
    record["PolicyDetails"] = [
        {
            "PolicyId": policy_id,
            "PolicyName": policy,
            "Rules": [
                {
                    "Actions": ["NotifyUser"],
                    "ConditionsMatched": {
                        "ConditionMatchedInNewScheme": True,
                        "OtherConditions": [named("AccessScope", "NotInOrganization")],
                        "SensitiveInformation": [found],
                    },
                    "ManagementRuleId": management_id,
                    "RuleId": rule_id,
                    "RuleMode": "Enable",
                    "RuleName": f"{policy}: {kind}",
                    "Severity": severity,
                }
            ],
        }
    ]
    record["SensitiveInfoDetectionIsIncluded"] = False
    return record


def _volume(scene: Scene, incident: str) -> tuple[str, str]:
    """What the rule is about, and its severity, which is the rule's own.

    Microsoft's templates have one rule for a few findings, of low severity, and one for many, of high.
    """
    of_four = scene.pick((0, 1, 2, 3))
    return ("many", "High") if of_four == 0 and incident[0] in "012" else ("few", "Low")


def _information(scene: Scene) -> dict[str, object]:
    name, type_id = _CARD_NUMBER
    count = 1 + scene.dice.getrandbits(2)
    return {
        "Confidence": 85,
        "Count": count,
        "SensitiveInformationDetailedClassificationAttributes": [
            {"Confidence": confidence, "Count": count, "IsMatch": matches}
            for confidence, matches in ((65, True), (75, False), (85, True))
        ],
        "SensitiveInformationTypeName": name,
        "SensitiveType": type_id,
        "UniqueCount": count,
    }
