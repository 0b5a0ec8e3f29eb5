"""What happens again and again in the organisation, and how often against the rest.

The weights are parts of ten thousand, roughly: sign-ins, files and mail make up most of a
tenant's records, as they do in published ones; operations seen rarely there are rare here,
but at 1.2 none stays out of a week of 70,000 records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from m365watch_simulator.organization.people import Actor
from m365watch_simulator.organization.scene import Record, Scene
from m365watch_simulator.organization.shapes import (
    apps,
    compliance,
    directory,
    dlp,
    exchange_admin,
    labels,
    mailbox,
    sharepoint,
    signin,
    teams,
    threats,
)


class Shape(Protocol):
    """Makes one record of what an actor does in a scene."""

    def __call__(self, scene: Scene, actor: Actor, /) -> Record:
        """The record, its keys in the wire's order."""
        ...


@dataclass(frozen=True, slots=True)
class Habit:
    """Something that happens again and again."""

    weight: float
    make: Shape
    admin_only: bool = False


def _sign_ins() -> list[Habit]:
    return [Habit(1900, signin.signed_in), Habit(90, signin.sign_in_failed)]


def _mail() -> list[Habit]:
    written = {"Send": 260, "Create": 65}
    handled = {"Update": 60, "MessageBind": 4, "SendAs": 3}
    deleted = {"MoveToDeletedItems": 160, "SoftDelete": 110, "HardDelete": 30}
    return [
        Habit(1900, mailbox.mail_read),
        Habit(420, mailbox.mail_synchronised),
        Habit(5, mailbox.folder_shared),
        Habit(6, mailbox.rule_updated),
        *(Habit(weight, partial(mailbox.mail_handled, operation=name)) for name, weight in written.items()),
        Habit(25, mailbox.mailbox_opened),
        *(Habit(weight, partial(mailbox.mail_handled, operation=name)) for name, weight in handled.items()),
        *(Habit(weight, partial(mailbox.mails_deleted, operation=name)) for name, weight in deleted.items()),
    ]


_FILES: dict[tuple[str, str], float] = {
    ("FileAccessed", "SharePoint"): 900,
    ("FileAccessed", "OneDrive"): 600,
    ("FileModified", "SharePoint"): 320,
    ("FileModified", "OneDrive"): 260,
    ("FileModifiedExtended", "SharePoint"): 60,
    ("FileModifiedExtended", "OneDrive"): 60,
    ("FilePreviewed", "OneDrive"): 180,
    ("FileDownloaded", "SharePoint"): 120,
    ("FileDownloaded", "OneDrive"): 80,
    ("FileUploaded", "SharePoint"): 120,
    ("FileUploaded", "OneDrive"): 120,
    ("FileSyncDownloadedFull", "SharePoint"): 150,
    ("FileDeleted", "OneDrive"): 40,
    ("FolderModified", "OneDrive"): 120,
    ("FolderCreated", "SharePoint"): 20,
    ("FileVersionsAllDeleted", "SharePoint"): 2,
    ("FileMalwareDetected", "OneDrive"): 1.2,
    ("FileMalwareDetected", "SharePoint"): 1.2,
}

_PAGES: dict[tuple[str, str], float] = {
    ("PageViewed", "SharePoint"): 420,
    ("PageViewed", "OneDrive"): 120,
    ("ClientViewSignaled", "SharePoint"): 60,
    ("SearchQueryPerformed", "SharePoint"): 40,
    ("ManagedSyncClientAllowed", "SharePoint"): 12,
    ("PermissionLevelAdded", "OneDrive"): 1.2,
    ("PermissionLevelAdded", "SharePoint"): 1.2,
    ("GroupAdded", "OneDrive"): 1.2,
    ("SiteCollectionCreated", "OneDrive"): 1.2,
    ("SiteCollectionCreated", "SharePoint"): 1.2,
    ("SiteCollectionQuotaModified", "SharePoint"): 1.2,
}

_LISTS: dict[tuple[str, str], float] = {
    ("ListViewed", "SharePoint"): 240,
    ("ListUpdated", "SharePoint"): 20,
    ("ListUpdated", "OneDrive"): 15,
    ("ListCreated", "SharePoint"): 3,
    ("ListCreated", "OneDrive"): 2,
    ("ListItemCreated", "OneDrive"): 8,
}

_COLUMNS: dict[tuple[str, str], float] = {
    ("ListColumnCreated", "OneDrive"): 20,
    ("ListColumnCreated", "SharePoint"): 6,
    ("ListColumnUpdated", "SharePoint"): 6,
}

