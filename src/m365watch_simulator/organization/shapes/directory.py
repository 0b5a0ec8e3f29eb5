"""Changes of the directory as Entra reports them (record type 8)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from m365watch_simulator.organization.estate import GRAPH, PORTAL, Application, invent_application
from m365watch_simulator.organization.scene import Record, Scene, changed
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor, Person

GLOBAL_ADMINISTRATOR = ("Company Administrator", "62e90394-69f5-4237-9190-012177145e10")
_HARMLESS_ROLES = (
    ("Directory Readers", "88d8e3e3-8f55-4a1e-953a-9b9898b8876b"),
    ("Message Center Reader", "790c1fb9-7f7d-4f88-86a1-ef1f95c05c1b"),
    ("Reports Reader", "4a5d8f65-41da-4de4-8968-e035b65339cf"),
)
"""Display name and template id, the same in every tenant. Source: Entra built-in roles."""

CONSENT = "Consent to application."
ROLE_ADDED = "Add member to role."
ROLE_REMOVED = "Remove member from role."
USER_CHANGED = "Update user."
USER_ADDED = "Add user."
SECRETS_CHANGED = "Update application \N{EN DASH} Certificates and secrets management "
"""With an en dash and a space at its end, as on the wire."""

MFA_DISABLED = "Disable Strong Authentication."

_REPLICATION = "Microsoft.Azure.SyncFabric"


@dataclass(frozen=True, slots=True)
class Target:
    """What a change is about, as `ObjectId` and `Target` spell it."""

    category: str
    object_id: str
    identities: list[dict[str, object]]


def person_target(person: Person) -> Target:
    """A user as the target of a change."""
    identities = [
        {"ID": f"User_{person.object_id}", "Type": 2},
        {"ID": person.object_id, "Type": 2},
        {"ID": "User", "Type": 2},
        {"ID": person.upn, "Type": 5},
        {"ID": person.puid, "Type": 3},
    ]
    return Target("User", person.upn, identities)


def application_target(application: Application, *, principal: bool = True) -> Target:
    """An application, or its service principal in this tenant, as the target of a change.

    An application's own records have another id of it than the one that it signs in with.

    Source: 78 published records of applications, all with ObjectId `Application_<object id>`.
    """
    if principal:
        return _thing_target(
            "ServicePrincipal",
            application.principal_id,
            label=application.name,
            known_as=application.app_id,
        )
    target = _thing_target("Application", application.object_id, label=application.name)
    return replace(target, object_id=f"Application_{application.object_id}")


def _thing_target(category: str, object_id: str, *, label: str, known_as: str = "") -> Target:
    identities: list[dict[str, object]] = [
        {"ID": f"{category}_{object_id}", "Type": 2},
        {"ID": object_id, "Type": 2},
        {"ID": category, "Type": 2},
        {"ID": label, "Type": 1},
    ]
    if known_as:
        identities += [{"ID": known_as, "Type": 2}, {"ID": known_as, "Type": 4}]
    return Target(category, known_as or object_id, identities)


def directory_changed(
    scene: Scene,
    actor: Actor | None,
    *,
    operation: str,
    target: Target,
    changes: list[dict[str, str]],
    details: dict[str, str] | None = None,
    result: str = "Success",
) -> Record:
    """A change by `actor`, or by a service of Microsoft's if there is none."""
    address = _seen_address(scene, actor)
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=8,
        result=result,
        user_key=_user_key(scene, actor),
        user_type=0 if actor else 4,
        workload="AzureActiveDirectory",
        client_ip=address,
        object_id=target.object_id,
        user_id=actor.person.upn if actor else f"ServicePrincipal_{_service_id(scene)}",
    )
    record["AzureActiveDirectoryEventType"] = 1
    record["ExtendedProperties"] = _extended(actor, target, details)
    record["ModifiedProperties"] = changes
    record["Actor"] = _actor_identities(scene, actor)
    record["ActorContextId"] = scene.estate.tenant_id
    if address is not None:
        record["ActorIpAddress"] = address
    record["InterSystemsId"] = scene.guid()
    record["IntraSystemId"] = scene.guid()
    record["SupportTicketId"] = ""
    record["Target"] = target.identities
    record["TargetContextId"] = scene.estate.tenant_id
    return record


