"""Steps on files, sites and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import quote, unquote

from m365watch.detection.rules.containment import SHARING_SWITCHES
from m365watch.response.plans.alert_evidence import Clues, first_of
from m365watch.response.steps.command_escaping import UnsafeValue, is_account, is_whole, powershell, share_id
from m365watch.response.steps.step import GraphCall, Remove, Step

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NEVER_SENT = re.compile(r"[^!-~]|[\"<>\\^`{|}]")
"""What no address has as it is sent: blanks, letters that are not ASCII, and some signs."""
_SITES = frozenset({"personal", "sites", "teams"})
"""What stands before the name of a site in an address; any other is of the site at the root."""
_KEPT = "/:@!$&()*+,;=~"


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file at an address of SharePoint."""

    shown: str
    """The address as the record has it."""
    path: str
    """From its server on, as people write it; empty where that is not certain."""
    share: str
    """How Graph names it below /shares; empty where its path is not certain."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a file lies whose own name is not known whole."""

    site: str
    """The address of its site."""
    path: str
    """From the site on, as far as it is known whole; may be empty."""

    @property
    def shown(self) -> str:
        """The address of both."""
        return f"{self.site}/{self.path}" if self.path else self.site


def folder_of(shown: str) -> Folder | None:
    """The nearest folder that is known of what is at that address; None where not even its site is."""
    scheme, _, rest = shown.partition("://")
    host, *segments = rest.split("/")
    whole = [*takewhile(is_whole, segments[:-1])]
    depth = 2 if segments[0:1] and segments[0].lower() in _SITES else 0
    if scheme != "https" or not is_whole(host) or len(whole) < depth:
        return None
    return Folder("/".join((f"https://{host}", *whole[:depth])), "/".join(whole[depth:]))


def place_of(shown: str, names: tuple[str, ...] = ()) -> FilePlace | None:
    """The file at that address; `names` has what the record calls it. None where it is no address."""
    scheme, _, rest = shown.partition("://")
    host, _, below = rest.partition("/")
    try:
        share_id(shown)
    except UnsafeValue:
        return None
    path = _path_of(f"/{below}", names)
    path = path if path.isprintable() else ""
    return FilePlace(shown, path, share_id(f"{scheme}://{host}{quote(path, safe=_KEPT)}") if path else "")


def _path_of(written: str, names: tuple[str, ...]) -> str:
    """The path as people write it; empty where it is not certain how this one is written."""
    if not _ESCAPE.search(written) or _NEVER_SENT.search(written):
        return written
    last = written.rpartition("/")[2]
    if last == unquote(last):
        return ""
    is_sent, is_shown = unquote(last) in names, last in names
    return "" if is_sent == is_shown else unquote(written) if is_sent else written


_RESTORE_SHARING_POLICY = "restore_sharing_policy"


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
        _RESTORE_SHARING_POLICY,
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


_SHAREPOINT_ONLY = "SharePoint PowerShell only: Graph cannot do it."
_NAMES = ("SourceFileName", "FileData.FileName")
_OF_FILES = ("filemalwaredetected",)
"""Operations whose object is a file; that of Defender's finds is one of Defender's."""
_ASKED = Step(
    "remove_file",
    "Ask the person what they wanted of Copilot",
    notes=("By hand: the attempt stands in the question; no document that was read is at fault.",),
)
_HOLDERS = ("grantedToV2.user.email", "grantedToIdentitiesV2.user.email", "invitation.email")
"""Where Graph has whom a permission is for: one person, those of a link, or somebody who has yet to come."""
_TOLD = ("EventData", "TargetUserOrGroupName")
_TYPE = re.compile(r"<Type>(Edit|View)</Type>|\.Anonymous(Edit|View)\b", re.IGNORECASE)
"""How records tell what a link is for."""
_UNCERTAIN = (
    "By hand: what looks like a blank in its address may be a part of its name, and another file may be"
    " called like that; the site shows which it is."
)

