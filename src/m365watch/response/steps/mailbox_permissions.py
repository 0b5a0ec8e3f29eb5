"""Steps on who was let into a mailbox: the right that a record gave is taken back, and no other."""

from __future__ import annotations

import re

from m365watch.detection.alerts.alert import CUT
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.exchange_identities import EXCHANGE_ONLY, named_mailboxes
from m365watch.response.steps.step import Step

_WORD = "remove_mailbox_permission"
_GIVEN_TO = (
    "Parameters.User",
    "Parameters.Trustee",
    "Parameters.GrantSendOnBehalfTo",
    "Item.ParentFolder.MemberUpn",
)
_EVERYBODY = frozenset({"anonymous", "default", "everyone"})
"""Whom no list of delegates shows; what they may do stands at each folder."""
_OF_FOLDERS = ("folderpermission", "folderpermissions")
"""Ends of the operations that give a right on a folder, and not on a mailbox."""
_OWNER = frozenset({r"nt authority\self", "self", "s-1-5-10"})
"""How a mailbox's list of rights has the one that it belongs to."""
_UNCERTAIN = re.compile(r"^\(|[,;{}\[\]\"]")
"""What a list in one text has, and a name only where it is quoted."""
_RIGHTS = {
    one.lower(): one
    for one in (
        "FullAccess",
        "ChangeOwner",
        "ChangePermission",
        "DeleteItem",
        "ExternalAccount",
        "ReadPermission",
    )
}
_OF_CALENDAR = "Of a calendar Default has AvailabilityOnly in most mailboxes: give it that in place of None."
_MORE_RIGHTS = "Who had such a right may have taken more since: the first command shows all of theirs."


def remove_mailbox_permission(clues: Clues) -> list[Step]:
    """Who was let in is let in no more; where the records do not say who, or to what, somebody looks."""
    holders = tuple(dict.fromkeys((*clues.entity("grantee"), *_named(clues))))
    everybody = [one for one in holders if one.lower() in _EVERYBODY]
    if everybody and not clues.fields:  # its records are not kept any more: which right it was nobody knows
        steps = (_look_at, _close_folders_of)
        return [
            step(mailbox, one) for mailbox in named_mailboxes(clues) for one in everybody for step in steps
        ]
    if everybody and clues.is_about(*_OF_FOLDERS):
        known = [_close_folder(folder, one) for folder in _folders(clues) for one in everybody]
        return known or [
            _close_folders_of(mailbox, one) for mailbox in named_mailboxes(clues) for one in everybody
        ]
    return [step for mailbox in named_mailboxes(clues) for step in _of_mailbox(clues, mailbox, holders)]


def _named(clues: Clues) -> tuple[str, ...]:
    return tuple(one for name in _GIVEN_TO for one in clues.values(name))


def _of_mailbox(clues: Clues, mailbox: str, holders: tuple[str, ...]) -> list[Step]:
    if not clues.has(*_GIVEN_TO) and not clues.has_entity("grantee"):
        # Nobody was given anything: somebody was there, and may have been let in by right.
        there = (one for one in clues.entity("user") if one not in clues.entity("mailbox"))
        return [_look_at(mailbox, one) for one in there]
    certain = tuple(one for one in holders if not _UNCERTAIN.search(one))
    steps = [_permission(clues, mailbox, one, is_only=len(holders) == 1) for one in certain]
    told = (line for name in _GIVEN_TO for line in clues.fields.get(name, ()))
    is_all = len(certain) == len(holders) and not any(one.endswith(CUT) for one in told)
    return steps if steps and is_all else [*steps, _look_for_all(mailbox)]


def _permission(clues: Clues, mailbox: str, holder: str, *, is_only: bool) -> Step:
    if holder.lower() in _OWNER:
        return _leave_owner(mailbox, holder)
    box, who = powershell(mailbox), powershell(holder)
    if clues.operation.endswith("-mailboxpermission") and (rights := _rights(clues)):
        taken = f"Remove-MailboxPermission -Identity {box} -User {who} -AccessRights {','.join(rights)}"
        commands = (f"Get-MailboxPermission -Identity {box} -User {who}", f"{taken} -Confirm:$false")
        title = f"Take {' and '.join(rights)} on {mailbox} away from {holder}"
        return Step(_WORD, title, powershell=commands, notes=(EXCHANGE_ONLY, _MORE_RIGHTS))
    if clues.operation.endswith("-recipientpermission"):
        taken = f"Remove-RecipientPermission -Identity {box} -Trustee {who} -AccessRights SendAs"
        title = f"Let {holder} send as {mailbox} no more"
        return Step(_WORD, title, powershell=(f"{taken} -Confirm:$false",), notes=(EXCHANGE_ONLY,))
    if clues.operation == "set-mailbox":
        # The record has the whole list, and not who was on it before.
        mark = "" if is_only else "# if it is not theirs by right: "
        return Step(
            _WORD,
            f"Let {holder} send on behalf of {mailbox} no more"
            if is_only
            else f"See whether {holder} sends on behalf of {mailbox} by right",
            powershell=(
                f"Get-Mailbox -Identity {box} | ForEach-Object GrantSendOnBehalfTo",
                f"{mark}Set-Mailbox -Identity {box} -GrantSendOnBehalfTo @{{Remove = {who}}}",
            ),
            notes=(EXCHANGE_ONLY,),
        )
    return _look_at(mailbox, holder)


