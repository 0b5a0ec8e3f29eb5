"""Accounts that must not stop, as the configuration names them: what keeps one from its work asks a person.

An emergency account is an administrator like any other to a rule, and the last way in for its owners.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from urllib.parse import unquote

from m365watch.common.errors import CollectorError, NothingThere
from m365watch.response.execution.step_actions import Graph
from m365watch.response.plans.alert_evidence import Account
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import guid_in
from m365watch.response.steps.role_assignments import is_of_group
from m365watch.response.steps.step import LEAVES, GraphCall, Plan, Step

STOPPING = frozenset(
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
_WHY_GROUP = (
    "One of detections.spared_accounts may be in the group, and have this role by it alone: see first who is"
    " in it."
)
_UNKNOWN = "Graph does not say whether it is one of detections.spared_accounts under its other name"

_PATH = re.compile(r"/users/(?!\{)([^/?]+)")
_COMMAND = re.compile(r"-UserId '((?:[^']|'')+)'")


async def spare_by_both_names(
    plan: Plan, graph: Graph, spared: Collection[str], *, numbers: Collection[int] = ()
) -> Plan:
    """The plan, whose steps of these numbers, or all, spare an account by its other name as well.

    A record may have an account by its object's id alone, where the list has its name, or the other way
    round: Graph knows both. Where it does not say, a person has to say yes.
    """
    answers: dict[str, tuple[str, ...] | CollectorError] = {}
    steps = [*plan.steps]
    for place, step in enumerate(steps):
        if step.word not in STOPPING or not step.operations or (numbers and place + 1 not in numbers):
            continue
        for account in _accounts_of(step):
            if not any(_is_id(one) != _is_id(account) for one in spared):
                continue
            if account not in answers:
                answers[account] = await _names_of(account, graph)
            steps[place] = _ask_if_spared(steps[place], answers[account], spared)
    return replace(plan, steps=tuple(steps))


def _accounts_of(step: Step) -> list[str]:
    """Whom it is done to, in lower case, each once: a group's owner is in the commands alone."""
    called = [unquote(match[1]) for call in step.calls if (match := _PATH.match(call.path))]
    typed = [one.replace("''", "'") for line in step.powershell for one in _COMMAND.findall(line)]
    return [*dict.fromkeys(one.lower() for one in (*called, *typed))]


def _is_id(account: str) -> bool:
    return guid_in(account) == account.lower()


async def _names_of(account: str, graph: Graph) -> tuple[str, ...] | CollectorError:
    """The account's id and name; none where it is gone, and the error where Graph does not say."""
    path = f"{path_of(Account(account))}?$select=id,userPrincipalName"
    try:
        found = await graph.ask(GraphCall("GET", path))
    except NothingThere:
        return ()
    except CollectorError as error:
        return error
    return tuple(str(found.get(name) or "").lower() for name in ("id", "userPrincipalName"))


def _ask_if_spared(step: Step, names: Iterable[str] | CollectorError, spared: Collection[str]) -> Step:
    if any(note.startswith(_WHY) for note in step.notes):
        return step
    if isinstance(names, CollectorError):
        return _asking(step, f"{_UNKNOWN} ({names.what}).")
    known = {one.lower() for one in spared}
    return _asking(step, _WHY) if known.intersection(names) else step


def _asking(step: Step, why: str) -> Step:
    return replace(step, notes=(f"{why} {LEAVES}", *step.notes), asks_always=True)


def ask_for_spared(step: Step, spared: Collection[str]) -> Step:
    """The step as it is, or for a person to say yes to, where it is done to one of those, or may be."""
    if spared and is_of_group(step) and step.operations:
        return _asking(step, _WHY_GROUP)
    known = {one.lower() for one in spared}
    if step.word not in STOPPING or known.isdisjoint(_accounts_of(step)):
        return step
    if step.operations:
        return _asking(step, _WHY)
    return replace(step, notes=(_WHY, *step.notes))
