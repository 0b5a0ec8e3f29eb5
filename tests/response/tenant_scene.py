"""A tenant as Graph would tell of it, and what a plan comes to there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from detected import steps
from m365watch.common.errors import NeedsOperator
from m365watch.response.execution.step_actions import Deed, Document, Looked, look
from m365watch.response.steps.step import GraphCall, Plan


class Tenant:
    """Graph of a tenant in which everything that is read first is one document, and every list the same."""

    def __init__(self, subject: Document, *listed: Document) -> None:
        self._subject = subject
        self._listed = listed

    async def ask(self, call: GraphCall) -> Document:
        return self._subject

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        return self._listed


def looked_at(plan: Plan, word: str, tenant: Tenant) -> Looked:
    """What the plan's one operation of the word finds there."""
    [operation] = [one for step in steps(plan, word) for one in step.operations]
    return asyncio.run(look(tenant, operation))


def goes(plan: Plan, word: str, tenant: Tenant) -> list[str]:
    """The ids of what goes there by --yes, for the word."""
    operations = [one for step in steps(plan, word) if not step.asks_always for one in step.operations]
    every = [asyncio.run(look(tenant, one)) for one in operations]
    return [number for one in every for number, is_meant in told(one.deeds) if is_meant]


def told(deeds: Sequence[Deed]) -> list[tuple[str, bool]]:
    """What each would remove, and whether it does so without a person's word."""
    return [(deed.call.path.rpartition("/")[2], deed.is_meant) for deed in deeds]


class Reticent(Tenant):
    """It lists what is there, and tells nobody what a folder is called."""

    async def ask(self, call: GraphCall) -> Document:
        raise NeedsOperator("403", fix="grant Mail.ReadBasic.All")


def sends(*whom: str, action: str = "forwardTo") -> dict[str, Any]:
    """What a rule does that sends mail on."""
    return {action: [{"emailAddress": {"name": one, "address": one}} for one in whom]}
