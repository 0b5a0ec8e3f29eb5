"""Steps on mailboxes and mail flow."""

from __future__ import annotations

from m365watch.respond.clues import Clues
from m365watch.respond.quoting import guid_in, is_account, powershell, segment
from m365watch.respond.steps import GraphCall, Remove, Step

EXCHANGE_ONLY = "Exchange PowerShell only: Graph cannot do it."
_KQL_QUOTES = set('"\u201c\u201d\u201e')
_RULE = ("displayName", "sequence", "isEnabled", "conditions", "actions", "exceptions")


def remove_inbox_rule(clues: Clues) -> list[Step]:
    """The rules of that name; where the alert knows no name, a person picks.

    Source: Microsoft Graph, messageRule. Hidden rules, and those of Outlook alone, are not in its list.
    """
    named = clues.values("Parameters.Name", "OperationProperties.RuleName")
    # An identity is the mailbox and the rule with a backslash in between, which a name may have, too.
    by_identity = (one.rpartition("\\")[2] or one for one in clues.values("Parameters.Identity"))
    names = named or tuple(dict.fromkeys(by_identity))
    return [_inbox_rule(mailbox, names) for mailbox in clues.mailboxes]


def _inbox_rule(mailbox: str, names: tuple[str, ...]) -> Step:
    named = " or ".join(f'"{name}"' for name in names)
    said = f"-Mailbox {powershell(mailbox)}"
    removals = tuple(
        f"Remove-InboxRule {said} -Identity {powershell(name)} -Confirm:$false" for name in names
    )
    is_known = is_account(mailbox)
    return Step(
        "remove_inbox_rule",
        f"Remove the inbox rule {named} of {mailbox}" if names else f"Remove bad inbox rules of {mailbox}",
        operations=(_remove_rules(mailbox, names),) if is_known else (),
        powershell=(
            f"Get-InboxRule {said} -IncludeHidden | Format-List Name,Identity,Enabled,Description",
            *(removals or (f"Remove-InboxRule {said} -Identity NAME -Confirm:$false",)),
        ),
        permissions=("MailboxSettings.ReadWrite",) if is_known else (),
        notes=(
            "Graph does not list hidden rules: Get-InboxRule -IncludeHidden does."
            if is_known
            else "By hand: the record names the mailbox by an alias, which Graph does not know.",
        ),
    )


def _remove_rules(mailbox: str, names: tuple[str, ...]) -> Remove:
    path = f"/users/{guid_in(mailbox) or segment(mailbox)}/mailFolders/inbox/messageRules"
    return Remove(
        path,
        GraphCall("DELETE", f"{path}/{{found.id}}"),
        label=("displayName", "isEnabled"),
        wanted=tuple(("displayName", name) for name in names),
        restored_at=path,
        restored=_RULE,
    )


def remove_forwarding(clues: Clues) -> list[Step]:
    """The mailbox forwards to nobody."""
    return [
        Step(
            "remove_forwarding",
            f"Stop {mailbox} from forwarding",
            powershell=(
                (
                    f"Get-Mailbox -Identity {powershell(mailbox)}"
                    " | Format-List ForwardingAddress,ForwardingSmtpAddress,DeliverToMailboxAndForward"
                ),
                (
                    f"Set-Mailbox -Identity {powershell(mailbox)} -ForwardingAddress $null"
                    " -ForwardingSmtpAddress $null -DeliverToMailboxAndForward $false"
                ),
            ),
            notes=(EXCHANGE_ONLY,),
        )
        for mailbox in clues.mailboxes
    ]


