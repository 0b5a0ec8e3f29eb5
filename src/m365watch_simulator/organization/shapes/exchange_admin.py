"""Cmdlets of Exchange, run by administrators and far more often by the service (record type 1)."""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING

from m365watch_simulator.organization.estate import EXCHANGE_ONLINE
from m365watch_simulator.organization.network import SERVICE, with_port
from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor, Person

_SYSTEMS = (
    "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)",
    "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.Servicehost)",
    "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.AdminApi.NetCore)",
)
"""Both spellings of the service host are on the wire."""

_BY_SERVICE = 3
"""UserType DcAdmin."""

_PLANS = ("ExchangeOnlineEnterprise", "ExchangeOnlineDeskless", "ExchangeOnline")

Parameters = tuple[tuple[str, str], ...]


def forest_path(scene: Scene, name: str) -> str:
    """An object as Exchange names it: the whole path through the forest."""
    return f"EURX01A004.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/{scene.estate.domain}/{name}"


def alias_of(person: Person) -> str:
    """The part of the account's name before the @."""
    return person.upn.partition("@")[0]


def cmdlet_run(
    scene: Scene,
    actor: Actor,
    *,
    operation: str,
    parameters: Parameters,
    object_id: str = "",
    result: str = "True",
) -> Record:
    """A cmdlet that somebody ran, from a browser or a shell."""
    person = actor.person
    record = _cmdlet(
        scene,
        operation=operation,
        parameters=parameters,
        object_id=object_id,
        result=result,
        user=(person.upn, person.puid, 2 if person.is_admin else 0),
        client_ip=with_port(scene.dice, actor.address),
        app_id=EXCHANGE_ONLINE.app_id,
    )
    record["SessionId"] = actor.session_id
    return record


def system_cmdlet_run(scene: Scene, *, operation: str, parameters: Parameters, object_id: str) -> Record:
    """A cmdlet that the service ran on its own; the bulk of what a tenant sees of Exchange."""
    system = scene.pick(_SYSTEMS)
    return _cmdlet(
        scene,
        operation=operation,
        parameters=(("DomainController", ""), ("IgnoreDehydratedFlag", "True"), *parameters),
        object_id=object_id,
        result="True",
        user=(system, system, _BY_SERVICE),
        client_ip=None,
        app_id="",
    )


def _cmdlet(
    scene: Scene,
    *,
    operation: str,
    parameters: Parameters,
    object_id: str,
    result: str,
    user: tuple[str, str, int],
    client_ip: str | None,
    app_id: str,
) -> Record:
    user_id, user_key, user_type = user
    record = common_block(
        scene,
        record_id=scene.comb(),
        operation=operation,
        record_type=1,
        result=result,
        user_key=user_key,
        user_type=user_type,
        workload="Exchange",
        client_ip=client_ip,
        object_id=object_id,
        user_id=user_id,
    )
    record["AppId"] = app_id
    record["ClientAppId"] = ""
    record["ExternalAccess"] = user_type == _BY_SERVICE
    record["OrganizationName"] = scene.estate.domain
    record["OriginatingServer"] = scene.pick(scene.estate.servers)
    record["Parameters"] = list(starmap(named, parameters))
    return record


def mailbox_kept(scene: Scene, *, operation: str) -> Record:
    """The service keeps a mailbox in order."""
    person = scene.pick(scene.estate.people)
    path = forest_path(scene, person.object_id)
    parameters = {
        "Set-Mailbox": (
            ("Identity", path),
            ("ProvisionedForOfficeGraph", "True"),
            ("Force", "True"),
            ("WarningAction", "SilentlyContinue"),
            ("BypassLiveId", "True"),
            ("ImmutableIdentity", f"{person.mailbox_guid};{person.object_id}"),
            ("DefaultPublicFolderMailbox", forest_path(scene, "Public Folders/Primary")),
        ),
        "Set-User": (("Identity", path), ("Force", "True"), ("BypassLiveId", "True")),
        "Add-MailboxPermission": (
            ("Identity", path),
            ("User", f"{scene.estate.short_name}\\Discovery Management"),
            ("AccessRights", "FullAccess"),
            ("Confirm", "False"),
        ),
        "New-Mailbox": (("Name", alias_of(person)), ("Room", "True"), ("Force", "True")),
    }[operation]
    return system_cmdlet_run(scene, operation=operation, parameters=parameters, object_id=path)


def plan_kept(scene: Scene) -> Record:
    """The service brings a mailbox plan up to date."""
    plan = f"{scene.pick(_PLANS)}-{scene.estate.tenant_id}"
    parameters = (
        ("Identity", forest_path(scene, plan)),
        ("ProhibitSendReceiveQuota", "100 GB (107,374,182,400 bytes)"),
        ("ProhibitSendQuota", "99 GB (106,300,440,576 bytes)"),
        ("IssueWarningQuota", "98 GB (105,226,698,752 bytes)"),
        ("RetainDeletedItemsFor", "14.00:00:00"),
    )
    return system_cmdlet_run(scene, operation="Set-MailboxPlan", parameters=parameters, object_id=plan)


