"""Steps on settings of the tenant, which a person has to put back: what they were, the record says."""

from __future__ import annotations

import re
from dataclasses import replace

from m365watch.response.plans.alert_evidence import Clues, first_of
from m365watch.response.plans.previous_values import how_it_was
from m365watch.response.steps.command_escaping import is_account, powershell
from m365watch.response.steps.exchange_identities import EXCHANGE_ONLY, named_mailboxes
from m365watch.response.steps.step import Step

_RESTORE_AUDIT = "restore_audit"
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
        _RESTORE_AUDIT,
        "See that the audit log of the organisation is on",
        powershell=(_IS_ON,),
        notes=(EXCHANGE_ONLY, _IN_EXCHANGE, _NOT_HERE),
    )


def _switch() -> Step:
    return Step(
        _RESTORE_AUDIT,
        "Switch the audit log of the organisation on",
        powershell=(f"Set-AdminAuditLogConfig -{_UNIFIED} $true", _IS_ON),
        notes=(EXCHANGE_ONLY, _IN_EXCHANGE, _LATE),
    )


def _mailboxes_of_all() -> Step:
    return Step(
        _RESTORE_AUDIT,
        "Have what happens in mailboxes recorded again",
        powershell=("Set-OrganizationConfig -AuditDisabled $false",),
        notes=(EXCHANGE_ONLY,),
    )


def _mailbox(mailbox: str) -> Step:
    """Which deeds it records is left as it is: that may be its owner's choice."""
    quoted = powershell(mailbox)
    return Step(
        _RESTORE_AUDIT,
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
        _RESTORE_AUDIT,
        f"Have what {account} does in mailboxes recorded again",
        powershell=(f"Set-MailboxAuditBypassAssociation {said}",),
        notes=(EXCHANGE_ONLY,),
    )


_RESTORE_FEDERATION = "restore_federation"
_ALL = "Get-MgDomain -All | Format-Table Id,AuthenticationType,IsVerified"
_BY_HAND = (
    "By hand: is the issuer yours, and each signing certificate, the next one as well? Remove what nobody of"
    " yours has set up. Of a domain that is rightly federated nobody can sign in once it is managed."
)
_REMOVALS = {
    "add unverified domain.": "Remove-MgDomain -DomainId",
    "verify domain.": "Remove-MgDomain -DomainId",
    "new-accepteddomain": "Remove-AcceptedDomain -Identity",
    "add-federateddomain": "Remove-FederatedDomain -DomainName",
}


def restore_federation(clues: Clues) -> list[Step]:
    """By what was done to the domain. A domain that is rightly federated must not be made managed.

    Nobody of it could sign in then: that command is told only where the record says that it was managed.
    """
    named = (
        clues.values("Parameters.DomainName")
        if clues.has("Parameters.DomainName")
        else clues.entity("domain")
    )
    removal = _REMOVALS.get(clues.operation)
    if removal:
        return [_added(one, removal) for one in named]
    sides = tuple(
        next(iter(clues.values(f"ModifiedProperties.LiveType.{side}")), "") for side in ("old", "new")
    )
    was_managed, earlier = sides == ("Managed", "Federated"), how_it_was(clues)
    return [_trust(one, was_managed=was_managed, earlier=earlier) for one in named] or [
        Step(
            _RESTORE_FEDERATION,
            "See how domains sign in",
            powershell=(_ALL,),
            notes=("By hand: look for what is not yours.",),
        )
    ]


def _added(domain: str, removal: str) -> Step:
    return Step(
        _RESTORE_FEDERATION,
        f"See whose domain {domain} is, and who asked for it",
        powershell=(_ALL, f"# if nobody of yours did: {removal} {powershell(domain)}"),
        notes=("By hand: mail and sign-ins of a domain end with it.",),
    )


def _trust(domain: str, *, was_managed: bool, earlier: tuple[str, ...]) -> Step:
    quoted = powershell(domain)
    back = f"Update-MgDomain -DomainId {quoted} -AuthenticationType Managed"
    return Step(
        _RESTORE_FEDERATION,
        f"See how the domain {domain} signs people in, and put it back",
        powershell=(
            _ALL,
            f"Get-MgDomainFederationConfiguration -DomainId {quoted} | Format-List",
            *((f"# if nobody of yours has federated it: {back}",) if was_managed else ()),
        ),
        notes=(*earlier, _BY_HAND),
    )


_RESTORE_POLICY = "restore_policy"
_PLACE = (
    "By hand, in the admin center of Entra, Exchange, Purview or Defender; `m365watch alerts show --raw` has"
    " the whole record, and what was set."
)
_NAMED = ("Parameters.Identity", "ObjectId", "NonPIIParameters.Identity")
_CMDLET = re.compile(r"(?:Add|Disable|Enable|New|Set)-([A-Z][A-Za-z0-9]+)")
_CALLED = "Where-Object DisplayName -eq {}"
_OF_ENTRA = {
    "conditional access policy": f"Get-MgIdentityConditionalAccessPolicy -All | {_CALLED}",
    "named location": f"Get-MgIdentityConditionalAccessNamedLocation -All | {_CALLED}",
    "authorization policy": "Get-MgPolicyAuthorizationPolicy",
}
"""What shows a policy as it is by now, by what its operation was done to."""
_OF_GUEST = "UserType,CreatedDateTime,ExternalUserState"
_OF_TEAMS = {
    "set-cstenantfederationconfiguration": ("CsTenantFederationConfiguration", "AllowFederatedUsers"),
    "set-csteamsclientconfiguration": ("CsTeamsClientConfiguration", "AllowGuestUser"),
}
_VERBS = {
    "new": "See who made the policy {}; remove it if nobody of yours did",
    "add": "See who made the policy {}; remove it if nobody of yours did",
    "remove": "Make the policy {} again, if it was yours",
    "delete": "Make the policy {} again, if it was yours",
}
"""What there is to do, by the word that an operation begins with; all others changed something."""