def _seen_address(scene: Scene, actor: Actor | None) -> str | None:
    """From where; half of the changes do not say, and some of the others leave it empty.

    What comes from a device that Entra does not know always says.
    """
    if actor is None:
        return None
    if not actor.device.device_id:
        return actor.address
    return scene.pick((None, None, None, None, "", actor.address, actor.address, actor.address))


def _service_id(scene: Scene) -> str:
    """The object that Entra's own replication has in this tenant."""
    return f"{scene.estate.tenant_id[:24]}00000000c0de"


def _user_key(scene: Scene, actor: Actor | None) -> str:
    return f"{actor.person.puid}@{scene.estate.domain}" if actor else "Not Available"


def _extended(actor: Actor | None, target: Target, details: dict[str, str] | None) -> list[dict[str, str]]:
    known = dict(details or {})
    if actor and details is None:
        known["User-Agent"] = actor.device.user_agent
    return [
        {"Name": "additionalDetails", "Value": json.dumps(known, separators=(",", ":"))},
        {"Name": "extendedAuditEventCategory", "Value": target.category},
    ]


def _actor_identities(scene: Scene, actor: Actor | None) -> list[dict[str, object]]:
    if actor is None:
        service_id = _service_id(scene)
        return [
            {"ID": _REPLICATION, "Type": 1},
            {"ID": "00000014-0000-0000-c000-000000000000", "Type": 2},
            {"ID": f"ServicePrincipal_{service_id}", "Type": 2},
            {"ID": service_id, "Type": 2},
            {"ID": "ServicePrincipal", "Type": 2},
        ]
    person = actor.person
    return [
        {"ID": person.upn, "Type": 5},
        {"ID": person.puid, "Type": 3},
        {"ID": PORTAL.name, "Type": 1},
        {"ID": PORTAL.app_id, "Type": 2},
        {"ID": f"User_{person.object_id}", "Type": 2},
        {"ID": person.object_id, "Type": 2},
        {"ID": "User", "Type": 2},
    ]


def consented(
    scene: Scene,
    actor: Actor,
    *,
    application: Application,
    scopes: str = "User.Read openid profile",
    for_everybody: bool = False,
    result: str = "Success",
) -> Record:
    """Somebody let an application act for them, or an administrator for everybody."""
    kind = "AllPrincipals" if for_everybody else "Principal"
    principal = "" if for_everybody else actor.person.object_id
    grant = (
        f"[] => [[Id: {scene.dice.getrandbits(160):x}, ClientId: {application.principal_id}, "
        f"PrincipalId: {principal}, ResourceId: {GRAPH.app_id}, ConsentType: {kind}, "
        f"Scope: {scopes}, CreatedDateTime: , LastModifiedDateTime ]]; "
    )
    changes = [
        changed("ConsentContext.IsAdminConsent", str(for_everybody)),
        changed("ConsentContext.IsAppOnly", "False"),
        changed("ConsentContext.OnBehalfOfAll", str(for_everybody)),
        changed("ConsentContext.Tags", "WindowsAzureActiveDirectoryIntegratedApp"),
        changed("ConsentAction.Permissions", grant),
        changed("TargetId.ServicePrincipalNames", application.app_id),
    ]
    return directory_changed(
        scene,
        actor,
        operation=CONSENT,
        target=application_target(application),
        changes=changes,
        details={"User-Agent": actor.device.user_agent, "AppId": application.app_id},
        result=result,
    )


def role_changed(
    scene: Scene,
    actor: Actor,
    *,
    member: Person,
    operation: str = ROLE_ADDED,
    role: tuple[str, str] | None = None,
) -> Record:
    """Somebody was given a role, or lost it."""
    name, template_id = role or scene.pick(_HARMLESS_ROLES)
    values = (
        ("Role.ObjectID", f"{template_id[:24]}{scene.estate.tenant_id[24:]}"),
        ("Role.DisplayName", name),
        ("Role.TemplateId", template_id),
        ("Role.WellKnownObjectName", name.replace(" ", "")),
    )
    removed = operation == ROLE_REMOVED
    changes = [changed(key, "", value) if removed else changed(key, value) for key, value in values]
    as_role = replace(person_target(member), category="Role")
    return directory_changed(scene, actor, operation=operation, target=as_role, changes=changes, details={})