def remove_mailbox_permission(clues: Clues) -> list[Step]:
    """Who was let in is let in no more: the mailbox, sending, and folders."""
    holders = (
        *clues.entity("grantee"),
        *clues.values("Parameters.User", "Parameters.Trustee", "Item.ParentFolder.MemberUpn"),
    )
    everybody = [one for one in holders if one.lower() in _EVERYBODY]
    if everybody:
        every = tuple(dict.fromkeys(everybody))
        known = [_close_folder(folder, one) for folder in _folders(clues) for one in every]
        return known or [_close_folders_of(mailbox, one) for mailbox in clues.mailboxes for one in every]
    holders = tuple(dict.fromkeys(holders)) or tuple(
        one for one in clues.entity("user") if one not in clues.entity("mailbox")
    )
    return [_permission(mailbox, holder) for mailbox in clues.mailboxes for holder in holders]


_EVERYBODY = frozenset({"anonymous", "default", "everyone"})
"""Whom no list of delegates shows; what they may do stands at each folder."""


def _folders(clues: Clues) -> tuple[str, ...]:
    r"""Folders as PowerShell takes them: ann:\Inbox; a mailbox alone is what lies above all its folders."""
    named = clues.values("Parameters.Identity")  # what one cmdlet took, the other takes
    paths = clues.values("Item.ParentFolder.Path")
    return named or tuple(f"{mailbox}:{path}" for mailbox in clues.mailboxes for path in paths)


def _close_folder(folder: str, holder: str) -> Step:
    who = _listed_as(holder)
    return Step(
        "remove_mailbox_permission",
        f"Close the folder {folder} to {holder}",
        powershell=(
            f"Get-MailboxFolderPermission -Identity {powershell(folder)}",
            (
                f"Set-MailboxFolderPermission -Identity {powershell(folder)}"
                f" -User {powershell(who)} -AccessRights None"
            ),
        ),
        notes=(EXCHANGE_ONLY,),
    )


