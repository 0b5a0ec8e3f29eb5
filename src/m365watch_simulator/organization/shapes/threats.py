"""What Microsoft's defenders find: mail (28), clicks (41), files (47), investigations (64), MCAS (98)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m365watch_simulator.organization.network import STRANGERS
from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block
from m365watch_simulator.organization.shapes.sharepoint import site_of

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor

_HUNTER = "ThreatIntel"
_EXPLORER = "https://security.office.example/?hash=/threatexplorer"
_LURES = ("Invoice overdue", "Your parcel waits", "Voice mail received", "Payroll: confirm account")


def mail_caught(scene: Scene, actor: Actor) -> Record:
    """A mail that was found to be phishing or malware (record type 28)."""
    network_id = scene.guid()
    record = _block(scene, operation="TIMailData", record_type=28, object_id=network_id)
    record["AdditionalActionsAndResults"] = ["OriginalDelivery: [N/A]"]
    record["AttachmentData"] = [
        {
            "FileName": "invoice.html",
            "FileType": "html",
            "FileVerdict": 1,
            "MalwareFamily": "Phish_HTML_Gen",
            "SHA256": f"{scene.dice.getrandbits(256):064X}",
        }
    ]
    record["AuthDetails"] = [named("SPF", "Fail"), named("DKIM", "None"), named("DMARC", "Fail")]
    record["DeliveryAction"] = "Blocked"
    record["DetectionMethod"] = "Advanced filter"
    record["DetectionType"] = "Inline"
    record["Directionality"] = "Inbound"
    record["EventDeepLink"] = f"{_EXPLORER}?messageParams={network_id}&view=Phish"
    record["InternetMessageId"] = f"<{scene.dice.getrandbits(96):024x}@mail.example.org>"
    record["LatestDeliveryLocation"] = "Quarantine"
    record["MessageTime"] = scene.created
    record["NetworkMessageId"] = network_id
    record["OriginalDeliveryLocation"] = "Quarantine"
    record["P1Sender"] = record["P2Sender"] = f"billing{scene.dice.randrange(90)}@example.org"
    record["Policy"] = "HighConfidencePhish"
    record["PolicyAction"] = "Quarantine"
    record["Recipients"] = [actor.person.upn]
    record["SenderIp"] = scene.pick(STRANGERS).address(scene.dice.randrange(30))
    record["Subject"] = scene.pick(_LURES)
    record["SystemOverrides"] = [
        {"Details": "None", "FinalOverride": "No", "Result": "Block", "Source": "None"}
    ]
    record["ThreatsAndDetectionTech"] = ["Phish: [Advanced filter]"]
    record["Verdict"] = "Phish"
    return record


def link_followed(scene: Scene, actor: Actor) -> Record:
    """Somebody followed a link that was found to be bad (record type 41)."""
    record = _block(scene, operation="TIUrlClickData", record_type=41)
    record["AppName"] = "Mail"
    record["AppVersion"] = "0.0.0000"
    record["EventDeepLink"] = f"{_EXPLORER}?messageParams={scene.guid()}&view=Clicks"
    record["SourceId"] = scene.guid()
    record["TimeOfClick"] = scene.created
    record["Url"] = f"https://{scene.pick(('login', 'parcel'))}.example.net/{scene.dice.getrandbits(32):x}"
    record["UserId"] = actor.person.upn
    record["UserIp"] = actor.address
    return record


def file_caught(scene: Scene, actor: Actor) -> Record:
    """A file that was found to be malware (record type 47)."""
    site = site_of(scene, actor, "OneDrive")
    file = scene.pick(site.files)
    record = _block(scene, operation="AtpDetection", record_type=47)
    record["DetectionDate"] = scene.created
    record["DetectionMethod"] = "Antimalware protection"
    record["EventDeepLink"] = f"{_EXPLORER}?fileParams={file.unique_id}"
    record["FileData"] = {
        "DocumentId": file.unique_id,
        "FileName": file.name,
        "FilePath": file.url,
        "FileSize": str(file.size_bytes),
        "FileVerdict": 1,
        "MalwareFamily": "EICAR_Test_File",
        "SHA256": f"{scene.dice.getrandbits(256):064X}",
    }
    record["LastModifiedBy"] = actor.person.upn
    record["LastModifiedDate"] = scene.created
    record["SourceWorkload"] = 1
    return record


def investigated(scene: Scene, actor: Actor) -> Record:
    """An automated investigation and its findings, in a string of JSON (record type 64)."""
    number = scene.guid()
    name = f"Mail with malicious links removed after delivery - urn:{number}"
    link = f"https://security.office.example/airinvestigation?id={number}"
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="AirInvestigationData",
        record_type=64,
        user_key="AirInvestigation",
        user_type=4,
        workload="AirInvestigation",
        object_id=number,
        user_id="AirInvestigation",
    )
    record["Actions"] = [
        json.dumps(
            {"ActionId": scene.guid(), "ActionType": "EmailRemediation", "ActionStatus": "Pending"},
            separators=(",", ":"),
        )
    ]
    record["Data"] = _findings(scene, actor, name, link)
    record["DeepLinkUrl"] = link
    record["EndTimeUtc"] = scene.created
    record["InvestigationId"] = f"urn:ZappedUrlInvestigation:{number}"
    record["InvestigationName"] = name
    record["InvestigationType"] = "ZappedUrlInvestigation"
    record["LastUpdateTimeUtc"] = scene.created
    record["RunningTime"] = scene.dice.randrange(120, 9000)
    record["StartTimeUtc"] = scene.created
    record["Status"] = scene.pick(("Remediated", "Pending action", "No threats found"))
    return record


def _findings(scene: Scene, actor: Actor, name: str, link: str) -> str:
    entities = [
        {"$id": "1", "Type": "mailbox", "Upn": actor.person.upn, "DisplayName": actor.person.name},
        {
            "$id": "2",
            "Type": "url",
            "Url": f"https://parcel.example.net/{scene.dice.getrandbits(32):x}",
        },
    ]
    findings = {
        "Version": "3.0",
        "VendorName": "Microsoft",
        "ProviderName": "OATP",
        "AlertType": scene.guid(),
        "StartTimeUtc": f"{scene.created}Z",
        "EndTimeUtc": f"{scene.created}Z",
        "TimeGenerated": f"{scene.created}Z",
        "ProcessingEndTime": f"{scene.created}Z",
        "Status": "InProgress",
        "Severity": "Medium",
        "ConfidenceLevel": "Unknown",
        "IsIncident": False,
        "AlertDisplayName": name,
        "Description": "Mail was removed after delivery because a link in it turned bad.",
        "ExtendedLinks": [{"Href": link, "Category": None, "Label": "alert", "Type": "webLink"}],
        "Entities": entities,
    }
    return json.dumps(findings, separators=(",", ":"))


def velocity_alerted(scene: Scene, actor: Actor) -> Record:
    """Somebody seemed to travel too fast (record type 98)."""
    number = f"{scene.dice.getrandbits(96):024x}"
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="MCAS_ALERT_ANUBIS_DETECTION_VELOCITY",
        record_type=98,
        result="New",
        user_key=actor.person.upn,
        user_type=0,
        workload="MCAS",
        object_id=number,
        user_id=actor.person.upn,
    )
    record["ActivityStartTime"] = scene.created
    record["AlertCategory"] = "Threat detection"
    record["AlertDescription"] = f"{actor.person.name} was active from two far places within an hour."
    record["AlertDisplayName"] = "Impossible travel activity"
    record["AlertSeverity"] = "Medium"
    record["AlertUri"] = (
        f"https://{scene.estate.short_name}.portal.cloudappsecurity.example/#/alerts/{number}"
    )
    record["Applications"] = [{"Name": "Office 365"}]
    record["AssignedTo"] = None
    record["ClientIPs"] = [actor.address, scene.pick(STRANGERS).address(3)]
    record["ItemCount"] = 1
    record["LastUpdatedTime"] = scene.created
    return record


def _block(scene: Scene, *, operation: str, record_type: int, object_id: str | None = None) -> Record:
    return common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=record_type,
        user_key=_HUNTER,
        user_type=4,
        workload="ThreatIntelligence",
        object_id=object_id,
        user_id=_HUNTER,
    )
