"""What a step leaves open that no other step of its plan shuts, said with the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from m365watch.respond.steps import Step

_SESSIONS, _PASSWORD, _DISABLED = "revoke_sessions", "reset_password", "disable_account"
_SIGNS_IN_AGAIN = (
    "Whoever has the password signs in again, and no other step of this plan keeps them out: if it may be"
    " known, give a new one, or disable the account."
)
"""What ends a session ends no password: a rule may name the one without the other."""


def with_caveats(by_word: Mapping[str, Sequence[Step]]) -> Mapping[str, Sequence[Step]]:
    """The steps by their words, each with what it leaves open in this plan."""
    if _SESSIONS not in by_word or {_PASSWORD, _DISABLED} & by_word.keys():
        return by_word
    return {**by_word, _SESSIONS: [_add(one, _SIGNS_IN_AGAIN) for one in by_word[_SESSIONS]]}


def _add(step: Step, note: str) -> Step:
    return replace(step, notes=(*step.notes, note)) if step.operations else step
