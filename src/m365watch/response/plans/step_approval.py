"""An alert of attempts alone: it tells of nobody who got in, and whoever was tried is not locked out for it.

A spray names every account that it tried, and to lock them all out is to do the sprayer's work. A rule says
with `see_who_signed_in` that its records are such attempts: then somebody looks first whose password was
right after all, be it that the second factor or a policy has stopped who had it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from m365watch.detection.rules.containment import ATTEMPTS
from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.accounts import cidr_of
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Step

SEE = ATTEMPTS
"""The word for that look."""
NOT_PAST_PASSWORD = (50126, 50056, 50064, 50053, 50034, 51004)
"""Errors of who was not past the password, or may not have been: it was wrong, or there is none; the account
is locked; there is no such account. As the lists of the pack core have them."""
_SIGN_IN_LISTS = (
    ("Get-MgAuditLogSignIn", ""),
    ("Get-MgBetaAuditLogSignIn", " and signInEventTypes/any(t: t eq 'nonInteractiveUser')"),
)
"""What shows a log of sign-ins, and what it has to be asked for: v1.0 has the interactive ones alone."""
_NO_PROOF = (
    "What tries passwords without a browser (legacy clients, a program that sends them itself) may be in the"
    " second log alone: nobody in one of them is no proof. It is of the module Microsoft.Graph.Beta.Reports;"
    " both need Entra ID P1, and the role Reports Reader or Security Reader."
)
_FOR_WHOM = "Only for whose password was right: it was tried, and this alert tells no more."


def see_who_signed_in(clues: Clues) -> list[Step]:
    """The sign-ins with the right password from where the attempts came, since the first of them.

    Source: Microsoft Graph, "List signIns" of v1.0 and beta, signIn on what a filter may ask for and which
    sign-ins are listed without one.
    """
    addresses = [one for one in clues.entity("address") if cidr_of(one)]
    told = " and ".join(filter(None, (addresses[0], _more(len(addresses) - 1)))) if addresses else ""
    return [
        Step(
            SEE,
            f"See who came past the password from {told} since {clues.first_at}"
            if addresses
            else f"See whose password, of the accounts that were tried, was right since {clues.first_at}",
            powershell=tuple(_sign_ins(addresses, clues.first_at, asked=asked) for asked in _SIGN_IN_LISTS)
            if addresses
            else (),
            notes=(
                (
                    "An ErrorCode of 0 is a sign-in. Nearly every other that is shown comes after the right"
                    " password: the second factor (50074, 50076, 500121), a policy (53003), one that has"
                    " run out (50055)."
                ),
                (
                    "By hand: end the sessions of who did, and give them new passwords; who did not was only"
                    " tried. Look at the rest of that network, too."
                ),
                *((_NO_PROOF,) if addresses else ()),
            ),
        )
    ]


def _more(count: int) -> str:
    return f"{count} more addresses" if count > 1 else "one more address" if count else ""


def _sign_ins(addresses: Sequence[str], since: str, *, asked: tuple[str, str]) -> str:
    every = ", ".join(map(powershell, addresses))
    cmdlet, only = asked
    return (
        f"{every} | ForEach-Object {{ {cmdlet} -All -Filter \"ipAddress eq '$_' and"
        f' createdDateTime ge {since}{only}" }} | Where-Object {{ $_.Status.ErrorCode -notin'
        f" {','.join(map(str, NOT_PAST_PASSWORD))} }} | Format-Table CreatedDateTime,UserPrincipalName,"
        "@{n='ErrorCode'; e={$_.Status.ErrorCode}},IPAddress,AppDisplayName"
    )


def is_for_some(step: Step) -> bool:
    """Whether it is for those alone whom that look shows."""
    return any(note.startswith(_FOR_WHOM) for note in step.notes)


def ask_of_tried(step: Step) -> Step:
    """What keeps an account from its work waits for a person, who has looked."""
    if not step.operations:
        return replace(step, notes=(_FOR_WHOM, *step.notes))
    return replace(step, notes=(f"{_FOR_WHOM} --yes leaves it alone.", *step.notes), asks_always=True)
