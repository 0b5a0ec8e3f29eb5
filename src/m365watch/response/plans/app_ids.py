"""What an application is called by: records have now its id, now that of an object of the directory.

An application has an id that is the same everywhere, a registration in its home tenant, and a service
principal in each tenant that uses it; both of these have object ids of their own, which Graph takes in other
places.

Source: Microsoft Graph, application and servicePrincipal, "alternate key appId"; published records, whose
ObjectId is `Application_` or `ServicePrincipal_` and an object's id, or the application's.
"""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.response.steps.command_escaping import guid_in, looked_up, odata, powershell

_REGISTRATION = "application_"
_PRINCIPAL = "serviceprincipal_"
_GET_REGISTRATION = "Get-MgApplication -ApplicationId"
_GET_PRINCIPAL = "Get-MgServicePrincipal -ServicePrincipalId"
_REGISTRATION_BY_APP = "Get-MgApplicationByAppId -AppId"
_PRINCIPAL_BY_APP = "Get-MgServicePrincipalByAppId -AppId"
_FOUND = "(appId='{subject.appId}')"


@dataclass(frozen=True, slots=True)
class App:
    """An application, by whichever id the alert has."""

    id: str
    """A GUID, in lower case."""
    told: str
    """As a step's title names it."""
    registration: str
    """The path of its registration; {subject.appId} stands for what was looked up."""
    registration_subject: str
    """The path that has to be read for that first; empty for none."""
    principal: str
    """The path of its service principal, and so on."""
    principal_subject: str
    get_registration: str
    """PowerShell that gives it as $registration."""
    get_principal: str
    """PowerShell that gives the service principal as $app."""

    @property
    def identified(self) -> str:
        """The path that tells whose the service principal is, and what it is called."""
        return f"{self.principal}?$select=id,appId,displayName,appOwnerOrganizationId,verifiedPublisher"

    @property
    def identified_registration(self) -> str:
        """The same of its registration, which is always the tenant's own."""
        return f"{self.registration}?$select=id,appId,displayName,verifiedPublisher"


def is_by_object(command: str) -> bool:
    """Whether the command takes an application by an object's id, which does not tell whose it is."""
    return f"{_GET_REGISTRATION} '" in command or f"{_GET_PRINCIPAL} '" in command


def acting_app(name: str) -> App | None:
    """The application that a record has where others have an account; None where it is none."""
    return app_of(name) if name.lower().startswith(_PRINCIPAL) else None


def app_of(value: str) -> App | None:
    """The application that an alert names so; None where it is no id, such as a name that has one in it."""
    guid = guid_in(value)
    if not guid or value.lower() not in (guid, _REGISTRATION + guid, _PRINCIPAL + guid):
        return None
    quoted = powershell(guid)
    if value.lower().startswith(_REGISTRATION):
        own = f"/applications/{guid}"
        get = looked_up("registration", f"{_GET_REGISTRATION} {quoted}")
        return App(
            id=guid,
            told=f"with the object id {guid}",
            registration=own,
            registration_subject="",
            principal=f"/servicePrincipals{_FOUND}",
            principal_subject=f"{own}?$select=id,appId",
            get_registration=get,
            get_principal=f"{get}; {looked_up('app', f'{_PRINCIPAL_BY_APP} $registration.AppId')}",
        )
    if value.lower().startswith(_PRINCIPAL):
        own = f"/servicePrincipals/{guid}"
        get = looked_up("app", f"{_GET_PRINCIPAL} {quoted}")
        return App(
            id=guid,
            told=f"whose service principal is {guid}",
            registration=f"/applications{_FOUND}",
            registration_subject=f"{own}?$select=id,appId",
            principal=own,
            principal_subject="",
            get_registration=f"{get}; {looked_up('registration', f'{_REGISTRATION_BY_APP} $app.AppId')}",
            get_principal=get,
        )
    return App(
        id=guid,
        told=guid,
        registration=f"/applications(appId={odata(guid)})",
        registration_subject="",
        principal=f"/servicePrincipals(appId={odata(guid)})",
        principal_subject="",
        get_registration=looked_up("registration", f"{_REGISTRATION_BY_APP} {quoted}"),
        get_principal=looked_up("app", f"{_PRINCIPAL_BY_APP} {quoted}"),
    )