def grant_added(
    scene: Scene,
    actor: Actor,
    *,
    application: Application,
    scopes: str = " User.Read openid profile",
    kind: str = "Principal",
    operation: str = "Add delegated permission grant.",
) -> Record:
    """A delegated permission that a consent brought about, or that went away again."""
    removed = operation.startswith("Remove")
    values = (
        ("DelegatedPermissionGrant.Scope", scopes),
        ("DelegatedPermissionGrant.ConsentType", kind),
        ("ServicePrincipal.ObjectID", application.principal_id),
        ("ServicePrincipal.DisplayName", application.name),
        ("ServicePrincipal.AppId", application.app_id),
        ("ServicePrincipal.Name", application.app_id),
    )
    changes = [changed(key, "", value) if removed else changed(key, value) for key, value in values]
    target = _thing_target(
        "ServicePrincipal",
        f"{scene.estate.tenant_id[:24]}00000000face",
        label=GRAPH.name,
        known_as=GRAPH.app_id,
    )
    return directory_changed(scene, actor, operation=operation, target=target, changes=changes)


def user_changed(
    scene: Scene,
    actor: Actor | None,
    *,
    person: Person,
    operation: str,
    changes: list[dict[str, str]],
) -> Record:
    """Properties of a user changed."""
    names = ", ".join(change["Name"] for change in changes)
    return directory_changed(
        scene,
        actor,
        operation=operation,
        target=person_target(person),
        changes=[*changes, changed("Included Updated Properties", names)],
        details={"UserType": "Member"},
    )


def listed(*values: str) -> str:
    """Values as the directory writes many of them: a JSON array in a string, over several lines."""
    return "[\r\n  " + ",\r\n  ".join(f'"{value}"' for value in values) + "\r\n]"


def application_noted(
    scene: Scene,
    actor: Actor | None,
    *,
    operation: str,
    application: Application | None = None,
) -> Record:
    """An application or its service principal came, changed or went."""
    principal = any(word in operation for word in ("service principal", "OAuth2", "grant to user"))
    if application is None:
        application = (
            invent_application(scene.dice, scene.pick(_NEW_APPLICATIONS))
            if operation in {"Add application.", "Add service principal."}
            else scene.pick(scene.estate.applications)
        )
    target = application_target(application, principal=principal)
    if operation.startswith("Add owner"):
        # The change is about the owner; the application stands in the properties.
        target = replace(person_target(scene.pick(scene.estate.people)), category="Application")
    return directory_changed(
        scene,
        actor,
        operation=operation,
        target=target,
        changes=_application_changes(scene, operation, application),
    )


_NEW_APPLICATIONS = ("Lunch Vote", "Route Optimiser", "Visitor Badge", "Meter Reader", "Wiki Sync")


def _application_changes(scene: Scene, operation: str, application: Application) -> list[dict[str, str]]:
    if operation == SECRETS_CHANGED:
        key = f"[KeyIdentifier={scene.guid()},KeyType=Password,KeyUsage=Verify,DisplayName=renewed]"
        changes = [changed("KeyDescription", json.dumps([key], indent=2), "[]")]
    elif "app role" in operation:
        changes = [
            changed("AppRole.Id", scene.guid()),
            changed("AppRole.Value", "Calendars.Read.Shared"),
            changed("AppRole.DisplayName", "Read the calendars that are shared"),
            changed("ServicePrincipal.ObjectID", application.principal_id),
        ]
    elif operation.startswith("Add owner"):
        changes = [
            changed("Application.ObjectID", application.object_id),
            changed("Application.DisplayName", application.name),
            changed("Application.AppId", application.app_id),
        ]
    else:
        changes = [
            changed("AccountEnabled", "[\r\n  true\r\n]", "[]"),
            changed("AppAddress", listed(f"https://apps.{scene.estate.domain}/"), "[]"),
            changed("AppPrincipalId", listed(application.app_id), "[]"),
            changed("DisplayName", listed(application.name), "[]"),
        ]
    names = ", ".join(change["Name"] for change in changes)
    return [*changes, changed("Included Updated Properties", names)]