_SHARING: dict[tuple[str, str], float] = {
    ("SharingSet", "OneDrive"): 40,
    ("SharingInheritanceBroken", "OneDrive"): 30,
    ("AddedToSecureLink", "OneDrive"): 30,
    ("SecureLinkUsed", "SharePoint"): 25,
    ("AddedToGroup", "SharePoint"): 25,
    ("AddedToGroup", "OneDrive"): 3,
    ("AccessRequestCreated", "SharePoint"): 5,
    ("AnonymousLinkCreated", "OneDrive"): 2,
}


def _sites() -> list[Habit]:
    tables: tuple[tuple[Callable[..., Record], dict[tuple[str, str], float]], ...] = (
        (sharepoint.file_touched, _FILES),
        (sharepoint.page_seen, _PAGES),
        (sharepoint.list_touched, _LISTS),
        (sharepoint.column_touched, _COLUMNS),
        (sharepoint.shared, _SHARING),
    )
    everyday = [
        Habit(weight, partial(shape, operation=operation, workload=workload))
        for shape, table in tables
        for (operation, workload), weight in table.items()
    ]
    owned = [
        Habit(1.2, partial(sharepoint.shared, operation=operation, workload=workload), admin_only=True)
        for operation in ("SiteCollectionAdminAdded", "SiteCollectionAdminRemoved")
        for workload in ("SharePoint", "OneDrive")
    ]
    policy = partial(sharepoint.page_seen, operation="SharingPolicyChanged", workload="SharePoint")
    return [*everyday, *owned, Habit(1.2, policy, admin_only=True)]


_APPLICATION_CHANGES: dict[str, float] = {
    "Add service principal.": 3,
    "Update service principal.": 8,
    "Update application.": 5,
    "Add application.": 1.5,
    "Add app role assignment grant to user.": 8,
    "Add app role assignment to service principal.": 1.5,
    "Add owner to application.": 1.2,
    directory.SECRETS_CHANGED: 1.2,
    "Remove app role assignment from service principal.": 1.2,
    "Add a deletion-marked app role assignment grant to service principal as part of link removal.": 1.2,
    "Add OAuth2PermissionGrant.": 1.2,
    "Remove OAuth2PermissionGrant.": 1.2,
    "Delete application.": 1.2,
    "Hard Delete application.": 1.2,
    "Remove service principal.": 1.2,
}
_ACCOUNT_CHANGES: dict[str, float] = {
    "Update user.": 20,
    "Update StsRefreshTokenValidFrom Timestamp.": 10,
    "Reset user password.": 4,
    "Change user password.": 5,
    "Change user license.": 4,
    "Add user.": 2,
    "Delete user.": 1.2,
    "Update PasswordProfile.": 1.2,
    "Enable Strong Authentication.": 1.2,
}
_GROUP_CHANGES: dict[str, float] = {
    "Update group.": 8,
    "Add member to group.": 8,
    "Add owner to group.": 2,
    "Add group.": 2,
}
_DEVICE_CHANGES: dict[str, float] = {
    "Add registered owner to device.": 1.5,
    "Add device.": 1.5,
    "Add registered users to device.": 1.5,
    "Update device.": 4,
}
_COMPANY_CHANGES: dict[str, float] = {
    "Set Company Information.": 1.2,
    "Add policy.": 1.2,
    "Create company": 1.2,
    "Set directory feature on tenant.": 1.2,
    "Update authorization policy.": 1.2,
}


def _directory() -> list[Habit]:
    tables: tuple[tuple[Callable[..., Record], dict[str, float]], ...] = (
        (directory.application_noted, _APPLICATION_CHANGES),
        (directory.account_noted, _ACCOUNT_CHANGES),
        (directory.group_noted, _GROUP_CHANGES),
        (directory.company_noted, _COMPANY_CHANGES),
    )
    removed = partial(directory.known_grant_noted, operation="Remove delegated permission grant.")
    return [
        *(
            Habit(weight, partial(shape, operation=operation), admin_only=True)
            for shape, table in tables
            for operation, weight in table.items()
        ),
        *(
            Habit(weight, partial(directory.device_noted, operation=operation))
            for operation, weight in _DEVICE_CHANGES.items()
        ),
        Habit(3, directory.known_application_consented),
        Habit(3, directory.known_grant_noted),
        Habit(1.2, removed),
        Habit(
            1.2,
            partial(directory.known_role_changed, operation=directory.ROLE_ADDED),
            admin_only=True,
        ),
        Habit(
            1.2,
            partial(directory.known_role_changed, operation=directory.ROLE_REMOVED),
            admin_only=True,
        ),
    ]


