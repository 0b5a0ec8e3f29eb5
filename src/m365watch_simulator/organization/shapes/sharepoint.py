"""What happens in sites and OneDrives (record types 4, 6, 14, 36 and 56)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.estate import SHAREPOINT_ONLINE
from m365watch_simulator.organization.network import SERVICE
from m365watch_simulator.organization.scene import Record, Scene, changed
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.estate import File, Site
    from m365watch_simulator.organization.people import Actor

_SYNC_AGENT = "Microsoft SkyDriveSync 25.149.0803.0003 ship; Windows NT 10.0 (26100)"
_ANALYSIS = ("Media Analysis and Transformation Service", "944f0bd1-117b-4b1c-af26-804ed95e767e")
"""The service that looks into new libraries; its id is the same in every tenant."""

_FILE = 6
_OFFICE_AGENT = "MSWAC"
_WITHOUT_ADDRESS = ("SiteCollectionCreated", "SiteCollectionQuotaModified", "PermissionLevelAdded")
"""What SharePoint does on somebody's behalf, and then gives no address for."""

_SYSTEM_KEY = "i:0i.t|00000003-0000-0ff1-ce00-000000000000|app@sharepoint"


def site_of(scene: Scene, actor: Actor, workload: str) -> Site:
    """A site somebody may work in: one of the organisation's, or their own OneDrive."""
    if workload == "OneDrive":
        return scene.estate.drives[actor.person.number]
    return scene.pick(scene.estate.sites)


def page_seen(scene: Scene, actor: Actor, *, operation: str, workload: str) -> Record:
    """A page that was opened, or a change of a site as a whole (record type 4)."""
    site = site_of(scene, actor, workload)
    is_page = operation in {"PageViewed", "ClientViewSignaled"}
    record = _block(
        scene,
        actor,
        site,
        operation=operation,
        record_type=4,
        object_id=f"{site.url}/SitePages/Home.aspx" if is_page else site.url,
    )
    record["ItemType"] = "Page" if is_page else "Site"
    if workload == "SharePoint" and operation == "SearchQueryPerformed":
        record["SearchQueryText"] = scene.pick(("crane manual", "travel form", "Urlaubsantrag"))
    if is_page:
        record["CustomUniqueId"] = False
        record["ListItemUniqueId"] = site.files[0].unique_id
        record["WebId"] = site.web_id
    elif operation == "SharingPolicyChanged":
        record["ModifiedProperties"] = [changed("ShareWithGuests", "Disabled", "Enabled")]
    elif operation in {"PermissionLevelAdded", "GroupAdded"}:
        record["EventData"] = f"<Name>{scene.pick(('Readers', 'Editors'))}</Name>"
        record["WebId"] = site.web_id
    return record


def file_touched(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    workload: str,
    site: Site | None = None,
    file: File | None = None,
) -> Record:
    """A file that was read, written, fetched or thrown away (record type 6)."""
    where = site or site_of(scene, actor, workload)
    what = file or scene.pick(where.files)
    is_folder = operation.startswith("Folder")
    record = _block(
        scene,
        actor,
        where,
        operation=operation,
        record_type=_FILE,
        object_id=f"{where.url}/{what.folder}" if is_folder else what.url,
    )
    record["ItemType"] = "Folder" if is_folder else "File"
    record["ListId"] = where.list_id
    record["ListItemUniqueId"] = what.unique_id
    record["WebId"] = where.web_id
    if workload == "OneDrive":
        record["HighPriorityMediaProcessing"] = False
    record["SourceFileExtension"] = "" if is_folder else what.extension
    record["SiteUrl"] = f"{where.url}/"
    record["SourceFileName"] = what.folder.rpartition("/")[2] if is_folder else what.name
    record["SourceRelativeUrl"] = what.folder
    _add_details(scene, record, actor, what)
    return record


def _add_details(scene: Scene, record: Record, actor: Actor, file: File) -> None:
    operation = record["Operation"]
    if operation == "FileMalwareDetected":
        record["VirusInfo"] = "EICAR_Test_File"
        record["VirusVendor"] = "Default"
    elif operation == "FileSyncDownloadedFull":
        record["UserAgent"] = _SYNC_AGENT
        record["FileSyncBytesCommitted"] = str(file.size_bytes)
        record["MachineDomainInfo"] = scene.estate.tenant_id
        record["MachineId"] = actor.person.desk.device_id
    elif operation in {"FileDownloaded", "FileAccessed"}:
        record["AppAccessContext"] = {
            "AADSessionId": actor.session_id,
            "CorrelationId": record["CorrelationId"],
            "UniqueTokenId": f"{scene.dice.getrandbits(96):024x}",
        }
        record["ApplicationId"] = SHAREPOINT_ONLINE.app_id
        record["FileSizeBytes"] = file.size_bytes
        _add_browser(record, actor)


def _add_browser(record: Record, actor: Actor) -> None:
    device = actor.device
    record["AuthenticationType"] = "OAuth"
    record["BrowserName"] = device.browser
    record["BrowserVersion"] = device.browser_version
    record["DeviceDisplayName"] = device.name
    record["IsManagedDevice"] = bool(device.device_id)
    record["Platform"] = "WinDesktop" if device.outlook else "NotSpecified"


