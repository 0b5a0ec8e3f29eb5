"""Steps on what was to be recorded no more: the one switch that a record turned is turned back."""

from __future__ import annotations

from dataclasses import replace

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.mailboxes import EXCHANGE_ONLY, named_mailboxes
from m365watch.response.steps.step import Step

_WORD = "restore_audit"
_IS_ON = "Get-AdminAuditLogConfig | Format-List UnifiedAuditLogIngestionEnabled"
_IN_EXCHANGE = (
    "Ask in Exchange's session, which is connected last: that of Security & Compliance has the same command,"
    " and there it is always False."
)
"""Source: Purview, "Turn auditing on or off", "Verify the auditing status for your organization"."""
_LATE = "It takes up to an hour until records come again; what was not written is lost."
_UNIFIED, _ON_PREMISES = "UnifiedAuditLogIngestionEnabled", "AdminAuditLogEnabled"
_NOT_HERE = (
    "-AdminAuditLogEnabled is of Exchange on servers of one's own: in Exchange Online it turns nothing, and"
    " what administrators do is recorded all the same."
)
"""Source: Exchange PowerShell, Set-AdminAuditLogConfig, -AdminAuditLogEnabled."""


def restore_audit(clues: Clues) -> list[Step]:
    """By what the record says; where it says nothing, all of it, for to record harms nobody."""
    match clues.operation:
        case "set-mailbox":
            return [_mailbox(one) for one in named_mailboxes(clues)]
        case "set-mailboxauditbypassassociation":
            return [_bypass(one) for one in named_mailboxes(clues)]
        case "set-organizationconfig":
            return [_mailboxes_of_all()]
        case "set-adminauditlogconfig":
            is_turned = clues.has(f"Parameters.{_UNIFIED}")
            return [_see()] if clues.has(f"Parameters.{_ON_PREMISES}") and not is_turned else [_switch()]
        case "":
            boxes = [step(one) for one in clues.entity("mailbox") for step in (_mailbox, _bypass)]
            return [_switch(), _mailboxes_of_all(), *boxes]
        case _:
            return [replace(_see(), notes=(EXCHANGE_ONLY, _IN_EXCHANGE))]


def _see() -> Step:
    return Step(
        _WORD,
        "See that the audit log of the organisation is on",
        powershell=(_IS_ON,),
        notes=(EXCHANGE_ONLY, _IN_EXCHANGE, _NOT_HERE),
    )


def _switch() -> Step:
    return Step(
        _WORD,
        "Switch the audit log of the organisation on",
        powershell=(f"Set-AdminAuditLogConfig -{_UNIFIED} $true", _IS_ON),
        notes=(EXCHANGE_ONLY, _IN_EXCHANGE, _LATE),
    )


def _mailboxes_of_all() -> Step:
    return Step(
        _WORD,
        "Have what happens in mailboxes recorded again",
        powershell=("Set-OrganizationConfig -AuditDisabled $false",),
        notes=(EXCHANGE_ONLY,),
    )


def _mailbox(mailbox: str) -> Step:
    """Which deeds it records is left as it is: that may be its owner's choice."""
    quoted = powershell(mailbox)
    return Step(
        _WORD,
        f"Have what happens in {mailbox} recorded again",
        powershell=(
            f"Set-Mailbox -Identity {quoted} -AuditEnabled $true",
            f"Get-Mailbox -Identity {quoted} | Format-List Audit*",
        ),
        notes=(EXCHANGE_ONLY,),
    )


def _bypass(account: str) -> Step:
    said = f"-Identity {powershell(account)} -AuditBypassEnabled $false"
    return Step(
        _WORD,
        f"Have what {account} does in mailboxes recorded again",
        powershell=(f"Set-MailboxAuditBypassAssociation {said}",),
        notes=(EXCHANGE_ONLY,),
    )