def _exchange_admins() -> list[Habit]:
    return [
        Habit(4, exchange_admin.inbox_rule_made),
        Habit(2, exchange_admin.app_installed),
        Habit(8, exchange_admin.mailbox_set, admin_only=True),
        Habit(2, exchange_admin.mailbox_set_by_partner, admin_only=True),
        Habit(1.2, exchange_admin.recipient_permitted, admin_only=True),
        Habit(1.2, exchange_admin.transport_rule_made, admin_only=True),
        Habit(1.2, exchange_admin.group_removed, admin_only=True),
    ]


def _exchange_itself() -> list[Habit]:
    kept = {"Set-Mailbox": 500, "Set-User": 40, "Add-MailboxPermission": 25, "New-Mailbox": 8}
    return [
        Habit(350, _served(exchange_admin.plan_kept)),
        *(
            Habit(weight, _served(partial(exchange_admin.mailbox_kept, operation=operation)))
            for operation, weight in kept.items()
        ),
        *(
            Habit(22, _served(partial(exchange_admin.setting_kept, operation=operation)))
            for operation in exchange_admin.SETTINGS
        ),
    ]


def _teams() -> list[Habit]:
    joined = {"MemberAdded": 15, "MemberRoleChanged": 4}
    return [
        Habit(220, teams.session_started),
        Habit(140, teams.chat_created),
        Habit(80, teams.link_sent),
        Habit(4, teams.team_created),
        *(Habit(weight, partial(teams.members_changed, operation=name)) for name, weight in joined.items()),
    ]


def _compliance() -> list[Habit]:
    return [
        *(
            Habit(3, partial(compliance.cmdlet_called, operation=operation), admin_only=True)
            for operation in compliance.CMDLETS
        ),
        *(
            Habit(20 / rank, partial(compliance.looked_up, operation=operation), admin_only=True)
            for rank, operation in enumerate(compliance.LOOKUPS, start=1)
        ),
        *(
            Habit(3, partial(compliance.alert_raised, operation=operation))
            for operation in ("AlertEntityGenerated", "AlertTriggered", "AlertUpdated")
        ),
    ]


def _loss_prevention() -> list[Habit]:
    return [
        *(Habit(12, partial(dlp.file_matched, workload=name)) for name in ("OneDrive", "SharePoint")),
        Habit(20, partial(dlp.mail_matched, operation="DlpRuleMatch")),
        Habit(2, partial(dlp.mail_matched, operation="DlpRuleUndo")),
        Habit(8, dlp.device_matched),
        Habit(6, labels.mail_labelled),
        Habit(8, labels.labelled_file_opened),
        *(Habit(6, partial(labels.file_scanned, operation=name)) for name in ("Access", "Discover")),
        *(
            Habit(4, partial(labels.file_labelled, operation=f"SensitivityLabel{change}"))
            for change in ("Applied", "Updated")
        ),
        Habit(6, labels.client_alive),
        *(
            Habit(1.5, partial(labels.protected_mail_read, operation=name))
            for name in ("MessageAccess", "AttachmentReview")
        ),
    ]


def _threats() -> list[Habit]:
    return [
        Habit(14, threats.mail_caught),
        Habit(3, threats.link_followed),
        Habit(1.2, threats.file_caught),
        Habit(4, threats.investigated),
        Habit(1.2, threats.velocity_alerted),
    ]


def _apps() -> list[Habit]:
    return [
        Habit(40, apps.report_viewed),
        Habit(2, apps.artifact_created),
        *(Habit(4, partial(apps.yammer_used, operation=name)) for name in ("GroupCreation", "FileVisited")),
        Habit(5, apps.form_edited),
        Habit(60, apps.copilot_asked),
    ]


class _Service(Protocol):
    """Makes one record of what the service does on its own."""

    def __call__(self, scene: Scene, /) -> Record:
        """The record, its keys in the wire's order."""
        ...


def _served(make: _Service) -> Shape:
    """The same as a shape that needs nobody to act."""
    return lambda scene, _actor: make(scene)


PEOPLE = (
    *_sign_ins(),
    *_mail(),
    *_sites(),
    *_directory(),
    *_exchange_admins(),
    *_teams(),
    *_compliance(),
    *_loss_prevention(),
    *_threats(),
    *_apps(),
)
"""What people do, or what is done to them."""


def _by_machine(make: Shape) -> Shape:
    """The same, done by one of the service accounts instead of a person."""
    return lambda scene, _actor: make(scene, scene.pick(scene.estate.machines))


SERVICE = (
    *_exchange_itself(),
    Habit(160, _by_machine(signin.signed_in)),
    Habit(60, _by_machine(partial(mailbox.mail_handled, operation="Send"))),
    Habit(10, _served(teams.policy_read)),
    Habit(10, _served(apps.score_changed)),
)
"""What the service and the machines do by themselves, at any hour."""
