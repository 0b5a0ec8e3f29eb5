"""What a step leaves open that no other step of its plan shuts, said with the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from m365watch.response.steps.step import Step

_SESSIONS, _PASSWORD, _DISABLED = "revoke_sessions", "reset_password", "disable_account"
_SIGNS_IN_AGAIN = (
    "Whoever has the password signs in again, and no other step of this plan keeps them out: if it may be"
    " known, give a new one, or disable the account."
)
"""What ends a session ends no password: a rule may name the one without the other."""
_KEEPS_PASSWORD = (
    "It keeps its password, and no other step of this plan gives a new one: if it may be known, give one"
    " before the account is enabled again, and see that its second factors are the owner's."
)


def with_caveats(by_word: Mapping[str, Sequence[Step]]) -> Mapping[str, Sequence[Step]]:
    """The steps by their words, each with what it leaves open in this plan."""
    if _PASSWORD in by_word:
        return by_word
    if _DISABLED in by_word:
        kept = [
            _add(one, _KEEPS_PASSWORD) if has_password_here(one.title) else one for one in by_word[_DISABLED]
        ]
        return {**by_word, _DISABLED: kept}
    if _SESSIONS not in by_word:
        return by_word
    return {**by_word, _SESSIONS: [_add(one, _SIGNS_IN_AGAIN) for one in by_word[_SESSIONS]]}


def has_password_here(account: str) -> bool:
    """Whether an account of that name, or a text that names it, is none of a guest, who signs in at home."""
    return "#ext#" not in account.lower()


def _add(step: Step, note: str) -> Step:
    return replace(step, notes=(*step.notes, note)) if step.operations else step
