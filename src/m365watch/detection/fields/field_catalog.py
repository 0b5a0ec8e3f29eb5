"""Every derived field by its name, and what it needs decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from m365watch.detection.fields import (
    actors,
    clients,
    entra_objects,
    exchange_mail,
    operations,
    property_changes,
)
from m365watch.detection.fields import copilot_abuse as copilot
from m365watch.detection.fields import email_addresses as addresses
from m365watch.detection.fields import entra_objects as targets
from m365watch.detection.fields import exchange_mail as mailboxes
from m365watch.detection.fields import ip_addresses as ip
from m365watch.detection.fields import operations as operation
from m365watch.detection.fields import property_changes as changes
from m365watch.detection.fields import teams_members as members
from m365watch.detection.fields import threat_indicators as indicators

if TYPE_CHECKING:
    from m365watch.detection.fields.enrichment_context import Knowledge
    from m365watch.detection.fields.record_view import Reader, Value, View


def file_extension(view: View) -> tuple[Value, ...]:
    """The extension that the file has now: the new one where it was renamed; in lower case."""
    for name in ("DestinationFileExtension", "SourceFileExtension"):
        found = view.first(name).strip().lower()
        if found:
            return (found,)
    return ()


def changeable_file(view: View) -> tuple[Value, ...]:
    """The file that a link for anyone lets change, by its name; empty for a link that only opens it.

    Source: published records: `<Type>Edit</Type>`, `SharingLinks.<id>.AnonymousEdit.<id>`.
    """
    marks = f"{view.first('EventData')} {view.first('TargetUserOrGroupName')}".lower()
    if "<type>edit</type>" not in marks and ".anonymousedit" not in marks:
        return ()
    return (view.first("SourceFileName") or view.first("ObjectId"),)


_AGENT = ("ExtendedProperties", "UserAgent", "ClientInfoString", "ActorInfoString")
_FORWARDING = (
    "Operation",
    "Parameters",
    "OperationProperties",
    "UserId",
    "MailboxOwnerUPN",
    "OrganizationName",
)
_SHARING = (
    "TargetUserOrGroupName",
    "TargetUserOrGroupType",
    "UserId",
    "MailboxOwnerUPN",
    "OrganizationName",
)
_DEFENDER = ("SourceFileName", "FileData", "AttachmentData", "SenderIp", "P2Sender", "Url", "UserIp")
_AUTHORS = ("ExchangeMetaData", "SharePointMetaData", "UserId")
_APP = ("ClientAppId", "ApplicationId", "AppId", "AppAccessContext")


@dataclass(frozen=True, slots=True)
class Derived:
    """One derived field."""

    read: Callable[[View], tuple[Value, ...]]
    needs: tuple[str, ...]
    """The top fields of the record that have to be decoded for it."""
    of_address: str = ""
    """What has to be known of addresses, or it says the same of all: places, networks, tor, vpn, hosting."""


_MEMBERS = ("Members", "UserId", "OrganizationId", "OrganizationName", "ParticipantInfo")

CATALOGUE: dict[str, Derived] = {
    "ip": Derived(ip.ip, ip.ADDRESS_FIELDS),
    "network": Derived(ip.network, ip.ADDRESS_FIELDS),
    "origin": Derived(ip.origin, ip.ADDRESS_FIELDS),
    "country": Derived(ip.country, ip.ADDRESS_FIELDS, of_address="places"),
    "city": Derived(ip.city, ip.ADDRESS_FIELDS, of_address="places"),
    "place": Derived(ip.place, ip.ADDRESS_FIELDS, of_address="places"),
    "asn": Derived(ip.asn, ip.ADDRESS_FIELDS, of_address="networks"),
    "asn_name": Derived(ip.asn_name, ip.ADDRESS_FIELDS, of_address="networks"),
    "provider": Derived(ip.provider, ip.ADDRESS_FIELDS),
    "tor": Derived(ip.tor, ip.ADDRESS_FIELDS, of_address="tor"),
    "vpn": Derived(ip.vpn, ip.ADDRESS_FIELDS, of_address="vpn"),
    "hosting": Derived(ip.hosting, ip.ADDRESS_FIELDS, of_address="hosting"),
    "human": Derived(actors.human, ("UserType",)),
    "ok": Derived(operations.ok, ("Operation", "ErrorNumber", "Workload", "ResultStatus")),
    "user_agent": Derived(clients.user_agent, _AGENT),
    "user_agent_family": Derived(clients.user_agent_family, _AGENT),
    "session": Derived(
        clients.session, ("DeviceProperties", "AppAccessContext", "SessionId", "UserSessionId")
    ),
    "operation": Derived(operation.operation, ("Operation",)),
    "recipients": Derived(addresses.recipients, _FORWARDING),
    "external_recipients": Derived(addresses.external_recipients, _FORWARDING),
    "external_target": Derived(addresses.external_target, _SHARING),
    "outside_members": Derived(members.outside_members, _MEMBERS),
    "inside_members": Derived(members.inside_members, _MEMBERS),
    "guest_members": Derived(members.guest_members, _MEMBERS),
    "stranger_names": Derived(members.stranger_names, _MEMBERS),
    "stranger_addresses": Derived(members.stranger_addresses, _MEMBERS),
    "foreign_domains": Derived(members.foreign_domains, _MEMBERS),
    "external_domain": Derived(addresses.external_domain, _SHARING),
    "guest": Derived(actors.guest, ("UserId", "TargetUserOrGroupName", "TargetUserOrGroupType", "Target")),
    "outside_actor": Derived(
        actors.outside_actor, ("UserId", "ActorContextId", "OrganizationId", "ExternalAccess")
    ),
    "target_name": Derived(targets.target_name, ("Target", "ObjectId")),
    "only_subject": Derived(exchange_mail.only_subject, ("AffectedItems",)),
    "rule_actions": Derived(exchange_mail.rule_actions, ("OperationProperties",)),
    "scopes": Derived(entra_objects.scopes, ("ModifiedProperties",)),
    "made_grants": Derived(entra_objects.made_grants, ("ModifiedProperties",)),
    "consent_types": Derived(entra_objects.consent_types, ("ModifiedProperties",)),
    "copilot_abuse": Derived(copilot.copilot_abuse, ("CopilotEventData",)),
    "injected_files": Derived(copilot.injected_files, ("CopilotEventData",)),
    "app": Derived(clients.app, _APP),
    "mailbox": Derived(clients.mailbox, ("MailboxOwnerUPN", "Parameters", "ObjectId", "UserId")),
    "mailbox_alias": Derived(
        mailboxes.mailbox_alias, ("Operation", "MailboxOwnerUPN", "Parameters", "ObjectId", "UserId")
    ),
    "changed_app": Derived(targets.changed_app, ("ModifiedProperties", "ExtendedProperties", "ObjectId")),
    "target_user": Derived(targets.target_user, ("ObjectId",)),
    "target_app": Derived(
        targets.target_app, ("Target", "ModifiedProperties", "ExtendedProperties", "ObjectId")
    ),
    "target_group": Derived(targets.target_group, ("Target",)),
    "app_object": Derived(targets.app_object, ("ModifiedProperties", "ObjectId")),
    "policy_loosened": Derived(property_changes.loosened, ("Operation", "ModifiedProperties")),
    "earlier_values": Derived(
        property_changes.earlier_values, ("Operation", "ModifiedProperties", "Name", "NewValue", "OldValue")
    ),
    "changeable_file": Derived(
        changeable_file, ("EventData", "TargetUserOrGroupName", "SourceFileName", "ObjectId")
    ),
    "file_extension": Derived(file_extension, ("DestinationFileExtension", "SourceFileExtension")),
    "author": Derived(actors.author, _AUTHORS),
    "alerted_user": Derived(actors.alerted_user, ("Data", "AlertEntityId", "EntityType")),
    "vip": Derived(actors.vip, ("UserId", "MailboxOwnerUPN")),
    "admin": Derived(actors.admin, ("UserId", "MailboxOwnerUPN")),
    "indicator": Derived(
        indicators.indicator, (*ip.ADDRESS_FIELDS, *_APP, *_FORWARDING, *_SHARING, *_DEFENDER, "ObjectId")
    ),
    "indicator_address": Derived(indicators.indicator_address, (*ip.ADDRESS_FIELDS, "SenderIp", "UserIp")),
    "indicator_app": Derived(indicators.indicator_app, (*_APP, "ObjectId")),
    "indicator_receiver": Derived(indicators.indicator_receiver, (*_FORWARDING, *_SHARING)),
    "indicator_link": Derived(indicators.indicator_link, ("Url",)),
    "indicator_file": Derived(
        indicators.indicator_file, ("SourceFileName", "FileData", "AttachmentData", "ObjectId")
    ),
}
"""By the name after `m365.`."""
INDICATORS = tuple(name for name in CATALOGUE if name.startswith("indicator"))
"""Of them those that the lists of indicators tell."""

_OF_PROPERTY: dict[str, Callable[[str], Reader]] = {
    "gained": changes.gained,
    "gained_networks": changes.gained_networks,
    "lost": changes.lost,
}


def is_derived(name: str) -> bool:
    """Whether there is a derived field of that name, given without `m365.`."""
    kind, _, rest = name.partition(".")
    return name in CATALOGUE or (kind in _OF_PROPERTY and rest != "")


def derive(name: str) -> Reader:
    """What reads the derived field of that name, given without `m365.`; an unknown one is always empty."""
    found = CATALOGUE.get(name)
    if found is not None:
        return found.read
    kind, _, rest = name.partition(".")
    if kind in _OF_PROPERTY and rest:
        return _OF_PROPERTY[kind](rest)
    return lambda _view: ()


def constant_fields(knowledge: Knowledge) -> frozenset[str]:
    """The derived fields that say the same of every record, because nothing is known that they would tell."""
    found = {
        f"m365.{name}"
        for name, one in CATALOGUE.items()
        if one.of_address and not knowledge.may_tell(one.of_address)
    }
    lists = {"vip": knowledge.vips, "admin": knowledge.admins} | dict.fromkeys(
        INDICATORS, knowledge.indicators
    )
    return frozenset(found.union(f"m365.{name}" for name, known in lists.items() if not known))


def needs_of(field: str) -> tuple[str, ...]:
    """The top fields of a record that have to be decoded to read `field`."""
    if not field.startswith("m365."):
        return (field.partition(".")[0],)
    name = field.removeprefix("m365.")
    if name in CATALOGUE:
        return CATALOGUE[name].needs
    return ("ModifiedProperties",) if is_derived(name) else ()


def list_names() -> list[str]:
    """All names, as rules write them."""
    return sorted(f"m365.{name}" for name in (*CATALOGUE, *(f"{kind}.<property>" for kind in _OF_PROPERTY)))


def why_no_field(name: str) -> str:
    """Why a field that a rule names cannot be derived; empty where it can, and for fields of the records."""
    if not name.startswith("m365.") or is_derived(name.removeprefix("m365.")):
        return ""
    known = list_names()
    near = get_close_matches(name, known, n=1, cutoff=0.85)
    return f"{name} is no derived field; " + (
        f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    )
