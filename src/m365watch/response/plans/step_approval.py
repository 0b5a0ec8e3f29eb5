"""An alert of attempts alone: it tells of nobody who got in, and whoever was tried is not locked out for it.

A spray names every account that it tried, and to lock them all out is to do the sprayer's work. A rule says
with `see_who_signed_in` that its records are such attempts: then somebody looks first whose password was
right after all, be it that the second factor or a policy has stopped who had it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from m365watch.detection.rules.containment import ATTEMPTS
from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.alert_evidence import Clues, gather_clues, split_clues
from m365watch.response.plans.alert_records import Told
from m365watch.response.steps.accounts import cidr_of
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Remove, Step

_KNOWN_AS_BAD = "O06"
"""The detection that speaks of the application itself, and not of what was done with it."""
_OF_THE_LIST = "INDICATOR"
"""Where it names an application, that is on the list."""
_ASKED = frozenset({"consent to application.", "userloginfailed"})
"""What somebody may have asked for in vain, an application at work among them."""
_MAKE = frozenset({"add application.", "add service principal."})
_WHY = (
    "Nothing in the alert shows that the application is the intruder's: others may work with it, and it stops"
    " for them all. Is it one of your own, then give it a new secret, and take the old ones away. --yes"
    " leaves it alone."
)


_WHY_LISTED = (
    "It is on your list of indicators, which may be old, and may name what your people rightly use: it stops"
    " for them all. --yes leaves it alone."
)


def strangers_in(every: Sequence[Told], rules: Mapping[str, Rule]) -> frozenset[str]:
    """The ids of such applications, of an alert and its parts."""
    return frozenset(
        app.id for told in every for clues in _telling(told, rules) for app in clues.applications
    )


def listed_in(every: Sequence[Told]) -> frozenset[str]:
    """The ids of applications that are on the house's own list of indicators, of an alert and its parts."""
    told_of = (one.alert for one in every if one.alert.detection == _OF_THE_LIST)
    return frozenset(app.id for alert in told_of for app in gather_clues(alert, ()).applications)


def ask_of_others(
    steps: Sequence[Step], strangers: Collection[str], *, listed: Collection[str] = ()
) -> list[Step]:
    """The steps; those that end any other application for everybody wait for a person's yes."""
    return [
        replace(step, notes=(_why(step, listed), *step.notes), asks_always=True)
        if _ends_it(step) and not step.asks_always and not any(one in step.title for one in strangers)
        else step
        for step in steps
    ]


def _why(step: Step, listed: Collection[str]) -> str:
    return _WHY_LISTED if any(one in step.title for one in listed) else _WHY


def _ends_it(step: Step) -> bool:
    if step.word == "disable_application":
        return bool(step.operations)
    return any(isinstance(one, Remove) and one.takes_all for one in step.operations)


def _telling(told: Told, rules: Mapping[str, Rule]) -> Iterator[Clues]:
    is_known = told.alert.detection == _KNOWN_AS_BAD
    every = split_clues(told.alert, told.matches, rules.get(told.alert.rule_id)) if told.matches else []
    for clues in every:
        used = is_known and clues.operation != "" and clues.operation not in _ASKED
        if used or clues.operation in _MAKE:
            yield clues


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
