"""Of which applications an alert itself shows that nobody works with them yet: those are shut out unasked.

An administrator who renews a secret makes the same record as an intruder who adds one, and whoever controls
one administrator could have any business application stopped by it. One that was only now made, or that is
known as bad, is nobody's tool. One that reads mail as it never did may be the house's own with a stolen
secret: what contains that is the secret, and everybody's work stops with the application.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.alert_evidence import Clues, gather_clues, split_clues
from m365watch.response.plans.alert_records import Told
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