def shared(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    workload: str,
    target: tuple[str, str] | None = None,
    detail: str = "",
    file: File | None = None,
) -> Record:
    """A file or site that was shared, or whose members changed (record type 14).

    `target` is TargetUserOrGroupName and TargetUserOrGroupType; `detail` is EventData, which
    only looks like XML.
    """
    site = site_of(scene, actor, workload)
    about_site = operation in _ABOUT_SITE and file is None
    what = file or scene.pick(site.files)
    record = _block(
        scene,
        actor,
        site,
        operation=operation,
        record_type=14,
        object_id=site.url if about_site else what.url,
    )
    record["ItemType"] = "Web" if about_site else "File"
    record["WebId"] = site.web_id
    record["EventData"] = detail or _SHARING_DETAILS.get(operation, "<Type>View</Type>")
    record["SiteUrl"] = site.url
    if not about_site:
        record["ListId"] = site.list_id
        record["ListItemUniqueId"] = what.unique_id
        record["SourceFileExtension"] = what.extension
        record["SourceFileName"] = what.name
        record["SourceRelativeUrl"] = f"{what.folder}/{what.name}"
    if operation.startswith("AnonymousLink"):
        record["UniqueSharingId"] = scene.guid()
    if operation in _WITH_TARGET:
        name, kind = target or _colleague(scene)
        record["TargetUserOrGroupType"] = kind
        record["TargetUserOrGroupName"] = name
    return record


_ABOUT_SITE = (
    "AddedToGroup",
    "SiteCollectionAdminAdded",
    "SiteCollectionAdminRemoved",
    "AccessRequestCreated",
)
_WITH_TARGET = (
    "SharingSet",
    "AddedToSecureLink",
    "SecureLinkUsed",
    "SharingInvitationCreated",
    *_ABOUT_SITE,
)
_SHARING_DETAILS = {
    "AddedToGroup": "<Group>Site Members</Group>",
    "SharingSet": "<Permissions granted>System.LimitedEdit</Permissions granted>"
    "<MembersCanShareApplied>False</MembersCanShareApplied>",
    "SharingInheritanceBroken": "<copyRoleAssignments>False</copyRoleAssignments>"
    "<clearSubScopes>True</clearSubScopes>",
    "AddedToSecureLink": "<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>",
}


def _colleague(scene: Scene) -> tuple[str, str]:
    if scene.chance(0.03):
        return f"buyer{scene.dice.randrange(40)}@customer.example", "Guest"
    return scene.pick(scene.estate.people).upn, "Member"


def list_touched(scene: Scene, actor: Actor, *, operation: str, workload: str) -> Record:
    """A list that was opened, made or changed (record type 36)."""
    site = site_of(scene, actor, workload)
    record = _block(
        scene,
        actor,
        site,
        operation=operation,
        record_type=36,
        object_id=f"{site.url}/{site.list_id}",
    )
    record["DoNotDistributeEvent"] = True
    record["ItemType"] = "List"
    _add_list(record, site, count=scene.dice.randrange(200))
    if operation == "ListItemCreated":
        record["ListItemUniqueId"] = scene.pick(site.files).unique_id
    return record


def column_touched(scene: Scene, actor: Actor, *, operation: str, workload: str) -> Record:
    """A column that the service itself added to a new library (record type 56)."""
    site = site_of(scene, actor, workload)
    record = _block(
        scene,
        None,
        site,
        operation=operation,
        record_type=56,
        object_id=f"{site.url}/{site.list_id}/{scene.guid()}",
    )
    record["ApplicationDisplayName"], record["ApplicationId"] = _ANALYSIS
    record["DoNotDistributeEvent"] = True
    record["ItemType"] = "Field"
    _add_list(record, site, count=scene.dice.randrange(5))
    return record


def _add_list(record: Record, site: Site, *, count: int) -> None:
    record["ListId"] = site.list_id
    record["WebId"] = site.web_id
    record["FromApp"] = False
    record["IsDocLib"] = True
    record["ItemCount"] = count
    record["ListBaseTemplateType"] = "101" if site.workload == "SharePoint" else "700"
    record["ListBaseType"] = "DocumentLibrary"
    record["ListColor"] = ""
    record["ListIcon"] = ""
    record["TemplateTypeId"] = ""
    record["ListTitle"] = site.list_id


def _address(actor: Actor | None, operation: str) -> str:
    if operation in _WITHOUT_ADDRESS:
        return ""
    return actor.address if actor else SERVICE.address(7)


def _block(
    scene: Scene,
    actor: Actor | None,
    site: Site,
    *,
    operation: str,
    record_type: int,
    object_id: str,
) -> Record:
    """The common fields; without an `actor` it is the service that acts."""
    record = common_block(
        scene,
        record_id=scene.comb(),
        operation=operation,
        record_type=record_type,
        user_key=actor.person.membership_key if actor else _SYSTEM_KEY,
        user_type=0,
        workload=site.workload,
        client_ip=_address(actor, operation),
        object_id=object_id,
        user_id=actor.person.upn if actor else "app@sharepoint",
    )
    record["CorrelationId"] = f"{scene.dice.getrandbits(32):08x}-{scene.guid()[9:]}"
    record["EventSource"] = "SharePoint"
    record["Site"] = site.site_id
    if actor is None:
        record["UserAgent"] = "ODMTADocCache/1.0"
    else:
        by_office = record_type == _FILE and scene.chance(0.3)
        record["UserAgent"] = _OFFICE_AGENT if by_office else actor.device.user_agent
    return record
