"""What happens in Teams (record type 25) and in its cmdlets (23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor, Person


def chat_created(scene: Scene, actor: Actor) -> Record:
    """A chat between colleagues."""
    others = (actor.person, scene.pick(scene.estate.people))
    record = _block(scene, actor, operation="ChatCreated")
    tenant_id = scene.estate.tenant_id
    record["ChatThreadId"] = _thread(scene)
    record["CommunicationType"] = "OneOnOne" if scene.chance(0.7) else "GroupChat"
    record["ExtraProperties"] = _extra(scene)
    record["ItemName"] = ""
    record["Members"] = [
        {"DisplayName": person.name, "OrganizationId": tenant_id, "UPN": person.upn} for person in others
    ]
    record["ParticipantInfo"] = {
        "HasForeignTenantUsers": False,
        "HasGuestUsers": False,
        "HasOtherGuestUsers": False,
        "HasUnauthenticatedUsers": False,
        "ParticipatingDomains": [scene.estate.domain],
        "ParticipatingSIPDomains": [{"DomainName": scene.estate.domain, "TenantId": tenant_id}],
        "ParticipatingTenantIds": [tenant_id],
    }
    record["ResourceTenantId"] = tenant_id
    return record


def link_sent(scene: Scene, actor: Actor) -> Record:
    """A chat text with a link in it."""
    record = _block(scene, actor, operation="MessageCreatedHasLink")
    record["ChatThreadId"] = _thread(scene)
    record["CommunicationType"] = "OneOnOne"
    record["ExtraProperties"] = _extra(scene)
    record["ItemName"] = record["ChatThreadId"]
    record["MessageId"] = record["MessageVersion"] = str(int(scene.at.timestamp() * 1000))
    record["MessageURLs"] = [scene.pick(scene.estate.sites).url]
    return record


def session_started(scene: Scene, actor: Actor) -> Record:
    """Somebody opened Teams."""
    client = "Unknown" if actor.device.device_id else actor.device.system
    return _block(scene, actor, operation="TeamsSessionStarted", object_id=client)


def members_changed(scene: Scene, actor: Actor, *, operation: str) -> Record:
    """People joined a team, or became its owners."""
    team = scene.pick(scene.estate.teams)
    record = _block(scene, actor, operation=operation)
    record["AADGroupId"] = team.group_id
    record["CommunicationType"] = "Team"
    record["ItemName"] = team.name
    record["Members"] = [
        _member(scene.pick(scene.estate.people), role=1 if operation == "MemberAdded" else 2)
        for _ in range(1 + scene.dice.getrandbits(1))
    ]
    record["TeamGuid"] = team.thread_id
    record["TeamName"] = team.name
    return record


def team_created(scene: Scene, actor: Actor) -> Record:
    """A new team."""
    team = scene.pick(scene.estate.teams)
    record = _block(scene, actor, operation="TeamCreated")
    record["ItemName"] = team.name
    record["TeamGuid"] = team.thread_id
    record["TeamName"] = team.name
    return record


def policy_read(scene: Scene) -> Record:
    """The service reads a policy of Teams with a cmdlet of its predecessor (record type 23)."""
    tenant_id = scene.estate.tenant_id
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation="Get-CsTeamsUpgradeOverridePolicy",
        record_type=23,
        result="Succeeded",
        user_key="S-1-5-20",
        user_type=2,
        workload="SkypeForBusiness",
        user_id=tenant_id,
    )
    record["SkypeForBusinessEventType"] = 2
    record["TenantName"] = tenant_id
    record["CmdletVersion"] = "7.0.3104.2"
    record["ExternalAccess"] = True
    record["ObjectName"] = "CsTeamsUpgradeOverridePolicy"
    record["Parameters"] = [named("Tenant", tenant_id), named("Identity", "Global")]
    return record


def _block(scene: Scene, actor: Actor, *, operation: str, object_id: str | None = None) -> Record:
    return common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=25,
        user_key=actor.person.object_id,
        user_type=0,
        workload="MicrosoftTeams",
        client_ip=actor.address if scene.chance(0.7) else None,
        object_id=object_id,
        user_id=actor.person.upn,
    )


def _member(person: Person, *, role: int) -> dict[str, object]:
    return {"DisplayName": person.name, "Role": role, "UPN": person.upn}


def _thread(scene: Scene) -> str:
    return f"19:{scene.guid()}_{scene.guid()}@unq.gbl.spaces"


def _extra(scene: Scene) -> list[dict[str, str]]:
    return [
        {"Key": "TimeZone", "Value": scene.pick(("Europe/Berlin", "Europe/London"))},
        {"Key": "OsName", "Value": "windows"},
        {"Key": "Country", "Value": scene.pick(("de", "gb"))},
    ]
