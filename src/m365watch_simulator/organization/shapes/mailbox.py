"""What people do in mailboxes (record types 2, 3 and 50)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from m365watch_simulator.organization.estate import EXCHANGE_ONLINE
from m365watch_simulator.organization.network import spelled
from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor, Person

_FOLDERS = (
    "\\Inbox",
    "\\Inbox",
    "\\Inbox",
    "\\Sent Items",
    "\\Drafts",
    "\\Archive",
    "\\Gelöschte Elemente",
)
_SUBJECTS = (
    "Delivery on Thursday",
    "Re: Angebot für den Kran",
    "Minutes of the works council",
    "Holiday list",
    "Spare parts, second reminder",
    "Fwd: Tender 2040",
    "Überstunden im Oktober",
    "Lunch?",
)
_OWNER, _DELEGATE = 0, 2
_AGGREGATED = 50
"""Reading is reported for several mails at once."""


def mail_read(
    scene: Scene,
    actor: Actor,
    *,
    mailbox: Person | None = None,
    application_id: str = "",
    count: int | None = None,
) -> Record:
    """Mails that were opened within two minutes, in one record of type 50.

    An `application_id` makes it an application that reads through EWS; a `mailbox` of somebody
    else makes it a delegate's access.
    """
    record = _mailbox_block(
        scene,
        actor,
        operation="MailItemsAccessed",
        record_type=_AGGREGATED,
        record_id=scene.guid(),
        mailbox=mailbox,
        application_id=application_id,
    )
    number = count or 1 + min(30, int(scene.dice.expovariate(0.4) ** 1.3))
    if application_id or scene.chance(0.75):
        record["ClientAppId"] = application_id
    record["OperationProperties"] = [
        named("MailAccessType", "Bind"),
        named("IsThrottled", "False"),
    ]
    record["Folders"] = [
        {
            "FolderItems": [_mail_named(scene) for _ in range(number)],
            "Id": _folder_id(scene),
            "Path": scene.pick(_FOLDERS),
        }
    ]
    record["OperationCount"] = number
    return record


def mail_synchronised(scene: Scene, actor: Actor) -> Record:
    """A folder that was synchronised to a device, in a record of type 2."""
    record = _mailbox_block(
        scene, actor, operation="MailItemsAccessed", record_type=2, record_id=scene.comb()
    )
    record["OperationProperties"] = [
        named("MailAccessType", "Sync"),
        named("IsThrottled", "False"),
    ]
    folder = {"Id": _folder_id(scene), "Name": "Inbox", "Path": "\\Inbox"}
    record["Item"] = {"Id": folder["Id"], "ParentFolder": folder}
    return record


def mail_handled(scene: Scene, actor: Actor, *, operation: str, mailbox: Person | None = None) -> Record:
    """A mail that was written, changed, opened or sent."""
    record = _mailbox_block(
        scene, actor, operation=operation, record_type=2, record_id=scene.comb(), mailbox=mailbox
    )
    mail: dict[str, object] = {
        "Id": _mail_id(scene),
        "InternetMessageId": _internet_id(scene),
        "ParentFolder": _folder(scene, "\\Drafts" if operation == "Send" else "\\Inbox"),
        "Subject": scene.pick(_SUBJECTS),
    }
    if scene.chance(0.3):
        mail = {"Attachments": f"{scene.pick(_SUBJECTS)}.pdf (48213b)", **mail}
    record["Item"] = mail
    if operation == "Update":
        record["ModifiedProperties"] = ["RecipientsAll", "Subject"]
    if operation == "SendAs" and mailbox is not None:
        record["SendAsUserSmtp"] = mailbox.upn
        record["SendAsUserMailboxGuid"] = mailbox.mailbox_guid
    return record


def mailbox_opened(scene: Scene, actor: Actor) -> Record:
    """Somebody who signs in to their mailbox: the record names no mail."""
    record = mail_handled(scene, actor, operation="MailboxLogin")
    del record["Item"]
    return record


def folder_shared(
    scene: Scene, actor: Actor, *, member: tuple[str, str] | None = None, rights: str = "None"
) -> Record:
    """A folder whose permissions changed; usually a calendar, for a colleague."""
    record = _mailbox_block(
        scene, actor, operation="ModifyFolderPermissions", record_type=2, record_id=scene.comb()
    )
    colleague = scene.pick(scene.estate.people)
    upn, sid = member or (colleague.upn, colleague.sid)
    folder: dict[str, object] = {
        "Id": _folder_id(scene),
        "MemberRights": rights,
        "MemberSid": sid,
        "MemberUpn": upn,
        "Name": "Inbox" if member else "Calendar",
        "Path": "\\Inbox" if member else "\\Calendar",
    }
    record["Item"] = {"Id": folder["Id"], "ParentFolder": folder}
    return record


def rule_updated(scene: Scene, actor: Actor, *, recipient: str = "", name: str = "Minutes") -> Record:
    """An inbox rule that Outlook saved; with a `recipient`, one that forwards to them."""
    record = _mailbox_block(scene, actor, operation="UpdateInboxRules", record_type=2, record_id=scene.comb())
    action: dict[str, object] = {"ActionType": "MoveAction", "Folder": "\\Inbox\\Minutes"}
    if recipient:
        action = {"ActionType": "ForwardToRecipientsAction", "Recipients": [recipient]}
    rule = {"Name": name, "IsEnabled": True, "Actions": [action]}
    actions = "ForwardToRecipientsAction" if recipient else "MoveAction"
    record["OperationProperties"] = [
        named("RuleOperation", "AddMailboxRule"),
        named("RuleName", name),
        named("RuleState", "Enabled, ExitAfterExecution"),
        named("RuleActions", actions),
        named("ServerRule", json.dumps(rule, separators=(",", ":"))),
    ]
    folder = _folder(scene, "\\Inbox")
    record["Item"] = {"Id": folder["Id"], "ParentFolder": folder}
    return record


def mails_deleted(scene: Scene, actor: Actor, *, operation: str, subjects: tuple[str, ...] = ()) -> Record:
    """Mails that were moved to the bin or beyond (record type 3)."""
    # Published records of type 3 have Ids of both kinds.
    record_id = scene.comb() if scene.chance(0.5) else scene.guid()
    record = _mailbox_block(scene, actor, operation=operation, record_type=3, record_id=record_id)
    source = _folder(scene, "\\Inbox" if operation == "MoveToDeletedItems" else "\\Deleted Items")
    names = subjects or tuple(
        scene.pick(_SUBJECTS) for _ in range(1 + min(4, int(scene.dice.expovariate(1))))
    )
    record["AffectedItems"] = [
        {
            "Id": _mail_id(scene),
            "InternetMessageId": _internet_id(scene),
            "ParentFolder": source,
            "Subject": name,
        }
        for name in names
    ]
    record["CrossMailboxOperation"] = False
    if operation == "MoveToDeletedItems":
        record["DestFolder"] = _folder(scene, "\\Deleted Items")
    record["Folder"] = source
    return record


def _mailbox_block(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    record_type: int,
    record_id: str,
    mailbox: Person | None = None,
    application_id: str = "",
) -> Record:
    person, owner = actor.person, mailbox or actor.person
    address = spelled(scene.dice, actor.address)
    logon_type = _OWNER if owner is person else _DELEGATE
    record = common_block(
        scene,
        record_id=record_id,
        operation=operation,
        record_type=record_type,
        result="Succeeded",
        user_key=person.puid,
        user_type=0,
        workload="Exchange",
        client_ip=address if record_type != _AGGREGATED else None,
        user_id=person.upn,
    )
    record["AppId"] = application_id or EXCHANGE_ONLINE.app_id
    record["ClientIPAddress"] = address
    _add_client(scene, record, actor, application_id)
    record["ExternalAccess"] = False
    record["InternalLogonType"] = 0
    record["LogonType"] = logon_type
    record["LogonUserSid"] = person.sid
    record["MailboxGuid"] = owner.mailbox_guid
    record["MailboxOwnerSid"] = owner.sid
    record["MailboxOwnerUPN"] = owner.upn
    record["OrganizationName"] = scene.estate.domain
    record["OriginatingServer"] = f"{scene.pick(scene.estate.servers)}\r\n"
    if not application_id:
        record["SessionId"] = actor.session_id
    return record


def _add_client(scene: Scene, record: Record, actor: Actor, application_id: str) -> None:
    if application_id:
        record["ClientInfoString"] = "Client=WebServices;ExchangeWebServices"
    elif not actor.device.outlook:
        record["ClientInfoString"] = f"Client=OWA;{actor.device.user_agent};"
    else:
        record["ClientInfoString"] = "Client=MSExchangeRPC"
        if record["RecordType"] != _AGGREGATED:
            record["ClientProcessName"] = "OUTLOOK.EXE"
            record["ClientRequestId"] = f"{{{scene.guid().upper()}}}"
            record["ClientVersion"] = "16.0.18925.20158"


def _mail_named(scene: Scene) -> dict[str, object]:
    return {
        "InternetMessageId": _internet_id(scene),
        "SizeInBytes": 8_000 + scene.dice.getrandbits(17),
    }


def _internet_id(scene: Scene) -> str:
    server = scene.pick(scene.estate.servers).partition(" ")[0]
    return f"<{server}{scene.dice.getrandbits(112):028X}@{server}.eurx01.prod.outlook.example>"


def _folder(scene: Scene, path: str) -> dict[str, object]:
    return {"Id": _folder_id(scene), "Path": path}


def _folder_id(scene: Scene) -> str:
    return "LgAAAAD" + base64.b64encode(scene.dice.randbytes(36)).decode() + "AAAB"


def _mail_id(scene: Scene) -> str:
    return "RgAAAAD" + base64.b64encode(scene.dice.randbytes(60)).decode() + "AAAJ"