def _leave_owner(mailbox: str, holder: str) -> Step:
    return Step(
        _WORD,
        f"Leave {holder} on {mailbox} alone: it is whoever the mailbox belongs to",
        powershell=(f"Get-MailboxPermission -Identity {powershell(mailbox)}",),
        notes=(EXCHANGE_ONLY, "Without this right its owner is locked out. Look who else may open it."),
    )


def _rights(clues: Clues) -> tuple[str, ...]:
    """What the record gave, as PowerShell calls it; none where it says a word that is not known."""
    lines = clues.values("Parameters.AccessRights")
    said = [one.lower() for line in lines for one in re.findall(r"\w+", line)]
    return tuple(_RIGHTS[one] for one in said) if said and set(said) <= set(_RIGHTS) else ()


def _look_at(mailbox: str, holder: str) -> Step:
    box, who = powershell(mailbox), powershell(holder)
    return Step(
        _WORD,
        f"See what {holder} may do in {mailbox}, and take away what is not theirs by right",
        powershell=(
            f"Get-MailboxPermission -Identity {box} -User {who}",
            f"Get-RecipientPermission -Identity {box} -Trustee {who}",
            f"Get-Mailbox -Identity {box} | ForEach-Object GrantSendOnBehalfTo",
            f"Get-MailboxFolderPermission -Identity {box} -User {who}",
            f"# Remove-MailboxPermission -Identity {box} -User {who} -AccessRights RIGHTS",
            f"# Remove-RecipientPermission -Identity {box} -Trustee {who} -AccessRights SendAs",
            f"# Set-Mailbox -Identity {box} -GrantSendOnBehalfTo @{{Remove = {who}}}",
        ),
        notes=(EXCHANGE_ONLY, "A folder's rights: Remove-MailboxFolderPermission, folder by folder."),
    )


def _look_for_all(mailbox: str) -> Step:
    box = powershell(mailbox)
    return Step(
        _WORD,
        f"See who else was let into {mailbox}",
        powershell=(
            f"Get-MailboxPermission -Identity {box}",
            f"Get-RecipientPermission -Identity {box}",
            f"Get-Mailbox -Identity {box} | ForEach-Object GrantSendOnBehalfTo",
        ),
        notes=(
            EXCHANGE_ONLY,
            "The record names more than can be told here, or by a name that is not certain.",
        ),
    )


def _folders(clues: Clues) -> tuple[str, ...]:
    r"""Folders as PowerShell takes them: ann:\Inbox; a mailbox alone is what lies above all its folders."""
    if clues.has("Parameters.Identity"):
        return clues.values("Parameters.Identity")  # what one cmdlet took, the other takes
    paths = clues.values("Item.ParentFolder.Path")
    return tuple(f"{mailbox}:{path}" for mailbox in named_mailboxes(clues) for path in paths)


def _close_folder(folder: str, holder: str) -> Step:
    mailbox, mark, path = folder.partition(":")
    said = powershell(mailbox, mark, path) if mark and path else powershell(folder)
    who = powershell(_listed_as(holder))
    return Step(
        _WORD,
        f"Close the folder {folder} to {holder}",
        powershell=(
            f"Get-MailboxFolderPermission -Identity {said}",
            f"Set-MailboxFolderPermission -Identity {said} -User {who} -AccessRights None",
        ),
        notes=(EXCHANGE_ONLY, *((_OF_CALENDAR,) if _listed_as(holder).lower() == "default" else ())),
    )


def _close_folders_of(mailbox: str, holder: str) -> Step:
    """Which folder it is no record says: a person looks at each."""
    who, box = powershell(_listed_as(holder)), powershell(mailbox)
    return Step(
        _WORD,
        f"Find the folders of {mailbox} that are open to {holder}, and close them",
        powershell=(
            (
                f"Get-MailboxFolderStatistics -Identity {box} | ForEach-Object {{ Get-MailboxFolderPermission"
                f" -Identity ({box} + ':' + $_.FolderPath.Replace('/', '\\')) -User {who}"
                " -ErrorAction SilentlyContinue }"
            ),
            f"Set-MailboxFolderPermission -Identity ({box} + ':FOLDER') -User {who} -AccessRights None",
        ),
        notes=(EXCHANGE_ONLY, "Calendar and Contacts are open to Default in most mailboxes: leave those."),
    )


def _listed_as(holder: str) -> str:
    """By what name the list of a folder's rights has everybody."""
    return "Default" if holder.lower() == "everyone" else holder
