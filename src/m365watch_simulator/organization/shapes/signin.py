"""Sign-ins as Entra reports them (record type 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch_simulator.organization.estate import EXCHANGE_ONLINE, FIRST_PARTY, GRAPH, OFFICE, Application
from m365watch_simulator.organization.scene import Record, Scene, named
from m365watch_simulator.organization.shapes.common import common_block

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Actor

BAD_PASSWORD = ("50126", "InvalidUserNameOrPassword")
LOCKED = ("50053", "IdsLocked")
MFA_DENIED = ("500121", "AuthenticationFailedStrongAuthenticationRequired")

_FAILURES = (
    *(BAD_PASSWORD,) * 8,
    LOCKED,
    ("50140", "KmsiInterrupt"),
    ("50074", "UserStrongAuthClientAuthNRequiredInterrupt"),
    ("50076", "UserStrongAuthClientAuthNRequired"),
    ("50058", "UserInformationNotProvided"),
    ("50055", "InvalidPasswordExpiredPassword"),
    ("70044", "SsoArtifactExpiredDueToConditionalAccess"),
    ("65001", "DelegationDoesNotExist"),
    MFA_DENIED,
)
"""AADSTS number and its name; the wrong password is the commonest by far."""

_REQUESTS = (*("OAuth2:Authorize",) * 12, "OAuth2:Token", "Login:login", "SAS:EndAuth", "Kmsi:kmsi")


def signed_in(
    scene: Scene, actor: Actor, *, application: Application | None = None, request: str = ""
) -> Record:
    """Somebody signed in, with or without being asked for a password."""
    client = application or scene.pick(FIRST_PARTY)
    record = _sign_in(scene, actor, operation="UserLoggedIn", client=client)
    detail = "Success" if scene.chance(0.4) else "Redirect"
    record["ResultStatus"] = "Succeeded" if scene.chance(0.2) else "Success"
    record["ExtendedProperties"] = [
        named("ResultStatusDetail", detail),
        named("UserAgent", actor.device.user_agent),
        named("RequestType", request or scene.pick(_REQUESTS)),
    ]
    if scene.chance(0.8):
        record["ErrorNumber"] = "0"
    return record


def sign_in_failed(
    scene: Scene,
    actor: Actor,
    *,
    failure: tuple[str, str] | None = None,
    application: Application | None = None,
) -> Record:
    """Somebody was refused; `ErrorNumber` and `LogonError` say why, `ResultStatus` often lies.

    Source: 292 of 368 such records of a published set have ResultStatus "Success".
    """
    reason = failure or scene.pick(_FAILURES)
    number, name = reason
    client = application or scene.pick((OFFICE, EXCHANGE_ONLINE))
    record = _sign_in(scene, actor, operation="UserLoginFailed", client=client)
    record["ResultStatus"] = "Success" if scene.chance(0.8) else "Failed"
    record["ExtendedProperties"] = [
        named("ResultStatusDetail", "Redirect" if reason == LOCKED else "UserError"),
        named("UserAgent", actor.device.user_agent),
        named("UserAuthenticationMethod", "1"),
        named("RequestType", "Login:login" if number == "50126" else "OAuth2:Authorize"),
    ]
    record["ErrorNumber"] = number
    record["LogonError"] = name
    return record


def _sign_in(scene: Scene, actor: Actor, *, operation: str, client: Application) -> Record:
    person, device = actor.person, actor.device
    resource = GRAPH.app_id if client is OFFICE else EXCHANGE_ONLINE.app_id
    record = common_block(
        scene,
        record_id=scene.guid(),
        operation=operation,
        record_type=15,
        result="Success",
        user_key=person.object_id,
        user_type=0,
        workload="AzureActiveDirectory",
        client_ip=actor.address,
        object_id=resource,
        user_id=person.upn,
    )
    record["AzureActiveDirectoryEventType"] = 1
    record["ExtendedProperties"] = []
    record["ModifiedProperties"] = []
    record["Actor"] = [{"ID": person.object_id, "Type": 0}, {"ID": person.upn, "Type": 5}]
    record["ActorContextId"] = scene.estate.tenant_id
    record["ActorIpAddress"] = actor.address
    record["InterSystemsId"] = scene.guid()
    record["IntraSystemId"] = scene.guid()
    record["SupportTicketId"] = ""
    record["Target"] = [{"ID": resource, "Type": 0}]
    record["TargetContextId"] = scene.estate.tenant_id
    record["ApplicationId"] = client.app_id
    record["DeviceProperties"] = [
        named("OS", device.system),
        named("BrowserType", device.browser),
        named("IsCompliantAndManaged", "True" if device.device_id else "False"),
        named("SessionId", actor.session_id),
    ]
    return record
