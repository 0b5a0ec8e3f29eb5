"""Steps on domains: whom they trust to sign people in, and those that somebody added."""

from __future__ import annotations

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.plans.previous_values import how_it_was
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Step

_WORD = "restore_federation"
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
            _WORD,
            "See how domains sign in",
            powershell=(_ALL,),
            notes=("By hand: look for what is not yours.",),
        )
    ]


def _added(domain: str, removal: str) -> Step:
    return Step(
        _WORD,
        f"See whose domain {domain} is, and who asked for it",
        powershell=(_ALL, f"# if nobody of yours did: {removal} {powershell(domain)}"),
        notes=("By hand: mail and sign-ins of a domain end with it.",),
    )


def _trust(domain: str, *, was_managed: bool, earlier: tuple[str, ...]) -> Step:
    quoted = powershell(domain)
    back = f"Update-MgDomain -DomainId {quoted} -AuthenticationType Managed"
    return Step(
        _WORD,
        f"See how the domain {domain} signs people in, and put it back",
        powershell=(
            _ALL,
            f"Get-MgDomainFederationConfiguration -DomainId {quoted} | Format-List",
            *((f"# if nobody of yours has federated it: {back}",) if was_managed else ()),
        ),
        notes=(*earlier, _BY_HAND),
    )
