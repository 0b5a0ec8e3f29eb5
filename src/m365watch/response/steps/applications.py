"""Steps on applications: what they were granted, their credentials, and whether they may sign in at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from m365watch.detection.alerts.alert_builder import split_line
from m365watch.response.plans.alert_evidence import Account, Clues, first_of
from m365watch.response.plans.app_ids import App
from m365watch.response.plans.principal_ownership import MICROSOFT_TENANTS, is_of_microsoft
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import guid_in, looked_up, powershell
from m365watch.response.steps.step import GraphCall, Remove, Revise, Step

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


_LOOK = "$app | Format-List AppId,DisplayName,AppOwnerOrganizationId"
_UNLESS = f"# unless AppOwnerOrganizationId is of Microsoft ({' or '.join(sorted(MICROSOFT_TENANTS))}):"
"""Not every id of Microsoft's is known beforehand: a command is for after a look whose it is."""
_KEYS_SHOWN = "Format-List KeyId,DisplayName,Type,Usage,StartDateTime,EndDateTime"
_SECRETS_SHOWN = "Format-List KeyId,DisplayName,Hint,StartDateTime,EndDateTime"
"""By themselves: of a list within a list PowerShell shows the first four."""
_CERTIFICATE_OF_PRINCIPAL = (
    looked_up(
        "keys", "(Get-MgServicePrincipal -ServicePrincipalId $app.Id -Property KeyCredentials).KeyCredentials"
    ),
    f"$keys | {_KEYS_SHOWN}",
    (
        "# with the KeyId of the one that has to go in place of KEY: if ($keys) { Update-MgServicePrincipal"
        " -ServicePrincipalId $app.Id -KeyCredentials @($keys | Where-Object KeyId -ne 'KEY') }"
    ),
)
"""Removes one of them: what is given takes the place of all, and a key is whole only where it is asked for.

Where they could not be read, none would be left.

Source: Microsoft Graph, "Update servicePrincipal" and keyCredential; removeKey is for who has such a key.
"""
_ON_PRINCIPAL = (
    "On the service principal no page of Entra shows it (Enterprise applications has SAML's certificates"
    " alone): the last command keeps all but that one. Where it is refused, nothing has changed."
)
_ON_REGISTRATION = (
    "On the registration Entra's pages remove it: App registrations, the application, Certificates & secrets."
)
_OF_PRINCIPAL = frozenset({"add service principal credentials.", "update service principal."})
_OF_REGISTRATION = "update application"
_GUESS = "What was added since"
_KEYS = "m365.gained.KeyDescription"
_KEY = re.compile(r"\[KeyIdentifier=([\w-]+),KeyType=(\w+)")
"""What a record tells of a credential; what else stands there whoever adds it chooses."""


def remove_oauth_grant(clues: Clues) -> list[Step]:
    """Delegated and application permissions that the tenant gave it: what the record gave, then all else."""
    return [
        *grants_of_record(clues),
        *map(_grants, clues.applications_to_shut),
        *_spared("remove_oauth_grant", clues),
    ]


def remove_user_consent(clues: Clues) -> list[Step]:
    """What one person let an application do, and nothing that others rightly let it do."""
    return [
        _consent(app, account)
        for app in clues.applications
        for account in clues.accounts
        if not account.acted
    ]


def _spared(word: str, clues: Clues) -> list[Step]:
    return [
        Step(
            word,
            f"Leave the application {app.told} alone: it is Microsoft's own",
            notes=(
                (
                    "By hand: everybody's work goes through it. What was added to it here is not Microsoft's:"
                    " a secret, a permission, an owner or a role of it can be taken away. Look at the"
                    " accounts that used it, and end their sessions."
                ),
            ),
        )
        for app in clues.applications_of_microsoft
    ]


