"""Steps on settings of the tenant, which a person has to put back: what they were, the record says."""

from __future__ import annotations

from m365watch.respond.clues import Clues
from m365watch.respond.quoting import is_account, powershell
from m365watch.respond.steps import Step


def restore_policy(clues: Clues) -> list[Step]:
    """The policy is as it was."""
    names = clues.values("ModifiedProperties.DisplayName.new", "m365.target_name")
    named = names or clues.entity("policy", "target") or clues.values("Parameters.Identity", "ObjectId")
    named = tuple(
        one for one in named if not is_account(one)
    )  # whose second factor was changed is a target, too
    shown = ", ".join(f'"{one}"' for one in named)
    return [
        Step(
            "restore_policy",
            f"Put the policy {shown} back" if named else "Put the policy back that was changed",
            powershell=tuple(f"# the policy: {powershell(one)}" for one in named),
            notes=(
                (
                    "By hand: the alert's records have what was changed, of Entra's policies also the values"
                    " before. The place is the admin center of Entra, Exchange or Defender."
                ),
            ),
        )
    ]


def restore_federation(clues: Clues) -> list[Step]:
    """The domain signs people in as before."""
    named = clues.entity("domain")
    return [
        Step(
            "restore_federation",
            f"See how the domain {one} signs people in, and put it back"
            if one
            else "See how domains sign in",
            powershell=(
                "Get-MgDomain -All | Format-Table Id,AuthenticationType,IsVerified",
                *(
                    (
                        f"Get-MgDomainFederationConfiguration -DomainId {powershell(one)}",
                        f"Update-MgDomain -DomainId {powershell(one)} -AuthenticationType Managed",
                    )
                    if one
                    else ()
                ),
            ),
            notes=(
                (
                    "By hand: a domain that is rightly federated must not be made managed; remove a second"
                    " signing certificate or a federation that nobody of yours has set up."
                ),
            ),
        )
        for one in named or ("",)
    ]


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
