"""Accounts that must not stop, as the configuration names them: what keeps one from its work asks a person.

An emergency account is an administrator like any other to a rule, and the last way in for its owners.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from m365watch.respond.accounts import path_of
from m365watch.respond.clues import Account
from m365watch.respond.quoting import is_account, powershell
from m365watch.respond.steps import Step

_STOPPING = frozenset(
    {
        "block_external_user",
        "disable_account",
        "remove_group_member",
        "remove_role",
        "reset_password",
        "revoke_sessions",
    }
)
"""Words that keep an account from its work."""
_WHY = (
    "It is one of detections.spared_accounts, an emergency account or one that must not stop: see first what"
    " stops with it."
)


def ask_for_spared(step: Step, spared: Collection[str]) -> Step:
    """The step as it is, or for a person to say yes to, where it is done to one of those accounts."""
    if step.word not in _STOPPING or not any(is_account(one) and _is_on(step, one) for one in spared):
        return step
    if step.operations:
        return replace(step, notes=(f"{_WHY} --yes leaves it alone.", *step.notes), asks_always=True)
    return replace(step, notes=(_WHY, *step.notes))


def _is_on(step: Step, account: str) -> bool:
    """Whether the step names it as what it is done to, in either case."""
    path, named = path_of(Account(account)).lower(), f"-userid {powershell(account)}".lower()
    asked = (call.path.lower() for call in step.calls)
    return any(one == path or one.startswith((f"{path}/", f"{path}?")) for one in asked) or any(
        named in line.lower() for line in step.powershell
    )
