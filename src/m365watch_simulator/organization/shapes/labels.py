"""Sensitivity labels and protected mail (record types 43, 84, 93, 94, 97 and 154)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor

_HEARTBEAT = 97
"""The one record of the labelling client that is about no file."""

_EXTENSION = (
    "c00e9d32-3c8d-4a7d-832b-029040e7db99",
    "Microsoft Azure Information Protection Explorer Extension",
)
"""The labelling client; its id is the same in every tenant."""

_PROTECTED = {"documentEncrypted": False, "owner": "", "protectionType": 0, "templateId": ""}


def mail_labelled(scene: Scene, actor: Actor) -> Record:
    """A label was put on a mail on its way (record type 43)."""
    subject = scene.pick(("Preisliste", "Offer 3311", "Salary letter"))
    record = _block(
        scene,
        actor,
        operation="MipLabel",
        record_type=43,
        workload="Exchange",
        object_id=f"<{scene.dice.getrandbits(96):024x}@{scene.estate.domain}>",
    )
    record["ApplicationMode"] = "Standard"
    record["ItemName"] = subject
    record["LabelAction"] = "None"
    record["LabelAppliedDateTime"] = scene.created
    record["LabelId"] = _label_id(scene)
    record["LabelName"] = "Confidential"
    record["Receivers"] = [scene.pick(scene.estate.people).upn]
    record["Sender"] = actor.person.upn
    return record


def labelled_file_opened(scene: Scene, actor: Actor) -> Record:
    """Somebody opened a file that has a label (record type 84)."""
    file = scene.pick(scene.estate.sites[0].files)
    record = _block(
        scene,
        actor,
        operation="SensitivityLabeledFileOpened",
        record_type=84,
        workload="PublicEndpoint",
        client_ip=actor.address,
        object_id=file.url,
    )
    record["Application"] = "Word"
    record["AssociatedAdminUnits"] = [scene.estate.tenant_id]
    record["ContentType"] = "File"
    record["CurrentProtectionType"] = _PROTECTED
    record["DeviceName"] = actor.person.desk.name
    record["LabelId"] = _label_id(scene)
    record["Platform"] = "Windows"
    record["PreviousProtectionType"] = _PROTECTED
    record["ProtectionEventType"] = 0
    record["TargetLocation"] = 2
    record["UserSku"] = "Unlicensed"
    return record


def file_scanned(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """The labelling client came upon a file, or opened one (record type 93)."""
    record = _labelling(scene, actor, operation=operation, record_type=93)
    record["DataState"] = "Rest" if operation == "Discover" else "Use"
    record["ProtectionEventData"] = {"IsProtected": False}
    record["SensitiveInfoTypeData"] = []
    record["SensitivityLabelEventData"] = {"SensitivityLabelId": _label_id(scene)}
    return record


def file_labelled(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A label was put on a file, or exchanged for another (record type 94)."""
    label: dict[str, object] = {"ActionSource": 3, "LabelEventType": 1}
    if operation == "SensitivityLabelUpdated":
        label["OldSensitivityLabelId"] = _label_id(scene)
    record = _labelling(scene, actor, operation=operation, record_type=94)
    record["DataState"] = "Use"
    record["ProtectionEventData"] = {
        "IsProtected": True,
        "IsProtectedBefore": False,
        "ProtectionEventType": 1,
        "ProtectionOwner": actor.person.upn,
        "ProtectionType": "Custom",
    }
    record["SensitiveInfoTypeData"] = []
    record["SensitivityLabelEventData"] = {**label, "SensitivityLabelId": _label_id(scene)}
    return record


def client_alive(scene: Scene, actor: Actor) -> Record:
    """The labelling client says that it runs (record type 97)."""
    return _labelling(scene, actor, operation="HeartBeat", record_type=_HEARTBEAT)


def protected_mail_read(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """Somebody outside read a protected mail in the portal (record type 154)."""
    record = _block(scene, actor, operation=operation, record_type=154, workload="Exchange", result="Success")
    if operation == "AttachmentReview":
        record["AttachmentName"] = "offer.docx"
    record["AuthenticationMethod"] = "OTP"
    record["AuthenticationStatus"] = 0
    record["MessageId"] = f"<{scene.dice.getrandbits(96):024x}@{scene.estate.domain}>"
    record["OperationProperties"] = [named("MailSubject", "Offer 3311")]
    record["OperationStatus"] = 0
    record["Recipient"] = f"buyer{scene.dice.randrange(40)}@customer.example"
    record["Sender"] = actor.person.upn
    return record


def _labelling(scene: Scene, actor: Actor, *, operation: str, record_type: int) -> Record:
    client_id, client = _EXTENSION
    about_file = record_type != _HEARTBEAT
    file = scene.pick(scene.estate.drives[actor.person.number].files)
    path = f"C:\\Users\\{actor.person.upn.partition('@')[0]}\\{file.name}"
    record = _block(
        scene,
        actor,
        operation=operation,
        record_type=record_type,
        workload="Aip",
        client_ip=actor.address,
        object_id=path if about_file else None,
    )
    record["Scope"] = 1
    record["Common"] = {
        "ApplicationId": client_id,
        "ApplicationName": client,
        "DeviceName": actor.person.desk.name,
        **({"Location": "On-premises file shares"} if about_file else {}),
        "Platform": 1,
        "ProcessName": "MSIP.App",
        "ProductVersion": "3.2.89.0",
    }
    return record


def _block(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    record_type: int,
    workload: str,
    result: str | None = None,
    client_ip: str | None = None,
    object_id: str | None = None,
) -> Record:
    return common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=record_type,
        result=result,
        user_key=actor.person.object_id,
        user_type=0,
        workload=workload,
        client_ip=client_ip,
        object_id=object_id,
        user_id=actor.person.upn,
    )


def _label_id(scene: Scene) -> str:
    return f"{scene.estate.tenant_id[:24]}{scene.dice.getrandbits(2):012x}"
