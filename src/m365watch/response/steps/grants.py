"""Steps on what a record gave an application: that permission alone, and nothing that it had before.

Source: Microsoft Graph, oAuth2PermissionGrant and appRoleAssignment.
"""

from __future__ import annotations

from m365watch.detection.alerts.alert_builder import split_line
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.plans.app_ids import App
from m365watch.response.steps.command_escaping import guid_in, powershell
from m365watch.response.steps.step import GraphCall, Remove, Step

_DELEGATED = frozenset({"add delegated permission grant.", "consent to application."})
_OF_APPLICATION = "add app role assignment to service principal."
_SCOPES_SHOWN = 5
TOKENS = (
    "Access tokens that it has already live on until they end, for an hour or so: look at what it does then."
)
"""Source: Entra, "Access tokens", "Token lifetime"."""
_PERMISSIONS = ("AppRoleAssignment.ReadWrite.All", "Application.Read.All")
_PERMISSIONS_DELEGATED = ("Application.Read.All", "DelegatedPermissionGrant.ReadWrite.All")


def grants_of_record(clues: Clues) -> list[Step]:
    """What this record gave, application by application, Microsoft's own as well; where it tells what."""
    if clues.is_refused:
        return []
    told = _told(clues)
    if clues.operation == _OF_APPLICATION:
        role = guid_in(next(iter(clues.values("ModifiedProperties.AppRole.Id.new")), ""))
        return [_app_role(app, role, told) for app in clues.applications]
    if clues.operation in _DELEGATED:
        return [_delegated(app, _grant_ids(clues), told) for app in clues.applications]
    return []


def delegated_of(app: App) -> str:
    """Where Graph has the application's delegated permissions."""
    return f"{app.principal}/oauth2PermissionGrants"


def roles_of(app: App) -> str:
    """Where Graph has the application's own permissions."""
    return f"{app.principal}/appRoleAssignments"


def _told(clues: Clues) -> str:
    scopes = [one for line in clues.values("m365.scopes") for one in split_line(line)]
    more = f" and {len(scopes) - _SCOPES_SHOWN} more" if len(scopes) > _SCOPES_SHOWN else ""
    return f"{', '.join(scopes[:_SCOPES_SHOWN])}{more}" or "that this record gave"


def _grant_ids(clues: Clues) -> tuple[str, ...]:
    """The grants that a consent has made; none where more may stand behind a cut."""
    return tuple(one for line in clues.values("m365.made_grants") for one in line.split(", "))


def _title(app: App, told: str) -> str:
    return f"Take the permission {told} from the application {app.told}"


def _delegated(app: App, ids: tuple[str, ...], told: str) -> Step:
    get = "Get-MgServicePrincipalOauth2PermissionGrant -ServicePrincipalId $app.Id -All"
    removals = (
        tuple(f"Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId {powershell(one)}" for one in ids)
        if ids
        else ("# the one of this record: Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId ID",)
    )
    return Step(
        "remove_oauth_grant",
        _title(app, told),
        operations=(
            Remove(
                delegated_of(app),
                GraphCall("DELETE", "/oauth2PermissionGrants/{found.id}"),
                label=("consentType", "scope", "principalId"),
                wanted=tuple(("id", one) for one in ids),
                subject=app.principal_subject,
                identified=app.identified,
                microsoft_too=True,
                restored_at="/oauth2PermissionGrants",
                restored=("clientId", "consentType", "principalId", "resourceId", "scope"),
            ),
        ),
        powershell=(app.get_principal, f"{get} | Format-List Id,ConsentType,PrincipalId,Scope", *removals),
        permissions=_PERMISSIONS_DELEGATED,
        notes=(TOKENS,)
        if ids
        else (
            "The record does not tell which grant it is, or one that was there before got more: you pick.",
            TOKENS,
        ),
    )


def _app_role(app: App, role: str, told: str) -> Step:
    get = "Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id -All"
    removal = "Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id -AppRoleAssignmentId"
    return Step(
        "remove_oauth_grant",
        _title(app, told),
        operations=(
            Remove(
                roles_of(app),
                GraphCall("DELETE", f"{roles_of(app)}/{{found.id}}"),
                label=("resourceDisplayName", "appRoleId"),
                wanted=(("appRoleId", role),) if role else (),
                # Whoever makes an interface chooses the ids of its roles.
                is_one=True,
                subject=app.principal_subject,
                identified=app.identified,
                microsoft_too=True,
                restored_at=roles_of(app),
                restored=("principalId", "resourceId", "appRoleId"),
            ),
        ),
        powershell=(
            app.get_principal,
            f"{get} | Format-List Id,ResourceDisplayName,AppRoleId",
            f"# the one whose AppRoleId is {role or 'that of this record'}: {removal} ID",
        ),
        permissions=_PERMISSIONS,
        notes=(TOKENS,) if role else ("The record does not tell the permission's id: you pick.", TOKENS),
    )
