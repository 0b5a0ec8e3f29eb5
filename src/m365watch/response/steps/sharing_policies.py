"""Steps on what a site, or the organisation, may share: the switch that was turned, and how it was."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.detection.rules.containment import SHARING_SWITCHES
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Step

_WORD = "restore_sharing_policy"


@dataclass(frozen=True, slots=True)
class _Switch:
    """Where a switch of the record is looked at, and what turns it back."""

    look: str
    back: str


_GUESTS, _LINKS = "ShareWithGuests", "ShareUsingAnonymousLinks"
"""Both turn the one setting of a site."""
_OF_SITE = {
    _GUESTS: _Switch("SharingCapability", "-SharingCapability Disabled"),
    _LINKS: _Switch("SharingCapability", "-SharingCapability ExternalUserSharingOnly"),
    "AllowDomainList": _Switch("SharingDomainRestrictionMode,SharingAllowedDomainList", ""),
}
_OF_TEAMS = {
    "AllowGuestUser": _Switch("Get-CsTeamsClientConfiguration", "Set-CsTeamsClientConfiguration"),
    "AllowFederatedUsers": _Switch(
        "Get-CsTenantFederationConfiguration", "Set-CsTenantFederationConfiguration"
    ),
    "AllowTeamsConsumer": _Switch(
        "Get-CsTenantFederationConfiguration", "Set-CsTenantFederationConfiguration"
    ),
}


def restore_sharing_policy(clues: Clues) -> list[Step]:
    """What the record changed is looked at and put back, and nothing else.

    Of a site no record says what the tenant allows: whatever is set there opens one tenant and shuts another.
    """
    changed = [one for one in SHARING_SWITCHES if clues.has(_field(one, "new"), _field(one, "old"))]
    return [_step(site, changed, clues) for site in clues.entity("site") or ("",)]


def _field(switch: str, side: str) -> str:
    return f"ModifiedProperties.{switch}.{side}"


def _step(site: str, changed: list[str], clues: Clues) -> Step:
    lines = [line for one in _strictest(changed) for line in _lines(one, site, clues)]
    what = f" ({', '.join(changed)})" if changed else ""
    before = tuple(f"{one} was {_before(one, clues)}." for one in changed)
    return Step(
        _WORD,
        f"Put the sharing policy of {site} back{what}" if site else f"Put the sharing policy back{what}",
        powershell=tuple(dict.fromkeys(lines))
        or (_look_at(site, "SharingCapability,SharingAllowedDomainList"),),
        notes=("SharePoint and Teams PowerShell only: Graph cannot do it.", *before),
    )


def _strictest(changed: list[str]) -> list[str]:
    """Those whose command is given: what shuts links alone would open again what shuts guests out."""
    return [one for one in changed if one != _LINKS or _GUESTS not in changed]


def _before(switch: str, clues: Clues) -> str:
    found = clues.values(_field(switch, "old"))
    return found[0] if found else "nothing, or is not known"


def _lines(switch: str, site: str, clues: Clues) -> list[str]:
    if switch == "IsPublic":
        return [
            "Get-UnifiedGroup -ResultSize Unlimited | Format-Table DisplayName,AccessType,SharePointSiteUrl",
            "# for the group of the site: Set-UnifiedGroup -Identity GROUP -AccessType Private",
        ]
    if switch in _OF_TEAMS:
        of_teams = _OF_TEAMS[switch]
        return [
            f"{of_teams.look} | Format-List {switch}",
            f"# unless you mean it: {of_teams.back} -{switch} $false",
        ]
    of_site = _OF_SITE[switch]
    if not site.startswith("https://"):
        return [f"Get-SPOTenant | Format-List {of_site.look}"]
    domains = clues.values(_field(switch, "old")) if switch == "AllowDomainList" else ()
    back = f"-SharingAllowedDomainList {powershell(domains[0])}" if domains else of_site.back
    return [
        _look_at(site, of_site.look),
        *(
            [f"# unless it is shut further by now: Set-SPOSite -Identity {powershell(site)} {back}"]
            if back
            else ()
        ),
    ]


def _look_at(site: str, what: str) -> str:
    if not site.startswith("https://"):
        return f"Get-SPOTenant | Format-List {what}"
    return f"Get-SPOSite -Identity {powershell(site)} | Format-List {what}"
