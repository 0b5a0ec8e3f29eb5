"""Steps on applications: what they were granted, their credentials, and whether they may sign in at all."""

from __future__ import annotations

from m365watch.respond.app_names import App
from m365watch.respond.clues import Clues
from m365watch.respond.steps import GraphCall, Remove, Revise, Step


def remove_oauth_grant(clues: Clues) -> list[Step]:
    """Delegated and application permissions that the tenant gave it."""
    return [_grants(app) for app in clues.applications]


def _grants(app: App) -> Step:
    principal = app.principal
    return Step(
        "remove_oauth_grant",
        f"Take all permissions from the application {app.told}",
        operations=(
            Remove(
                f"{principal}/oauth2PermissionGrants",
                GraphCall("DELETE", "/oauth2PermissionGrants/{found.id}"),
                label=("consentType", "scope", "principalId"),
                takes_all=True,
                subject=app.principal_subject,
                restored_at="/oauth2PermissionGrants",
                restored=("clientId", "consentType", "principalId", "resourceId", "scope"),
            ),
            Remove(
                f"{principal}/appRoleAssignments",
                GraphCall("DELETE", f"{principal}/appRoleAssignments/{{found.id}}"),
                label=("resourceDisplayName", "appRoleId"),
                takes_all=True,
                subject=app.principal_subject,
                restored_at=f"{principal}/appRoleAssignments",
                restored=("principalId", "resourceId", "appRoleId"),
            ),
        ),
        powershell=(
            app.get_principal,
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
            f"Disable the application {app.told}",
            operations=(Revise(app.principal, {"accountEnabled": False}, subject=app.principal_subject),),
            powershell=(
                app.get_principal,
                "Update-MgServicePrincipal -ServicePrincipalId $app.Id -AccountEnabled:$false",
            ),
            permissions=("Application.ReadWrite.All",),
        )
        for app in clues.applications
    ]


def remove_credential(clues: Clues) -> list[Step]:
    """Secrets of the registration; a person picks which."""
    return [_credentials(app, since=clues.first_at) for app in clues.applications]


def _credentials(app: App, *, since: str) -> Step:
    places = ((app.registration, app.registration_subject), (app.principal, app.principal_subject))
    return Step(
        "remove_credential",
        f"Remove credentials of the application {app.told} that are not its owner's",
        operations=tuple(
            Remove(
                f"{path}/passwordCredentials",
                GraphCall("POST", f"{path}/removePassword", {"keyId": "{found.keyId}"}),
                label=("displayName", "hint", "startDateTime", "keyId"),
                subject=subject,
            )
            for path, subject in places
        ),
        powershell=(
            app.get_registration,
            "$registration | Format-List Id,PasswordCredentials,KeyCredentials",
            "Remove-MgApplicationPassword -ApplicationId $registration.Id -KeyId KEY",
            app.get_principal,
            "$app | Format-List Id,PasswordCredentials,KeyCredentials",
            "Remove-MgServicePrincipalPassword -ServicePrincipalId $app.Id -KeyId KEY",
        ),
        permissions=("Application.ReadWrite.All",),
        notes=(
            f"What was added since {since} is the likeliest; whoever adds a credential chooses its dates.",
            "Certificates (KeyCredentials) and federated credentials are taken away by hand.",
        ),
    )
