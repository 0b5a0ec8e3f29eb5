"""Steps on settings of the tenant, which a person has to put back: what they were, the record says."""

from __future__ import annotations

import re

from m365watch.response.plans.alert_evidence import Clues, first_of
from m365watch.response.plans.previous_values import how_it_was
from m365watch.response.steps.command_escaping import is_account, powershell
from m365watch.response.steps.step import Step

_WORD = "restore_policy"
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
        _WORD,
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
        _WORD,
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
        _WORD,
        f"See who asked for {account}; disable the account if nobody of yours did",
        powershell=(
            f"Get-MgUser -UserId {quoted} -Property {_OF_GUEST} | Format-List {_OF_GUEST}",
            f"# if nobody of yours did: Update-MgUser -UserId {quoted} -AccountEnabled:$false",
        ),
        notes=("By hand: guests are invited every day, by people who may do so.",),
    )


def _switch_of_teams(noun: str, switch: str) -> Step:
    return Step(
        _WORD,
        f"Put {switch} of Teams back",
        powershell=(
            f"Get-{noun} | Format-List {switch}",
            f"# unless you mean it: Set-{noun} -{switch} $false",
        ),
        notes=("Teams PowerShell only: Graph cannot do it.",),
    )


def _setting_of_teams(name: str, clues: Clues) -> Step:
    return Step(
        _WORD,
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
