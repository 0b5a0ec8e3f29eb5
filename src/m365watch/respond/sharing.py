"""Steps on files, sites and links."""

from __future__ import annotations

from urllib.parse import unquote

from m365watch.respond.clues import Clues
from m365watch.respond.quoting import UnsafeValue, powershell, share_id
from m365watch.respond.steps import GraphCall, Remove, Step

_SHAREPOINT_ONLY = "SharePoint PowerShell only: Graph cannot do it."


def disable_anonymous_link(clues: Clues) -> list[Step]:
    """Links that anyone can open cease to be; a new link would have another address."""
    steps = []
    for url in _addresses(clues):
        permissions = _permissions_of(
            url, wanted=(("link.scope", "anonymous"),), label=("link.type", "link.webUrl")
        )
        steps.append(
            Step(
                "disable_anonymous_link",
                f"Remove the links with which anyone can open {url}",
                operations=(permissions,),
                powershell=(
                    f"Get-PnPFileSharingLink -Identity {powershell(_on_server(url))}",
                    "# then each that is for anyone, by its id:",
                    f"Remove-PnPFileSharingLink -FileUrl {powershell(_on_server(url))} -Identity ID -Force",
                ),
                permissions=("Files.ReadWrite.All",),
                notes=("What was opened with the link until now is known to whoever had it.",),
            )
        )
    return steps


def remove_sharing(clues: Clues) -> list[Step]:
    """The outsider can open it no more; a person picks among those who can."""
    outside = clues.entity("recipient")
    return [
        Step(
            "remove_sharing",
            f"Share {url} with outsiders no more",
            operations=(
                _permissions_of(
                    url,
                    wanted=tuple(("grantedToV2.user.email", one) for one in outside),
                    label=("roles", "grantedToV2.user.email", "link.type"),
                ),
            ),
            permissions=("Files.ReadWrite.All",),
            notes=("An invitation through a link is listed as the link.",),
        )
        for url in _addresses(clues)
    ]


def _permissions_of(url: str, *, wanted: tuple[tuple[str, str], ...], label: tuple[str, ...]) -> Remove:
    place = "/drives/{subject.parentReference.driveId}/items/{subject.id}/permissions"
    return Remove(
        place,
        GraphCall("DELETE", f"{place}/{{found.id}}"),
        label=label,
        wanted=wanted,
        subject=f"/shares/{share_id(url)}/driveItem?$select=id,parentReference",
    )


def remove_site_admin(clues: Clues) -> list[Step]:
    """The site loses an administrator."""
    return [
        Step(
            "remove_site_admin",
            f"Make {who} administrator of {site} no more",
            powershell=(
                (
                    f"Set-SPOUser -Site {powershell(site)} -LoginName {powershell(who)}"
                    " -IsSiteCollectionAdmin $false"
                ),
            ),
            notes=(_SHAREPOINT_ONLY,),
        )
        for site in clues.entity("site")
        for who in clues.entity("grantee") or clues.values("ModifiedProperties.SiteAdmin.new")
    ]


def restore_sharing_policy(clues: Clues) -> list[Step]:
    """The site, or the organisation, shares with nobody outside until somebody has looked."""
    sites = clues.entity("site")
    lines = [
        f"Set-SPOSite -Identity {powershell(site)} -SharingCapability Disabled"
        for site in sites
        if site.startswith("https://")
    ]
    return [
        Step(
            "restore_sharing_policy",
            "Put the sharing policy back",
            powershell=(
                *lines,
                "Get-SPOTenant | Format-List SharingCapability,DefaultSharingLinkType",
                "Set-SPOTenant -SharingCapability ExistingExternalUserSharingOnly",
            ),
            notes=(_SHAREPOINT_ONLY, "The alert's record has the values before and after."),
        )
    ]


def restore_files(clues: Clues) -> list[Step]:
    """What was deleted is in the recycle bin for 93 days; what was encrypted has versions."""
    who = next((one.name for one in clues.accounts), "")
    deleted = f" -DeletedByEmail {powershell(who)}" if who else ""
    return [
        Step(
            "restore_files",
            "Bring files back from the recycle bin, or the library to an earlier time",
            powershell=(
                f"Connect-PnPOnline -Url {powershell(site)} -Interactive",
                f"Get-PnPRecycleBinItem | Where-Object DeletedByEmail -eq {powershell(who)}"
                if deleted
                else "Get-PnPRecycleBinItem",
                "# after a look: ... | Restore-PnPRecycleBinItem -Force",
            ),
            notes=(
                (
                    "By hand, once the intruder is out: a library can be set back to any time of the last"
                    f" 30 days (Settings, Restore this library); the first record is of {clues.first_at}."
                ),
            ),
        )
        for site in clues.entity("site") or clues.values("SiteUrl")
    ]


def remove_file(clues: Clues) -> list[Step]:
    """The file goes to the recycle bin."""
    named = clues.values("ObjectId", "FileData.FilePath") or clues.entity("file")
    named = named or clues.values("CopilotEventData.AccessedResources.Name")
    return [
        Step(
            "remove_file",
            f"Remove the file {one}",
            powershell=(_remove_file(one),),
            notes=("By hand, connected to its site: keep a copy for whoever examines it.",),
        )
        for one in named
    ]


def _remove_file(named: str) -> str:
    """PnP takes a path from the server on, or from the site on, and no address."""
    path = _on_server(named)
    kind = "ServerRelativeUrl" if path != named else "SiteRelativeUrl"
    return f"Remove-PnPFile -{kind} {powershell(path)} -Recycle"


def _on_server(named: str) -> str:
    """The path of an address on its server; what is no address, as it is.

    Records have addresses as they are shown: what looks like an escape in one with blanks is a name.
    """
    scheme, _, rest = named.partition("://")
    if scheme.lower() != "https":
        return named
    path = f"/{rest.partition('/')[2]}"
    return unquote(path) if "%20" in path and " " not in path else path


def scan_device(clues: Clues) -> list[Step]:
    """The devices of the account are searched for malware."""
    return [
        Step(
            "scan_device",
            f"Have the devices of {one.told} searched for malware",
            powershell=(
                "Start-MpScan -ScanType FullScan  # on the device, or from Defender's page of the device",
            ),
            notes=("By hand: Graph cannot do it. With Defender for Endpoint, isolate the device first.",),
        )
        for one in clues.accounts
        if not one.acted
    ]


def _addresses(clues: Clues) -> list[str]:
    found = []
    for url in clues.values("ObjectId"):
        try:
            share_id(url)
        except UnsafeValue:
            continue
        found.append(url)
    return found