def _consent(app: App, account: Account) -> Step:
    return Step(
        "remove_user_consent",
        f"Withdraw what {account.name} let the application {app.told} do",
        operations=(
            Remove(
                delegated_of(app),
                GraphCall("DELETE", "/oauth2PermissionGrants/{found.id}"),
                label=("scope", "consentType"),
                wanted_of_subject=(("principalId", "id"),),
                subject=f"{path_of(account)}?$select=id",
                identified=app.identified,
                microsoft_too=True,
                restored_at="/oauth2PermissionGrants",
                restored=("clientId", "consentType", "principalId", "resourceId", "scope"),
            ),
        )
        if not app.principal_subject
        else (),
        powershell=(
            looked_up("user", f"Get-MgUser -UserId {powershell(account.name)}"),
            app.get_principal,
            (
                "Get-MgServicePrincipalOauth2PermissionGrant -ServicePrincipalId $app.Id -All |"
                " Where-Object { $_.ConsentType -eq 'Principal' -and $_.PrincipalId -eq $user.Id }"
                " | ForEach-Object { Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId $_.Id }"
            ),
        ),
        permissions=("Application.Read.All", "DelegatedPermissionGrant.ReadWrite.All", "User.Read.All")
        if not app.principal_subject
        else (),
        notes=(
            "What others let it do stays, and what an administrator let it do for everybody."
            if not app.principal_subject
            else "By hand: Graph knows it here by another id, which the commands find.",
            TOKENS,
        ),
    )


def _grants(app: App) -> Step:
    roles = roles_of(app)
    return Step(
        "remove_oauth_grant",
        f"Take all permissions from the application {app.told}",
        operations=(
            Remove(
                delegated_of(app),
                GraphCall("DELETE", "/oauth2PermissionGrants/{found.id}"),
                label=("consentType", "scope", "principalId"),
                takes_all=True,
                subject=app.principal_subject,
                identified=app.identified,
                restored_at="/oauth2PermissionGrants",
                restored=("clientId", "consentType", "principalId", "resourceId", "scope"),
            ),
            Remove(
                roles,
                GraphCall("DELETE", f"{roles}/{{found.id}}"),
                label=("resourceDisplayName", "appRoleId"),
                takes_all=True,
                subject=app.principal_subject,
                identified=app.identified,
                restored_at=roles,
                restored=("principalId", "resourceId", "appRoleId"),
            ),
        ),
        powershell=(
            app.get_principal,
            _LOOK,
            (
                f"{_UNLESS} Get-MgServicePrincipalOauth2PermissionGrant -ServicePrincipalId $app.Id"
                " -All | ForEach-Object { Remove-MgOauth2PermissionGrant -OAuth2PermissionGrantId $_.Id }"
            ),
            (
                f"{_UNLESS} Get-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id -All"
                " | ForEach-Object {"
                " Remove-MgServicePrincipalAppRoleAssignment -ServicePrincipalId $app.Id"
                " -AppRoleAssignmentId $_.Id }"
            ),
        ),
        permissions=(
            "AppRoleAssignment.ReadWrite.All",
            "Application.Read.All",
            "DelegatedPermissionGrant.ReadWrite.All",
        ),
        notes=("Everything that uses the application stops, also what is rightly used.", TOKENS),
    )


def disable_application(clues: Clues) -> list[Step]:
    """It gets no token any more in this tenant."""
    steps = [_disable(app, app.told) for app in clues.applications_to_shut]
    return [*steps, *_spared("disable_application", clues)]


def disable_acting(clues: Clues) -> list[Step]:
    """Whoever did it is no account, but an application; it does it again as long as it gets a token."""
    why = (
        "Whoever has a secret of it did this. Others may work with it, or it is a service of Microsoft's: see"
        " whose it is. --yes leaves it alone."
    )
    return [
        replace(_disable(app, f"{app.told} (who did it)"), notes=(why, TOKENS), asks_always=True)
        for app in clues.acting_applications
    ]


def _disable(app: App, told: str) -> Step:
    return Step(
        "disable_application",
        f"Disable the application {told}",
        operations=(
            Revise(
                app.principal,
                {"accountEnabled": False},
                subject=app.principal_subject,
                identified=app.identified,
            ),
        ),
        powershell=(
            app.get_principal,
            _LOOK,
            f"{_UNLESS} Update-MgServicePrincipal -ServicePrincipalId $app.Id -AccountEnabled:$false",
        ),
        permissions=("Application.ReadWrite.All",),
        notes=(TOKENS,),
    )


