"""What PowerShell has to be connected to before the commands of a plan, and to which tenant.

Whoever answers for several tenants has a window open to another one, and the commands would be done there.

Source: the reference of each module (of PnP its page on national clouds), "Connect to Security & Compliance
PowerShell" for its addresses, and Microsoft Graph's for delegated permissions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from m365watch.config.models.clouds import CLOUDS, Cloud
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Plan, Step

_QUOTED = re.compile(r"'(?:[^']|'')*'")
_CMDLET = re.compile(r"\b(Add|Disable|Enable|Get|New|Remove|Restore|Revoke|Set|Start|Update)-([A-Z]\w*)")
_ELSEWHERE = ("PnP", "Mp")
"""Nouns of steps that say themselves to what they connect, or that are done on a device."""
_COMPLIANCE = ("DlpCompliance", "ProtectionAlert", "UnifiedAuditLogRetentionPolicy")
"""Nouns of Security & Compliance PowerShell."""
_SEARCH = "ComplianceSearch"
"""Nouns for which that has to be told when it is connected."""
_SCOPES: Mapping[str, tuple[str, ...]] = {
    "Application": ("Application.ReadWrite.All",),
    "ApplicationOwner": ("Application.ReadWrite.All", "User.Read.All"),
    "AuditLogSignIn": ("AuditLog.Read.All",),
    "BetaAuditLogSignIn": ("AuditLog.Read.All",),
    "Device": ("Directory.AccessAsUser.All",),
    "DirectoryRole": ("RoleManagement.Read.Directory", "User.Read.All"),
    "Domain": ("Domain.ReadWrite.All",),
    "Group": ("GroupMember.ReadWrite.All",),
    "GroupMember": ("GroupMember.ReadWrite.All", "User.Read.All"),
    "GroupMemberDirectoryObject": ("GroupMember.ReadWrite.All", "RoleManagement.ReadWrite.Directory"),
    "GroupOwner": ("Group.ReadWrite.All",),
    "IdentityConditionalAccess": ("Policy.Read.All", "Policy.ReadWrite.ConditionalAccess"),
    "Oauth2PermissionGrant": ("DelegatedPermissionGrant.ReadWrite.All",),
    "Policy": ("Policy.Read.All",),
    "RoleManagementDirectory": ("RoleManagement.ReadWrite.Directory",),
    "ServicePrincipal": ("Application.ReadWrite.All",),
    "ServicePrincipalAppRoleAssignment": ("AppRoleAssignment.ReadWrite.All", "Application.Read.All"),
    "ServicePrincipalOauth2PermissionGrant": ("DelegatedPermissionGrant.ReadWrite.All",),
    "ServicePrincipalOwner": ("Application.ReadWrite.All", "User.Read.All"),
    "User": ("User.Read.All",),
    "UserAuthentication": ("UserAuthenticationMethod.ReadWrite.All",),
    "UserMemberOf": ("Directory.Read.All",),
    "UserOauth2PermissionGrant": ("Directory.Read.All",),
    "UserOwnedObject": ("Directory.Read.All",),
    "UserRegisteredDevice": ("Directory.Read.All",),
    "UserSignInSession": ("User.RevokeSessions.All",),
}
"""By how the noun begins; the longest counts."""
_READ_ONLY = (
    "Application.",
    "Domain.",
    "Group.",
    "GroupMember.",
    "RoleManagement.",
    "UserAuthenticationMethod.",
)
"""Permissions of which there is one for reading alone."""
_OF_OPTION: Mapping[str, tuple[str, ...]] = {
    "-AccountEnabled": ("User.EnableDisableAccount.All",),
    "-PasswordProfile": ("User-PasswordProfile.ReadWrite.All",),
}
"""What `Update-MgUser` needs besides."""


@dataclass(frozen=True, slots=True)
class _Ways:
    """How the modules call a cloud, each with a blank before it."""

    graph: str = ""
    exchange: str = ""
    compliance: str = ""
    sharepoint: str = ""
    sharepoint_domain: str = "sharepoint.com"
    pnp: str = ""
    teams: str = ""
    power_apps: str = ""


_PUBLIC = _Ways()
_US = " -AzureADAuthorizationEndpointUri https://login.microsoftonline.us/common"
_WAYS: Mapping[str, _Ways] = {
    "worldwide": _PUBLIC,
    "gcc": _Ways(pnp=" -AzureEnvironment USGovernment", power_apps=" -Endpoint usgov"),
    "gcc-high": _Ways(
        graph=" -Environment USGov",
        exchange=" -ExchangeEnvironmentName O365USGovGCCHigh",
        compliance=f" -ConnectionUri https://ps.compliance.protection.office365.us/powershell-liveid/{_US}",
        sharepoint=" -Region ITAR",
        sharepoint_domain="sharepoint.us",
        pnp=" -AzureEnvironment USGovernmentHigh",
        teams=" -TeamsEnvironmentName TeamsGCCH",
        power_apps=" -Endpoint usgovhigh",
    ),
    "dod": _Ways(
        graph=" -Environment USGovDoD",
        exchange=" -ExchangeEnvironmentName O365USGovDoD",
        compliance=(
            f" -ConnectionUri https://l5.ps.compliance.protection.office365.us/powershell-liveid/{_US}"
        ),
        sharepoint=" -Region ITAR",
        sharepoint_domain="sharepoint-mil.us",
        pnp=" -AzureEnvironment USGovernmentDoD",
        teams=" -TeamsEnvironmentName TeamsDOD",
        power_apps=" -Endpoint dod",
    ),
    "china": _Ways(
        graph=" -Environment China",
        exchange=" -ExchangeEnvironmentName O365China",
        compliance=(
            " -ConnectionUri https://ps.compliance.protection.partner.outlook.cn/powershell-liveid"
            " -AzureADAuthorizationEndpointUri https://login.chinacloudapi.cn/common"
        ),
        sharepoint=" -Region China",
        sharepoint_domain="sharepoint.cn",
        pnp=" -AzureEnvironment China",
        teams=" -TeamsEnvironmentName TeamsChina",
        power_apps=" -Endpoint china",
    ),
}
"""By the names that clouds have in the configuration."""


def _ways_in(cloud: Cloud) -> _Ways:
    """Those of a cloud whose hosts are given one by one are told by its Graph."""
    alike = (known.name for known in CLOUDS.values() if known.graph_url == cloud.graph_url)
    return _WAYS.get(cloud.name) or _WAYS.get(next(alike, ""), _PUBLIC)


def connections(plan: Plan, *, cloud: Cloud) -> tuple[str, ...]:
    """The lines that come before those of the steps, one for each module that these are of."""
    lines = [_QUOTED.sub("''", line) for step in plan.steps for line in step.powershell]
    named = dict.fromkeys(pair for line in lines for pair in _CMDLET.findall(line))
    cmdlets = [(verb, noun) for verb, noun in named if not noun.startswith(_ELSEWHERE)]
    ways, tenant = _ways_in(cloud), powershell(plan.tenant)
    scopes = ",".join(map(powershell, _scopes(cmdlets, lines)))
    seen = f"Get-ConnectionInformation | Format-List TenantID  # go on only if it is {plan.tenant}"
    of_module = {
        "Mg": f"Connect-MgGraph{ways.graph} -TenantId {tenant} -Scopes {scopes}" if scopes else "",
        "SPO": f"Connect-SPOService{ways.sharepoint} -Url https://YOURS-admin.{ways.sharepoint_domain}",
        "Cs": f"Connect-MicrosoftTeams{ways.teams} -TenantId {tenant}",
        "AdminFlow": f"Add-PowerAppsAccount{ways.power_apps} -TenantID {tenant}",
        **dict.fromkeys(_COMPLIANCE, f"Connect-IPPSSession{ways.compliance} -ShowBanner:$false; {seen}"),
        _SEARCH: (
            f"Connect-IPPSSession -EnableSearchOnlySession{ways.compliance} -ShowBanner:$false; {seen}"
        ),
        "": f"Connect-ExchangeOnline{ways.exchange} -ShowBanner:$false; {seen}",
    }
    modules = {next(one for one in of_module if noun.startswith(one)) for _, noun in cmdlets}
    # The last that is connected answers to what several have, and only Exchange knows whether the log is on.
    return tuple(dict.fromkeys(line for module, line in of_module.items() if module in modules))


def commands(step: Step, *, cloud: Cloud) -> tuple[str, ...]:
    """The step's lines of PowerShell; one that connects says to which cloud."""
    pnp = _ways_in(cloud).pnp
    return tuple(line + pnp if line.startswith("Connect-PnPOnline ") else line for line in step.powershell)


def _scopes(cmdlets: Iterable[tuple[str, str]], lines: Iterable[str]) -> list[str]:
    """What whoever signs in consents to, for all of them; no right to read where there is one to change."""
    scopes = {
        scope
        for verb, noun in cmdlets
        if noun.startswith("Mg")
        for scope in scopes_of(noun.removeprefix("Mg"), reads=verb == "Get")
    }
    updates = [line for line in lines if "Update-MgUser " in line]
    options = [one for one in _OF_OPTION if any(one in line for line in updates)]
    scopes |= {scope for option in options for scope in _OF_OPTION[option]}
    return sorted(one for one in scopes if one.replace(".Read.", ".ReadWrite.") not in scopes - {one})


def scopes_of(noun: str, *, reads: bool = False) -> tuple[str, ...]:
    """What a cmdlet of Graph with that noun needs; nothing where that is unknown."""
    begins = [one for one in _SCOPES if noun.startswith(one)]
    scopes = _SCOPES[max(begins, key=len)] if begins else ()
    if not reads:
        return scopes
    return tuple(
        one.replace(".ReadWrite.", ".Read.") if one.startswith(_READ_ONLY) else one for one in scopes
    )