_CLIENT = (
    "CLIENT is the id of an application of yours for PnP PowerShell, which has had none for everybody since"
    " September 2024."
)
_NOT_SHOWN = (
    "By hand: its name has a character that is not shown, or is too long to be known whole. `m365watch alerts"
    " show --raw` has it."
)
_LINKS_OF_FILE = (
    "Get-PnPFileSharingLink -Identity PATH",
    "Remove-PnPFileSharingLink -FileUrl PATH -Identity ID -Force",
)
_LINKS_OF_FOLDER = (
    "Get-PnPFolderSharingLink -Folder PATH",
    "Remove-PnPFolderSharingLink -Folder PATH -Identity ID -Force",
)
_TO_PICK = {
    ("disable_anonymous_link", "file"): _LINKS_OF_FILE,
    ("disable_anonymous_link", "folder"): _LINKS_OF_FOLDER,
    ("remove_sharing", "file"): _LINKS_OF_FILE,
    ("remove_sharing", "folder"): _LINKS_OF_FOLDER,
    ("remove_file", "file"): ("Remove-PnPFile -ServerRelativeUrl PATH -Recycle",),
}
"""What a person does with the one picked, by the step's word and by what it is."""


def disable_anonymous_link(clues: Clues) -> list[Step]:
    """The link with which anyone can open it ceases to be; a new one would have another address."""
    return [
        *(_close_links(place, clues) for place in _places(clues)),
        *_find_files("disable_anonymous_link", "remove the links with which anyone can open it", clues),
    ]


def _close_links(place: FilePlace, clues: Clues) -> Step:
    title = f"Remove the links with which anyone can open {place.shown}"
    if not place.path:
        return Step("disable_anonymous_link", title, notes=(_UNCERTAIN,))
    said = (one for name in _TOLD for line in clues.fields.get(name, ()) for one in _TYPE.finditer(line))
    kinds = {(one[1] or one[2]).lower() for one in said}
    look, removal = _commands(place, clues)
    return Step(
        "disable_anonymous_link",
        title,
        operations=(
            _permissions_of(
                place,
                wanted=(("link.scope", "anonymous"),),
                label=("link.type", "link.webUrl"),
                is_named=False,
                # The owner may have had one for all to read before.
                is_one=True,
                alike=tuple(("link.type", one) for one in sorted(kinds)),
            ),
        ),
        powershell=(*_connect_for(place), look, "# then the one of this record, by its id:", removal),
        permissions=("Files.ReadWrite.All",),
        notes=(
            "What was opened with the link until now is known to whoever had it.",
            "Where there are several of the kind that the record tells, or it is of another, a person picks.",
            _CLIENT,
        ),
    )


def _connect(site: str) -> tuple[str, ...]:
    """What every command of PnP needs before it, and of the site that it is meant for."""
    return (f"Connect-PnPOnline -Url {powershell(site)} -Interactive -ClientId CLIENT",)


def _connect_for(place: FilePlace) -> tuple[str, ...]:
    folder = folder_of(place.shown)
    return _connect(folder.site) if folder is not None else ()


def _commands(place: FilePlace, clues: Clues) -> tuple[str, str]:
    """What lists the links of a file or folder, and what removes one of them."""
    quoted = powershell(place.path)
    if _kind(clues) == "folder":
        return (
            f"Get-PnPFolderSharingLink -Folder {quoted}",
            f"Remove-PnPFolderSharingLink -Folder {quoted} -Identity ID -Force",
        )
    return (
        f"Get-PnPFileSharingLink -Identity {quoted}",
        f"Remove-PnPFileSharingLink -FileUrl {quoted} -Identity ID -Force",
    )


def _kind(clues: Clues) -> str:
    return first_of(clues.values("ItemType")).lower()


def remove_sharing(clues: Clues) -> list[Step]:
    """The outsider can open it no more; a person picks among those who can."""
    outside = clues.entity("recipient")
    if _kind(clues) not in ("", "file", "folder"):
        sites = clues.values("SiteUrl") or clues.values("ObjectId")
        return [_let_out(site, outside) for site in sites]
    whom = f"share it with {' and '.join(outside) or 'outsiders'} no more"
    return [
        *(_unshare(place, outside, clues) for place in _places(clues)),
        *_find_files("remove_sharing", whom, clues),
    ]


def _find_files(word: str, then: str, clues: Clues) -> list[Step]:
    """For each whose name is not known whole what lists the folder that it lies in."""
    folders = {folder_of(one): None for one in clues.told("ObjectId") if not is_whole(one)}
    return [_find_file(word, then, one, clues) for one in folders if one is not None]