def remove_credential(clues: Clues) -> list[Step]:
    """Secrets of the registration, of which a person picks; a certificate that was added is by hand."""
    told = clues.told(_KEYS)
    keys = [one for value in told for one in _KEY.findall(value)]
    by_hand = [f"{number} ({kind})" for number, kind in keys if kind.lower() != "password"]
    secrets = [number for number, kind in keys if kind.lower() == "password"]
    # Where not all of it is known, a secret may be among the rest.
    is_whole = told == clues.values(_KEYS)
    has_secrets = bool(secrets) or not by_hand or not is_whole
    by_hand += [] if is_whole or not by_hand else ["and more, which its record has"]
    # Of a record of a credential that is the application's own name, which may be another's id.
    name = first_of(clues.values("m365.target_name")) if told else ""
    steps: list[Step] = []
    for app in clues.applications:
        whose = f'{app.told} ("{name}")' if name and not guid_in(name) else app.told
        steps += [_credentials(app, whose, secrets, since=clues.first_at)] if has_secrets else []
        steps += [_certificates(app, whose, by_hand, clues.operation)] if by_hand else []
    return steps


def without_guesses(steps: Sequence[Step]) -> list[Step]:
    """The steps, but none that guesses among the secrets of an application of which another knows the key."""
    guesses = [one for one in steps if any(note.startswith(_GUESS) for note in one.notes)]
    known = [one.operations for one in steps if one not in guesses]
    return [one for one in steps if one not in guesses or one.operations not in known]


def _certificates(app: App, whose: str, keys: Sequence[str], operation: str) -> Step:
    """By hand, and where the record has it; on either object where that is not known."""
    is_registered = operation not in _OF_PRINCIPAL and not is_of_microsoft(app.id)
    is_principal = not is_registered or not operation.startswith(_OF_REGISTRATION)
    look = (app.get_registration, f"$registration.KeyCredentials | {_KEYS_SHOWN}")
    return Step(
        "remove_credential",
        f"Remove what was added to the application {whose} and is no secret: {', '.join(keys)}",
        powershell=(
            *(look if is_registered else ()),
            *((app.get_principal, *_CERTIFICATE_OF_PRINCIPAL) if is_principal else ()),
        ),
        notes=(
            "By hand: it is no secret, and only secrets are removed by Graph here.",
            *((_ON_REGISTRATION,) if is_registered else ()),
            *((_ON_PRINCIPAL,) if is_principal else ()),
        ),
    )


def _credentials(app: App, whose: str, secrets: Sequence[str], *, since: str) -> Step:
    known = f": the record has {', '.join(secrets)}" if secrets else ""
    registered = (app.registration, app.registration_subject, app.identified_registration)
    principal = (app.principal, app.principal_subject, app.identified)
    # Microsoft's own are registered with Microsoft: here is their service principal alone.
    is_registered = not is_of_microsoft(app.id)
    places = (registered, principal) if is_registered else (principal,)
    of_registration = (
        app.get_registration,
        f"$registration.PasswordCredentials | {_SECRETS_SHOWN}",
        "Remove-MgApplicationPassword -ApplicationId $registration.Id -KeyId KEY",
    )
    return Step(
        "remove_credential",
        f"Remove credentials of the application {whose} that are not its owner's{known}",
        operations=tuple(
            Remove(
                f"{path}/passwordCredentials",
                GraphCall("POST", f"{path}/removePassword", {"keyId": "{found.keyId}"}),
                label=("displayName", "hint", "startDateTime", "keyId"),
                subject=subject,
                identified=identified,
                microsoft_too=True,
            )
            for path, subject, identified in places
        ),
        powershell=(
            *(of_registration if is_registered else ()),
            app.get_principal,
            f"$app.PasswordCredentials | {_SECRETS_SHOWN}",
            "Remove-MgServicePrincipalPassword -ServicePrincipalId $app.Id -KeyId KEY",
            *(() if secrets else _CERTIFICATE_OF_PRINCIPAL),
        ),
        permissions=("Application.ReadWrite.All",),
        notes=(
            *(() if secrets else (f"{_GUESS} {since} is the likeliest; whoever adds it chooses its dates.",)),
            "Certificates (KeyCredentials) and federated credentials are taken away by hand.",
            *(() if secrets else (_ON_REGISTRATION, _ON_PRINCIPAL) if is_registered else (_ON_PRINCIPAL,)),
        ),
    )
