"""Steps on applications: what they were granted, their credentials, and whether they may sign in at all."""

from __future__ import annotations

from m365watch.respond.clues import Clues
from m365watch.respond.quoting import odata, powershell
from m365watch.respond.steps import GraphCall, Remove, Revise, Step


def remove_oauth_grant(clues: Clues) -> list[Step]:
    """Delegated and application permissions that the tenant gave it."""
    return [_grants(app) for app in clues.applications]


def _grants(app: str) -> Step:
    principal = f"/servicePrincipals(appId={odata(app)})"
    return Step(
        "remove_oauth_grant",
        f"Take all permissions from the application {app}",
        operations=(
            Remove(
                f"{principal}/oauth2PermissionGrants",
                GraphCall("DELETE", "/oauth2PermissionGrants/{found.id}"),
                label=("consentType", "scope", "principalId"),
                takes_all=True,
                restored_at="/oauth2PermissionGrants",
                restored=("clientId", "consentType", "principalId", "resourceId", "scope"),
            ),
            Remove(
                f"{principal}/appRoleAssignments",
                GraphCall("DELETE", f"{principal}/appRoleAssignments/{{found.id}}"),
                label=("resourceDisplayName", "appRoleId"),
                takes_all=True,
                restored_at=f"{principal}/appRoleAssignments",
                restored=("principalId", "resourceId", "appRoleId"),
            ),
        ),
        powershell=(
            f"$app = Get-MgServicePrincipalByAppId -AppId {powershell(app)}",
            (
                "Get-MgServicePrincipalOauth2PermissionGrant -ServicePrincipalId $app.Id -All"
                " | ForEach-Object { Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId $_.Id }"
            ),
            (
                "Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id -All | ForEach-Object {"
                " Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id"
                " -AppRoleAssignmentId $_.Id }"
            ),
        ),
        permissions=(
            "AppRoleAssignment.ReadWrite.All",
            "Application.Read.All",
            "DelegatedPermissionGrant.ReadWrite.All",
        ),
        notes=("Everything that uses the application stops, also what is rightly used.",),
    )


def disable_application(clues: Clues) -> list[Step]:
    """It gets no token any more in this tenant."""
    return [
        Step(
            "disable_application",
            f"Disable the application {app}",
            operations=(Revise(f"/servicePrincipals(appId={odata(app)})", {"accountEnabled": False}),),
            powershell=(
                f"$app = Get-MgServicePrincipalByAppId -AppId {powershell(app)}",
                "Update-MgServicePrincipal -ServicePrincipalId $app.Id -AccountEnabled:$false",
            ),
            permissions=("Application.ReadWrite.All",),
        )
        for app in clues.applications
    ]


def remove_credential(clues: Clues) -> list[Step]:
    """Secrets of the registration; a person picks which."""
    return [_credentials(app, since=clues.first_at) for app in clues.applications]


def _credentials(app: str, *, since: str) -> Step:
    application = f"/applications(appId={odata(app)})"
    principal = f"/servicePrincipals(appId={odata(app)})"
    return Step(
        "remove_credential",
        f"Remove credentials of the application {app} that are not its owner's",
        operations=tuple(
            Remove(
                f"{path}/passwordCredentials",
                GraphCall("POST", f"{path}/removePassword", {"keyId": "{found.keyId}"}),
                label=("displayName", "hint", "startDateTime", "keyId"),
            )
            for path in (application, principal)
        ),
        powershell=(
            (
                f"Get-MgApplicationByAppId -AppId {powershell(app)}"
                " | Format-List Id,PasswordCredentials,KeyCredentials"
            ),
            (
                f"Get-MgServicePrincipalByAppId -AppId {powershell(app)}"
                " | Format-List Id,PasswordCredentials,KeyCredentials"
            ),
            "Remove-MgApplicationPassword -ApplicationId ID -KeyId KEY",
            "Remove-MgServicePrincipalPassword -ServicePrincipalId ID -KeyId KEY",
        ),
        permissions=("Application.ReadWrite.All",),
        notes=(
            f"What was added since {since} is the likeliest; whoever adds a credential chooses its dates.",
            "Certificates (KeyCredentials) and federated credentials are taken away by hand.",
        ),
    )