def _find_file(word: str, then: str, folder: Folder, clues: Clues) -> Step:
    kind = "folder" if _kind(clues) == "folder" else "file"
    listed = f" -FolderSiteRelativeUrl {powershell(folder.path)}" if folder.path else ""
    return Step(
        word,
        f"Find the {kind} in {folder.shown} that the record is of, and {then}",
        powershell=(
            *_connect(folder.site),
            f"Get-PnPFolderItem{listed}",
            *(
                f"# with what the list has of it in place of PATH: {line}"
                for line in _TO_PICK.get((word, kind), ())
            ),
        ),
        notes=(_NOT_SHOWN, _CLIENT),
    )


def _let_out(site: str, outside: tuple[str, ...]) -> Step:
    """Graph knows no permissions of a site as a whole: who is in it, its own lists tell."""
    people = tuple(dict.fromkeys(name for one in outside for name in _addresses_of(one)))
    return Step(
        "remove_sharing",
        f"Let {' and '.join(outside) or 'outsiders'} no more into {site}",
        powershell=(
            *_connect(site),
            *(f"Get-PnPUser | Where-Object Email -eq {powershell(one)}" for one in people),
            *(() if people else ("Get-PnPUser",)),
            "# by the id that this shows: Remove-PnPUser -Identity ID",
        ),
        notes=(
            "By hand: the site as a whole was shared, or a list of it; see its page, Site permissions, too.",
            _CLIENT,
        ),
    )


def _unshare(place: FilePlace, outside: tuple[str, ...], clues: Clues) -> Step:
    whom = " and ".join(outside) or "outsiders"
    title = f"Share {place.shown} with {whom} no more"
    if not place.path:
        return Step("remove_sharing", title, notes=(_UNCERTAIN,))
    people = tuple(dict.fromkeys(name for one in outside for name in _addresses_of(one)))
    wanted = tuple((holder, one) for one in people for holder in _HOLDERS)
    look, removal = _commands(place, clues)
    return Step(
        "remove_sharing",
        title,
        operations=(
            _permissions_of(place, wanted=wanted, label=("roles", *_HOLDERS, "link.scope", "link.type")),
        ),
        powershell=(
            *_connect_for(place),
            look,
            f"# then each that is for {whom}, by its id; whoever else it is for loses it, too:",
            removal,
        ),
        permissions=("Files.ReadWrite.All",),
        notes=(
            "A link is removed for all whom it is for: where others have it, too, a person picks.",
            "Access without a link PowerShell does not list here: see the file's page, Manage access.",
            _CLIENT,
        ),
    )


def _addresses_of(outsider: str) -> tuple[str, ...]:
    """As records have somebody, and for a guest the address that was made into that name."""
    name, mark, _ = outsider.lower().partition("#ext#")
    local, _, domain = name.rpartition("_")
    return (outsider, f"{local}@{domain}") if mark and local and domain else (outsider,)


def _permissions_of(
    file: FilePlace,
    *,
    wanted: tuple[tuple[str, str], ...],
    label: tuple[str, ...],
    is_named: bool = True,
    is_one: bool = False,
    alike: tuple[tuple[str, str], ...] = (),
) -> Remove:
    place = "/drives/{subject.parentReference.driveId}/items/{subject.id}/permissions"
    return Remove(
        place,
        GraphCall("DELETE", f"{place}/{{found.id}}"),
        label=label,
        wanted=wanted,
        is_named=is_named,
        is_one=is_one,
        alike=alike,
        subject=f"/shares/{file.share}/driveItem?$select=id,name,parentReference",
        subject_name=file.path.rstrip("/").rpartition("/")[2],
    )


def remove_site_admin(clues: Clues) -> list[Step]:
    """The site loses an administrator; whoever a OneDrive belongs to stays."""
    return [
        _remove_owner(site, who) if _is_of_person(site) else _remove_site_admin(site, who)
        for site in clues.entity("site")
        for who in clues.entity("grantee") or clues.values("ModifiedProperties.SiteAdmin.new")
    ]


def _is_of_person(site: str) -> bool:
    return "/personal/" in site.lower()


def _remove_owner(site: str, who: str) -> Step:
    """Its address is made of its owner's name, and so may another's be: the site knows whose it is."""
    return Step(
        "remove_site_admin",
        f"Make {who} administrator of {site} no more, unless it is their own OneDrive",
        powershell=(
            f"Get-SPOSite -Identity {powershell(site)} | Format-List Owner",
            *(f"# if that is somebody else: {line}" for line in _removal(site, who)),
        ),
        notes=(_SHAREPOINT_ONLY, "Whoever it belongs to is one of its administrators, and has to stay one."),
    )