def _close_folders_of(mailbox: str, holder: str) -> Step:
    """Which folder it is no record says: a person looks at each."""
    who, box = powershell(_listed_as(holder)), powershell(mailbox)
    return Step(
        "remove_mailbox_permission",
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


def _permission(mailbox: str, holder: str) -> Step:
    box, who = powershell(mailbox), powershell(holder)
    return Step(
        "remove_mailbox_permission",
        f"Take the rights on {mailbox} away from {holder}",
        powershell=(
            f"Remove-MailboxPermission -Identity {box} -User {who} -AccessRights FullAccess -Confirm:$false",
            f"Remove-RecipientPermission -Identity {box} -Trustee {who} -AccessRights SendAs -Confirm:$false",
            f"Set-Mailbox -Identity {box} -GrantSendOnBehalfTo @{{Remove = {who}}}",
            f"Get-MailboxFolderPermission -Identity {box} -User {who}",
        ),
        notes=(EXCHANGE_ONLY, "A folder's rights: Remove-MailboxFolderPermission, folder by folder."),
    )


def remove_transport_rule(clues: Clues) -> list[Step]:
    """A new rule is disabled first: that can be taken back. One of yours that was changed is put back."""
    names = clues.values("Parameters.Name", "Parameters.Identity", "ObjectId")
    return [_transport_rule(name, _verb_of(clues)) for name in names]


def _transport_rule(name: str, verb: str) -> Step:
    quoted = powershell(name)
    look = f"Get-TransportRule -Identity {quoted} | Format-List"
    disable = f"Disable-TransportRule -Identity {quoted} -Confirm:$false"
    commands: tuple[str, ...]
    if verb in {"", "new"}:
        title = f'Disable the transport rule "{name}", then remove it'
        commands = (disable, f"Remove-TransportRule -Identity {quoted} -Confirm:$false")
    elif verb == "disable":
        title = f'Enable the transport rule "{name}" again'
        commands = (f"Enable-TransportRule -Identity {quoted} -Confirm:$false",)
    elif verb == "remove":
        title = f'Make the transport rule "{name}" again'
        commands = ("Get-TransportRule | Format-Table Name,State",)
    else:
        title = f'Put the transport rule "{name}" back, or disable it'
        commands = (look, disable)
    return Step("remove_transport_rule", title, powershell=commands, notes=(EXCHANGE_ONLY,))


def _verb_of(clues: Clues) -> str:
    """What a cmdlet does, in lower case: new, set, disable; empty where it is not known."""
    operation = next(iter(clues.values("Operation")), "")
    return operation.partition("-")[0].lower() if "-" in operation else ""


def remove_connector(clues: Clues) -> list[Step]:
    """The connector is switched off first; one that was there before is not removed."""
    operation = next(iter(clues.values("Operation")), "").lower()
    told = [kind for kind in ("Inbound", "Outbound") if kind.lower() in operation]
    kinds = told or ["Inbound", "Outbound"]
    is_new = _verb_of(clues) in {"", "new"}
    return [
        Step(
            "remove_connector",
            f'Switch the mail connector "{name}" off, then remove it'
            if is_new
            else f'Switch the mail connector "{name}" off, or put it back',
            powershell=(
                *(f"Set-{kind}Connector -Identity {powershell(name)} -Enabled $false" for kind in kinds),
                *(
                    f"Remove-{kind}Connector -Identity {powershell(name)} -Confirm:$false"
                    for kind in kinds
                    if is_new
                ),
            ),
            notes=(
                (EXCHANGE_ONLY,)
                if len(kinds) == 1
                else (EXCHANGE_ONLY, "It is of one of the two kinds: the other command finds nothing.")
            ),
        )
        for name in clues.values("Parameters.Name", "Parameters.Identity", "ObjectId")
    ]


def remove_mail(clues: Clues) -> list[Step]:
    """A search for the mail, and its purge; a person looks at what was found in between."""
    subjects, senders = clues.values("Subject"), clues.entity("sender")
    wanted = [f'subject:"{one}"' for one in subjects[:1] if not _KQL_QUOTES & set(one)]
    wanted += [f'from:"{one}"' for one in senders[:1] if not _KQL_QUOTES & set(one)]
    if not wanted:
        return []
    query = powershell(" AND ".join(wanted))
    return [
        Step(
            "remove_mail",
            "Remove the mail from all mailboxes",
            powershell=(
                "New-ComplianceSearch -Name 'm365watch' -ExchangeLocation All -ContentMatchQuery " + query,
                "Start-ComplianceSearch -Identity 'm365watch'",
                "Get-ComplianceSearch -Identity 'm365watch' | Format-List Status,Items,SuccessResults",
                "New-ComplianceSearchAction -SearchName 'm365watch' -Purge -PurgeType SoftDelete",
            ),
            notes=(
                (
                    "Security & Compliance PowerShell only: Graph cannot do it. See what the search has found"
                    " before anything is purged."
                ),
            ),
        )
    ]


def restore_audit(clues: Clues) -> list[Step]:
    """The audit log of the organisation, and that of the mailboxes that were silenced."""
    whole = Step(
        "restore_audit",
        "Switch the audit log of the organisation on",
        powershell=(
            "Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true",
            "Set-OrganizationConfig -AuditDisabled $false",
            "Get-AdminAuditLogConfig | Format-List UnifiedAuditLogIngestionEnabled",
        ),
        notes=(
            EXCHANGE_ONLY,
            "It takes up to an hour until records come again; what was not written is lost.",
        ),
    )
    boxes = [
        Step(
            "restore_audit",
            f"Have what happens in {mailbox} recorded again",
            powershell=(
                (
                    f"Set-Mailbox -Identity {powershell(mailbox)} -AuditEnabled $true"
                    " -DefaultAuditSet Admin,Delegate,Owner"
                ),
                (
                    f"Set-MailboxAuditBypassAssociation -Identity {powershell(mailbox)}"
                    " -AuditBypassEnabled $false"
                ),
            ),
            notes=(EXCHANGE_ONLY,),
        )
        for mailbox in clues.entity("mailbox")
    ]
    return [whole, *boxes]