_SETTINGS: dict[str, tuple[str, Parameters]] = {
    "Set-TransportConfig": ("Transport Settings", (("MaxRecipientEnvelopeLimit", "500"),)),
    "Set-RecipientEnforcementProvisioningPolicy": (
        "Recipient Quota Policy",
        (("MailboxCountQuota", "1000"), ("ContactCountQuota", "2000")),
    ),
    "Set-AdminAuditLogConfig": ("Admin Audit Log Settings", (("AdminAuditLogEnabled", "True"),)),
    "Set-TenantObjectVersion": ("", (("DomainController", ""),)),
    "Enable-AddressListPaging": ("", (("DoNotUpdateRecipients", "True"),)),
    "Install-DefaultSharingPolicy": ("Default Sharing Policy", ()),
    "Set-OwaMailboxPolicy": ("OwaMailboxPolicy-Default", (("WacDiscoveryEndpoint", ""),)),
    "Set-ExchangeAssistanceConfig": (
        "ExchangeAssistance",
        (("PrivacyLinkDisplayEnabled", "True"),),
    ),
    "New-ExchangeAssistanceConfig": ("ExchangeAssistance", ()),
    "Install-AdminAuditLogConfig": ("Admin Audit Log Settings", ()),
    "Install-ResourceConfig": ("Resource Schema", ()),
    "Install-DataClassificationConfig": ("ClassificationDefinitions", ()),
}

SETTINGS = tuple(_SETTINGS)
"""The cmdlets of `setting_kept`."""


def setting_kept(scene: Scene, *, operation: str) -> Record:
    """The service keeps a setting of the organisation in order."""
    name, parameters = _SETTINGS[operation]
    domain = scene.estate.domain
    return system_cmdlet_run(
        scene,
        operation=operation,
        parameters=(("Identity", forest_path(scene, "Configuration")), *parameters),
        object_id=f"{domain}\\{name}" if name else domain,
    )


def mailbox_set(scene: Scene, actor: Actor) -> Record:
    """An administrator changes a mailbox, harmlessly."""
    person = scene.pick(scene.estate.people)
    parameters = (
        ("Identity", person.upn),
        ("HiddenFromAddressListsEnabled", scene.pick(("True", "False"))),
        ("MaxSendSize", "35 MB (36,700,160 bytes)"),
    )
    return cmdlet_run(
        scene, actor, operation="Set-Mailbox", parameters=parameters, object_id=alias_of(person)
    )


_PARTNER = ("desk@alpine-it.example", "10032000ACE5F00D")
"""Somebody of the firm that helps to administer the organisation, and their key."""


def mailbox_set_by_partner(scene: Scene, actor: Actor) -> Record:
    """The same by a partner who administers the organisation, from rooms of its own."""
    record = mailbox_set(scene, actor)
    record["UserId"], record["UserKey"] = _PARTNER
    port = str(record["ClientIP"]).rpartition(":")[2]
    record["ClientIP"] = f"{SERVICE.address(21)}:{port}"
    record["ExternalAccess"] = True
    return record


def recipient_permitted(scene: Scene, actor: Actor) -> Record:
    """An administrator lets somebody send as a shared mailbox."""
    person = scene.pick(scene.estate.people)
    parameters = (("Identity", "reception"), ("Trustee", person.upn), ("AccessRights", "SendAs"))
    return cmdlet_run(
        scene,
        actor,
        operation="Add-RecipientPermission",
        parameters=parameters,
        object_id="reception",
    )


_RULES = (
    ("Newsletters", "Newsletters", "unsubscribe"),
    ("Minutes", "Minutes", "minutes;protokoll"),
    ("Größere Angebote", "Angebote", "angebot"),
    ("Build results", "Builds", "build;pipeline"),
)


def inbox_rule_made(scene: Scene, actor: Actor) -> Record:
    """Somebody sorts their mail into a folder."""
    name, folder, words = scene.pick(_RULES)
    parameters = (
        ("AlwaysDeleteOutlookRulesBlob", "False"),
        ("Force", "False"),
        ("Name", name),
        ("SubjectContainsWords", words),
        ("MoveToFolder", folder),
        ("StopProcessingRules", "False"),
    )
    return cmdlet_run(
        scene,
        actor,
        operation="New-InboxRule",
        parameters=parameters,
        object_id=forest_path(scene, f"{alias_of(actor.person)}\\{name}"),
    )


def transport_rule_made(scene: Scene, actor: Actor) -> Record:
    """An administrator adds a disclaimer to mail that leaves."""
    parameters = (
        ("Name", "Disclaimer"),
        ("SentToScope", "NotInOrganization"),
        ("ApplyHtmlDisclaimerText", f"<p>{scene.estate.domain}</p>"),
        ("Mode", "Enforce"),
    )
    return cmdlet_run(scene, actor, operation="New-TransportRule", parameters=parameters)


def app_installed(scene: Scene, actor: Actor) -> Record:
    """Somebody adds an add-in to Outlook."""
    parameters = (
        ("Mailbox", actor.person.upn),
        ("Etoken", ""),
        ("MarketplaceAssetID", "WA100000001"),
    )
    return cmdlet_run(scene, actor, operation="New-App", parameters=parameters)


def group_removed(scene: Scene, actor: Actor) -> Record:
    """An administrator removes a group that nobody uses."""
    parameters = (("Identity", scene.pick(scene.estate.teams).group_id), ("Confirm", "False"))
    return cmdlet_run(scene, actor, operation="Remove-UnifiedGroup", parameters=parameters)