def _remove_site_admin(site: str, who: str) -> Step:
    return Step(
        "remove_site_admin",
        f"Make {who} administrator of {site} no more",
        powershell=_removal(site, who),
        notes=(_SHAREPOINT_ONLY,),
    )


def _removal(site: str, who: str) -> tuple[str, ...]:
    """By the name that somebody signs in with; of a group no record tells it."""
    quoted = powershell(site)
    if is_account(who) or "|" in who:
        return (f"Set-SPOUser -Site {quoted} -LoginName {powershell(who)} -IsSiteCollectionAdmin $false",)
    administrators = f"Get-SPOUser -Site {quoted} -Limit All | Where-Object IsSiteAdmin"
    return (
        f"{administrators} | Format-List DisplayName,LoginName",
        f"# the one that is meant: Set-SPOUser -Site {quoted} -LoginName LOGIN -IsSiteCollectionAdmin $false",
    )


def restore_files(clues: Clues) -> list[Step]:
    """What was deleted is in the recycle bin for 93 days; what was encrypted has versions."""
    who = next((one.name for one in clues.accounts), "")
    deleted = f" -DeletedByEmail {powershell(who)}" if who else ""
    return [
        Step(
            "restore_files",
            "Bring files back from the recycle bin, or the library to an earlier time",
            powershell=(
                *_connect(site),
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
                _CLIENT,
            ),
        )
        for site in clues.entity("site") or clues.values("SiteUrl")
    ]


def remove_file(clues: Clues) -> list[Step]:
    """The file goes to the recycle bin; what a question of Copilot only read is no bad file."""
    if clues.operation == "copilotinteraction":
        return [_remove_file(one, clues) for one in clues.values("m365.injected_files")] or [_ASKED]
    is_of_file = clues.is_about(*_OF_FILES)
    of_defender = ("FileData.FilePath", "FileData.FileName")
    named = clues.values(*(("ObjectId", *of_defender) if is_of_file else of_defender))
    found = [_remove_file(one, clues) for one in named or clues.entity("file")]
    return found or (_find_files("remove_file", "remove it", clues) if is_of_file else [])


def _remove_file(named: str, clues: Clues) -> Step:
    """PnP takes a path from the server on, or from the site on, and no address."""
    place = place_of(named, _names(clues))
    path = place.path if place is not None else named
    if not path:
        return Step("remove_file", f"Remove the file {named}", notes=(_UNCERTAIN,))
    if "/" not in path:
        return Step(
            "remove_file",
            f"Find the file {named}, and remove it",
            powershell=(f"Find-PnPFile -Match {powershell(named)}",),
            notes=("By hand: the alert has no more than its name, and others may be called like that.",),
        )
    kind = "ServerRelativeUrl" if place is not None else "SiteRelativeUrl"
    return Step(
        "remove_file",
        f"Remove the file {named}",
        powershell=(
            *(_connect_for(place) if place is not None else ()),
            f"Remove-PnPFile -{kind} {powershell(path)} -Recycle",
        ),
        notes=("By hand, connected to its site: keep a copy for whoever examines it.", _CLIENT),
    )


def scan_device(clues: Clues) -> list[Step]:
    """The devices of the account are searched for malware; where a service acted, whose, the site tells."""
    people = [one for one in clues.accounts if not one.acted]
    if not people:
        return [_find_device(site) for site in clues.entity("site")]
    return [
        Step(
            "scan_device",
            f"Have the devices of {one.told} searched for malware",
            powershell=("Start-MpScan -ScanType FullScan  # on the device, or from its page in Defender",),
            notes=("By hand: Graph cannot do it. With Defender for Endpoint, isolate the device first.",),
        )
        for one in people
    ]


def _find_device(site: str) -> Step:
    return Step(
        "scan_device",
        f"Find from whose device the file came to {site}, and have it searched for malware",
        powershell=(f"Get-SPOSite -Identity {powershell(site)} | Format-List Owner",),
        notes=(
            (
                "By hand: a service found it, and the record names nobody. A OneDrive is its owner's; in any"
                " other site the file's history says who put it there (FileUploaded, FileModified)."
            ),
        ),
    )


def _places(clues: Clues) -> list[FilePlace]:
    found = (place_of(url, _names(clues)) for url in clues.values("ObjectId"))
    return [one for one in found if one is not None]


def _names(clues: Clues) -> tuple[str, ...]:
    """What the record calls the file."""
    return tuple(one for name in _NAMES for one in clues.values(name))