def restore_policy(clues: Clues) -> list[Step]:
    """The policy is as it was; what the record changed may be no policy: a licence, a guest, a switch."""
    operation = clues.operation
    if operation == "change user license.":
        return [_licence(one) for one in clues.values("ObjectId")]
    if operation in {"add user.", "invite external user."}:
        return [_guest(one) for one in clues.values("ObjectId") if is_account(one)]
    if operation in _OF_TEAMS:
        return [_switch_of_teams(*_OF_TEAMS[operation])]
    if operation == "teamstenantsettingchanged":
        return [_setting_of_teams(one, clues) for one in clues.values("Name")]
    return [_policy(clues, _policies(clues))]


def _policies(clues: Clues) -> tuple[str, ...]:
    names = clues.values("ModifiedProperties.DisplayName.new", "m365.target_name")
    named = names or clues.entity("policy", "target") or clues.values(*_NAMED)
    # Whose second factor was changed is a target, too.
    return tuple(one for one in named if not is_account(one))


def _policy(clues: Clues, named: tuple[str, ...]) -> Step:
    operation, called = clues.operation, first_of(clues.values("Operation"))
    shown = ", ".join(f'"{one}"' for one in named)
    verb = operation.replace("-", " ").partition(" ")[0]
    title = _VERBS.get(verb, "Put the policy {} back").format(shown)
    return Step(
        _RESTORE_POLICY,
        title if named else "Put the policy back that was changed",
        powershell=tuple(_look_at(called, one) for one in named),
        notes=(*how_it_was(clues), _PLACE),
    )


def _look_at(operation: str, name: str) -> str:
    """The command that shows it as it is by now; a remark where it is gone, or nothing is known that does."""
    verb, _, ending = operation.lower().rstrip(".").partition(" ")
    cmdlet, told = _CMDLET.fullmatch(operation), powershell(name)
    if cmdlet:
        named = f"$_.Name -eq {told} -or $_.Identity -eq {told}"
        return f"Get-{cmdlet[1]} | Where-Object {{ {named} }} | Format-List"
    if verb in {"add", "update"} and ending in _OF_ENTRA:
        # Format-List shows what has parts of its own by the name of its type.
        return f"{_OF_ENTRA[ending].format(told)} | ConvertTo-Json -Depth 10"
    return f"# the policy: {told}"


def _licence(account: str) -> Step:
    return Step(
        _RESTORE_POLICY,
        f"Give {account} the part of the licence back that records more",
        powershell=(
            (
                f"Get-MgUserLicenseDetail -UserId {powershell(account)} -All | ForEach-Object ServicePlans"
                " | Format-Table ServicePlanName,ProvisioningStatus"
            ),
        ),
        notes=("By hand: in the admin center of Microsoft 365, below the account's licences and apps.",),
    )


def _guest(account: str) -> Step:
    quoted = powershell(account)
    return Step(
        _RESTORE_POLICY,
        f"See who asked for {account}; disable the account if nobody of yours did",
        powershell=(
            f"Get-MgUser -UserId {quoted} -Property {_OF_GUEST} | Format-List {_OF_GUEST}",
            f"# if nobody of yours did: Update-MgUser -UserId {quoted} -AccountEnabled:$false",
        ),
        notes=("By hand: guests are invited every day, by people who may do so.",),
    )


def _switch_of_teams(noun: str, switch: str) -> Step:
    return Step(
        _RESTORE_POLICY,
        f"Put {switch} of Teams back",
        powershell=(
            f"Get-{noun} | Format-List {switch}",
            f"# unless you mean it: Set-{noun} -{switch} $false",
        ),
        notes=("Teams PowerShell only: Graph cannot do it.",),
    )


def _setting_of_teams(name: str, clues: Clues) -> Step:
    return Step(
        _RESTORE_POLICY,
        f'Put the setting "{name}" of Teams back',
        notes=(*how_it_was(clues), "By hand: in the admin center of Teams."),
    )


def disable_flow(clues: Clues) -> list[Step]:
    """The flow does not run any more; a person picks which."""
    return [
        Step(
            "disable_flow",
            f"Switch the flow of {one.told} off",
            powershell=(
                (
                    "Get-AdminFlow | Where-Object { $_.CreatedBy.userId -eq"
                    f" (Get-MgUser -UserId {powershell(one.name)}).Id }}"
                ),
                "Disable-AdminFlow -EnvironmentName ENVIRONMENT -FlowName FLOW",
            ),
            notes=("Power Platform PowerShell only: Graph cannot do it.",),
        )
        for one in clues.accounts
    ]
