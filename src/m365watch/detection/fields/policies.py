"""How a policy of access became weaker by a change: switched off, or somebody or something let past it.

Policies are told as JSON inside a property, in two spellings: `state` and `excludeUsers` of today's
interface, and `State` and `Exclude` below `Users`, `Locations` ... of the one before it. What had been so
before the change is no news, nor is what a new policy says from its beginning.

Source: the shapes that both interfaces document for a policy; which of them this feed writes was not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from m365watch.detection.fields.leaves import Leaf, leaves_with_paths
from m365watch.detection.fields.operations import normalise_operation

if TYPE_CHECKING:
    from m365watch.detection.fields.record_view import Value, View

PROPERTIES = ("policydetail", "conditionalaccesspolicy")
"""Properties that have a whole policy, in lower case."""
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


def _told_on(view: View, side: str) -> list[Leaf]:
    """Every plain value of the policy on one side, with the keys that lead to it, in lower case."""
    named = view.named("ModifiedProperties", side)
    return [
        (tuple(key.lower() for key in path), value)
        for name in PROPERTIES
        for path, value in leaves_with_paths(named.get(name))
    ]


def _is_off(leaves: list[Leaf]) -> bool:
    return any(path[-1:] == ("state",) and value.lower() in _OFF for path, value in leaves)


def _excluded(leaves: list[Leaf]) -> list[str]:
    """Users, groups, networks ... that the policy leaves out: who or what stands below a key for it."""
    return [
        value
        for path, value in leaves
        if value and any(key.startswith("exclude") and key != "excludemode" for key in path)
    ]
