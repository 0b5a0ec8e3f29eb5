"""How a policy of access became weaker by a change: switched off, or somebody or something let past it.

Policies are told as JSON inside a property, in two spellings: `state` and `excludeUsers` of today's
interface, and `State` and `Exclude` below `Users`, `Locations` ... of the one before it. What had been so
before the change is no news, nor is what a new policy says from its beginning.

Source: the shapes that both interfaces document for a policy; which of them this feed writes was not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from m365watch.detect.derived.operation import normalise_operation
from m365watch.detect.fields import STEPS_MAX, VALUES_MAX, open_json, text_of

if TYPE_CHECKING:
    from m365watch.detect.fields import Value, View

_PROPERTIES = ("policydetail", "conditionalaccesspolicy")
_OFF = {"disabled", "enabledforreportingbutnotenforced", "reporting"}
"""States in which a policy holds nobody back; the last two only report."""


def loosened(view: View) -> tuple[Value, ...]:
    """Words for each way in which the policy became weaker: "switched off", "lets past: ...".

    Empty for a new policy, and where nothing became weaker. A change that tells only the new state is taken
    at its word.
    """
    if normalise_operation(view.first("Operation")).startswith("add "):
        return ()
    now, before = _told_on(view, "new"), _told_on(view, "old")
    found: list[Value] = []
    if _is_off(now) and not _is_off(before):
        found.append("switched off")
    let_past = [what for what in _excluded(now) if what not in set(_excluded(before))]
    return (*found, *(f"lets past: {what}" for what in let_past))


def _told_on(view: View, side: str) -> list[tuple[tuple[str, ...], str]]:
    """Every plain value of the policy on one side, with the keys that lead to it, in lower case."""
    named = view.named("ModifiedProperties", side)
    return [leaf for name in _PROPERTIES for leaf in _leaves(named.get(name))]


def _is_off(leaves: list[tuple[tuple[str, ...], str]]) -> bool:
    return any(path[-1:] == ("state",) and value.lower() in _OFF for path, value in leaves)


def _excluded(leaves: list[tuple[tuple[str, ...], str]]) -> list[str]:
    """Users, groups, networks ... that the policy leaves out: who or what stands below a key for it."""
    return [
        value
        for path, value in leaves
        if value and any(key.startswith("exclude") and key != "excludemode" for key in path)
    ]


def _leaves(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    left: list[tuple[tuple[str, ...], Any]] = [((), value)]
    count = 0
    while left and count < VALUES_MAX:
        path, one = left.pop()
        opened = open_json(one)
        inside: list[tuple[tuple[str, ...], Any]] = []
        if isinstance(opened, Mapping):
            inside = [((*path, str(key).lower()), inner) for key, inner in opened.items()]
        elif isinstance(opened, list):
            inside = [(path, inner) for inner in opened]
        elif opened is not None:
            count += 1
            yield path, text_of(opened)
        if len(path) < STEPS_MAX:
            left += reversed(inside[:VALUES_MAX])