def group_noted(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A group came, changed, or has a member or an owner more."""
    team = scene.pick(scene.estate.teams)
    changes = [
        changed("Group.ObjectID", team.group_id),
        changed("Group.DisplayName", team.name),
        changed("Group.WellKnownObjectName", ""),
    ]
    about_member = operation.startswith(("Add member", "Add owner"))
    target = (
        person_target(scene.pick(scene.estate.people))
        if about_member
        else _thing_target("Group", team.group_id, label=team.name)
    )
    as_group = replace(target, category="Group")
    return directory_changed(scene, actor, operation=operation, target=as_group, changes=changes)


def device_noted(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A device came, changed, or got an owner."""
    person = actor.person
    changes = [
        changed("Device.ObjectID", person.desk.device_id),
        changed("Device.DisplayName", person.desk.name),
        changed("DeviceOSType", listed("Windows"), "[]"),
        changed("DeviceTrustType", listed("Azure AD Join"), "[]"),
    ]
    target = _thing_target("Device", person.desk.device_id, label=person.desk.name)
    return directory_changed(scene, actor, operation=operation, target=target, changes=changes)


def company_noted(scene: Scene, actor: Actor | None, *, operation: str) -> Record:
    """A setting of the whole tenant, or one of its policies, changed."""
    category = "Policy" if "policy" in operation else "Company"
    changes = (
        [
            changed("PolicyType", listed("24"), "[]"),
            changed("DisplayName", listed("Session length"), "[]"),
        ]
        if category == "Policy"
        else [changed("TechnicalNotificationMail", listed(f"it@{scene.estate.domain}"), "[]")]
    )
    target = _thing_target(category, scene.estate.tenant_id, label=scene.estate.domain)
    return directory_changed(scene, actor, operation=operation, target=target, changes=changes)


def account_noted(scene: Scene, actor: Actor | None, *, operation: str) -> Record:
    """A user came, changed, went, or has another password or licence."""
    person = scene.pick(scene.estate.people)
    return user_changed(
        scene,
        actor,
        person=person,
        operation=operation,
        changes=_account_changes(scene, operation, person),
    )


def account_added(scene: Scene, actor: Actor, *, person: Person) -> Record:
    """A user of this name came."""
    changes = _account_changes(scene, USER_ADDED, person)
    return user_changed(scene, actor, person=person, operation=USER_ADDED, changes=changes)


def _account_changes(scene: Scene, operation: str, person: Person) -> list[dict[str, str]]:
    if operation == "Update StsRefreshTokenValidFrom Timestamp.":
        stamp = f"{scene.created}Z"
        return [changed("StsRefreshTokensValidFrom", listed(stamp), "[]")]
    if operation == "Change user license.":
        return [changed("AssignedLicense", listed("[SkuName=SPE_E5, DisabledPlans=[]]"), "[]")]
    if operation == USER_ADDED:
        return [
            changed("AccountEnabled", "[\r\n  true\r\n]", "[]"),
            changed("DisplayName", listed(person.name), "[]"),
            changed("UserPrincipalName", listed(person.upn), "[]"),
            changed("UserType", listed("Member"), "[]"),
        ]
    if operation == "Enable Strong Authentication.":
        return [changed("StrongAuthenticationRequirement", mfa_state(1), "[]")]
    return [
        changed("Department", listed(person.department), listed("Service")),
        changed("PhysicalDeliveryOfficeName", listed(person.office.town), "[]"),
    ]


def mfa_state(state: int) -> str:
    """The property StrongAuthenticationRequirement: 0 off, 1 enabled, 2 enforced."""
    required = [{"RelyingParty": "*", "State": state}]
    return json.dumps(required, indent=2).replace("\n", "\r\n")


def known_application_consented(scene: Scene, actor: Actor) -> Record:
    """Somebody lets one of the organisation's own applications sign them in."""
    return consented(scene, actor, application=scene.pick(scene.estate.applications))


def known_grant_noted(
    scene: Scene, actor: Actor, *, operation: str = "Add delegated permission grant."
) -> Record:
    """The grant behind such a consent, or its end."""
    application = scene.pick(scene.estate.applications)
    return grant_added(scene, actor, application=application, operation=operation)


def known_role_changed(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """A harmless role is given or taken."""
    return role_changed(scene, actor, member=scene.pick(scene.estate.people), operation=operation)
