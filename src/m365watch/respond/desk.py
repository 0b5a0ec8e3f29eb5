"""Carries steps out, one deed after the other: asked for, written down, done, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from enum import StrEnum

from m365watch.clock import Clock
from m365watch.errors import CollectorError, NeedsOperator
from m365watch.respond.administrators import why_not_lock_out
from m365watch.respond.carrying import Deed, Graph, look
from m365watch.respond.journal import DeedDone, Journal, Line, Outcome
from m365watch.respond.steps import Plan, Step
from m365watch.values import dataclass

Ask = Callable[[str], Awaitable[bool]]
"""Whether a person says yes to the question."""


class Came(StrEnum):
    """What came of a step."""

    DONE = "done"
    ALREADY = "already so"
    DECLINED = "not done: you said no"
    PICK = "not done: a person has to pick"
    ASKS = "not done: a person has to say yes"
    REFUSED = "not done"
    BY_HAND = "by hand"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Told:
    """One thing to tell of a step."""

    came: Came
    label: str = ""
    error: CollectorError | None = None


class Desk:
    """Works on one alert, for one person."""

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        journal: Journal,
        *,
        clock: Clock,
        by: str,
        ask: Ask | None,
        even_last: bool = False,
    ) -> None:
        """Without `ask` everything that the plan names is done, and what it does not name is left.

        `even_last` says that the last administrator, too, may be locked out.
        """
        self._plan = plan
        self._graph = graph
        self._journal = journal
        self._clock = clock
        self._by = by
        self._ask = ask
        self._even_last = even_last
        self._begun = 0

    async def carry_out(self, step: Step) -> list[Told]:
        """Do the step, as far as Graph can and a person says yes; what came of each of its deeds.

        Raises: NeedsOperator: it could not be written down; nothing was done then.
        """
        if step.is_by_hand:
            return [Told(Came.BY_HAND)]
        if step.asks_always and self._ask is None:
            return [Told(Came.ASKS)]
        if self._ask is not None and not await self._ask(f"{step.title}?"):
            return [Told(Came.DECLINED)]
        told: list[Told] = []
        for operation in step.operations:
            try:
                deeds = await look(self._graph, operation)
            except CollectorError as error:
                told.append(Told(Came.FAILED, error=error))
                continue
            told += [await self._do(step, deed) for deed in deeds]
        return _each_failure_once(told) or [Told(Came.ALREADY)]

    async def undo(self, done: DeedDone) -> Told:
        """Take a deed back. Raises: NeedsOperator: as `carry_out`."""
        line = done.line
        label = _named(line)
        assert line.undo is not None  # noqa: S101 - the journal names only these
        sure = "" if done.is_certain else " (it is not certain that it was done)"
        if self._ask is not None and not await self._ask(f"Take back: {label}{sure}?"):
            return Told(Came.DECLINED, label)
        if self._ask is None and not done.is_certain:
            return Told(Came.PICK, label)
        try:
            await self._graph.ask(line.undo)
        except CollectorError as error:
            return Told(Came.FAILED, label, error)
        self._write(line.deed, "undone", step=line.step, title=line.title, label=line.label)
        return Told(Came.DONE, label)

    async def _do(self, step: Step, deed: Deed) -> Told:
        if not deed.is_meant:
            if self._ask is None:
                return Told(Came.PICK, deed.label)
            if not await self._ask(f"  {deed.label}: this one?"):
                return Told(Came.DECLINED, deed.label)
        refused = await self._why_not(deed)
        if refused is not None:
            return Told(Came.REFUSED, deed.label, refused)
        self._begun += 1
        deed_id = f"{self._clock.now():%Y%m%dT%H%M%S.%f}-{os.getpid()}-{self._begun}"
        self._write(deed_id, "begun", step=step.word, title=step.title, label=deed.label, deed=deed)
        try:
            await self._graph.ask(deed.call)
        except CollectorError as error:
            outcome: Outcome = "failed" if isinstance(error, NeedsOperator) else "unclear"
            self._write(
                deed_id, outcome, step=step.word, title=step.title, label=deed.label, error=error.what
            )
            return Told(Came.FAILED, deed.label, error)
        self._write(deed_id, "done", step=step.word, title=step.title, label=deed.label)
        return Told(Came.DONE, deed.label)

    async def _why_not(self, deed: Deed) -> NeedsOperator | None:
        """Why it must not be done; None where it may. Looked at last, for each deed may have changed it."""
        if not deed.locks_out or self._even_last:
            return None
        return await why_not_lock_out(self._graph, deed.locks_out)

    def _write(
        self,
        deed_id: str,
        outcome: Outcome,
        *,
        step: str,
        title: str,
        label: str,
        deed: Deed | None = None,
        error: str = "",
    ) -> None:
        self._journal.write(
            Line(
                deed=deed_id,
                at=self._clock.now(),
                by=self._by,
                alert=self._plan.alert_id,
                tenant=self._plan.tenant,
                outcome=outcome,
                step=step,
                title=title,
                label=label,
                method=deed.call.method if deed else "",
                path=deed.call.path if deed else "",
                undo=deed.undo if deed else None,
                error=error,
            )
        )


def _named(line: Line) -> str:
    """What a deed was, and to what: the step's own words have the account, and the label the rule or role."""
    if not line.title:
        return f"{line.step} {line.label}".strip()
    return f"{line.title}: {line.label}" if line.label and line.label not in line.title else line.title


def _each_failure_once(told: list[Told]) -> list[Told]:
    """Two operations of a step may fail of the same thing: it is said once."""
    kept: list[Told] = []
    for one in told:
        said = {(other.label, other.error.what) for other in kept if other.error is not None}
        if one.error is None or (one.label, one.error.what) not in said:
            kept.append(one)
    return kept
