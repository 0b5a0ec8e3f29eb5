"""An alert of attempts alone: nobody is known to have got in, and whoever was tried is not locked out for it.

A spray names every account that it tried, and to lock them all out is to do the sprayer's work. A rule says
with `see_who_signed_in` that its records are such attempts: then somebody looks first who got in after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from m365watch.respond.accounts import ADDRESSES_SHOWN, cidr_of
from m365watch.respond.clues import Clues
from m365watch.respond.quoting import powershell
from m365watch.respond.steps import Step

SEE = "see_who_signed_in"
"""The word for that look."""
_FOR_WHOM = "Only for who signed in from there: it was tried, and nothing more is known."


def see_who_signed_in(clues: Clues) -> list[Step]:
    """The sign-ins that succeeded from where the attempts came, since the first of them.

    Source: Microsoft Graph, "List signIns", and signIn on what a filter may ask for.
    """
    addresses = [one for one in clues.entity("address") if cidr_of(one)][:ADDRESSES_SHOWN]
    told = " and ".join(filter(None, (addresses[0], _more(len(addresses) - 1)))) if addresses else ""
    return [
        Step(
            SEE,
            f"See who signed in from {told} since {clues.first_at}"
            if addresses
            else f"See which of the accounts that were tried signed in since {clues.first_at}",
            powershell=(_sign_ins(addresses, clues.first_at),) if addresses else (),
            notes=(
                (
                    "By hand: end the sessions of who did, and give them new passwords; who did not was only"
                    " tried. Look at the rest of that network, and at sign-ins that are not interactive, too."
                ),
            ),
        )
    ]


def _more(count: int) -> str:
    return f"{count} more addresses" if count > 1 else "one more address" if count else ""


def _sign_ins(addresses: Sequence[str], since: str) -> str:
    every = ", ".join(map(powershell, addresses))
    return (
        f"{every} | ForEach-Object {{ Get-MgAuditLogSignIn -All -Filter \"ipAddress eq '$_' and"
        f' createdDateTime ge {since} and status/errorCode eq 0" }}'
        " | Format-Table CreatedDateTime,UserPrincipalName,IPAddress,AppDisplayName"
    )


def ask_of_tried(step: Step) -> Step:
    """What keeps an account from its work waits for a person, who has looked."""
    if not step.operations:
        return replace(step, notes=(_FOR_WHOM, *step.notes))
    return replace(step, notes=(f"{_FOR_WHOM} --yes leaves it alone.", *step.notes), asks_always=True)
