"""Carries steps out, one deed after the other: asked for, written down, done, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote

import msgspec

from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    JournalUnwritable,
    LedgerHeld,
    ListTooLong,
    NeedsOperator,
    NothingThere,
    ResponseHeld,
    Throttled,
    TokenRefused,
    Unreachable,
)
from m365watch.common.text import plain
from m365watch.ledger.lock import LedgerLock, cure_beside_collector
from m365watch.response.execution.admin_lockout import THEMSELVES, why_not_leave, why_not_lock_out
from m365watch.response.execution.step_actions import Deed, Graph, Looked, look
from m365watch.response.journal import NEVER_ANSWERED, NOT_DONE, DeedDone, Journal, Line, Outcome, named
from m365watch.response.plans.step_caveats import has_password_here
from m365watch.response.steps.step import GraphCall, Plan, Revise, Step

LOCK_FILE = "responses.lock"


@contextmanager
def turn_held(state_directory: Path, *, by: str, alert: str) -> Iterator[None]:
    """Whoever is in the block is the only one; the operating system ends it with the process.

    Raises: ResponseHeld: who is, and for which alert; NeedsOperator: the lock's file cannot be written.
    """
    path = state_directory / LOCK_FILE
    lock = LedgerLock(path, says=f"{by}, for the alert {alert[:8]}")
    try:
        lock.acquire()
    except LedgerHeld as held:
        raise ResponseHeld(
            f"another response is under way, {held.what}",
            # What it has done is in the journal, and a question does nothing.
            fix=(
                "wait until it has ended, or end that process if it was left at a question; then read the"
                " plan again; nothing was done here"
            ),
            where=held.where,
        ) from None
    except OSError as error:
        raise NeedsOperator(
            f"it cannot be made sure that nobody else responds meanwhile: {error.strerror}",
            fix=cure_beside_collector(error),
            where=str(path),
        ) from None
    try:
        yield
    finally:
        lock.release()


Ask = Callable[[str], Awaitable[bool]]
"""Whether a person says yes to the question; it is plain, and the last of its lines has it."""
RESULT_UNWRITTEN = "the result cannot be written down"
_TOLD_WITHIN = timedelta(hours=1)
"""How long it may take until Graph tells everybody of a change."""
_OLD_PASSWORD = "; it keeps its password, and needs a new one where that may be known"
_SHOWN = 5
"""Things that a question or a result names one by one."""


class Came(StrEnum):
    """What came of a step."""

    DONE = "done"
    UNWRITTEN = "done, but not written down as done"
    ALREADY = "already so"
    LET_GO = "let go: it was so already, and another alert may take it back"
    DECLINED = "not done: you said no"
    PICK = "not done: a person has to pick"
    MISSING = "not done: nothing of that name is there"
    UNSEEN = "not done: nothing is there that Graph lists, look by hand"
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

    @property
    def ends(self) -> bool:
        """Whether nothing more may be done: it could not be written down."""
        return isinstance(self.error, JournalUnwritable)


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
        own_apps: Collection[str] = (),
    ) -> None:
        """Without `ask` everything that the plan names is done, and what it does not name is left.

        `even_last` says that the last administrator, too, may be locked out; nothing is done to `own_apps`.
        """
        self._plan = plan
        self._graph = graph
        self._journal = journal
        self._clock = clock
        self._by = by
        self._ask = ask
        self._even_last = even_last
        self._own_apps = own_apps
        self._begun = 0

    @property
    def plan(self) -> Plan:
        """What it works on."""
        return self._plan

    async def carry_out(self, step: Step) -> list[Told]:
        """Do the step, as far as Graph can and a person says yes; what came of each of its deeds."""
        if step.is_by_hand:
            return [Told(Came.BY_HAND)]
        if step.asks_always and self._ask is None:
            return [Told(Came.ASKS)]
        looked, told = await self._look(step)
        deeds = [deed for one in looked for deed in one.deeds]
        if deeds and self._ask is not None and not await self._ask(self._question(step, looked)):
            return [*told, Told(Came.DECLINED)]
        is_unseen = any(one.is_unseen for one in looked)
        is_so = not (deeds or told or is_unseen)
        try:
            for one in looked:
                self._keep(step, one)
            if is_so and self._journal.ends_otherwise(step.word, step.title, self._plan.alert_id):
                self._write(self._next_id(), "already so", step=step.word, title=step.title, label="")
        except JournalUnwritable as error:
            return [*told, Told(Came.FAILED, error=error)]
        for deed in deeds:
            told.append(await self._do(step, deed))
            if told[-1].ends:
                break
        return _each_failure_once(told) or [Told(Came.UNSEEN if is_unseen else Came.ALREADY)]

    def _question(self, step: Step, looked: Sequence[Looked]) -> str:
        """What a person says yes to; above it why only a person may, and whom to ask before."""
        notes = (*step.reasons, *(note for note in step.notes if note == THEMSELVES))
        why = "".join(f"{plain(note)}\n" for note in notes)
        number = next((f"{number}. " for number, one in enumerate(self._plan.steps, 1) if one is step), "")
        return f"{why}{number}{plain(_question(step, looked))}"

    async def _look(self, step: Step) -> tuple[list[Looked], list[Told]]:
        """What the step comes to in the tenant as it is, and what there is to tell of that already."""
        looked: list[Looked] = []
        told: list[Told] = []
        for operation in step.operations:
            try:
                one = await look(self._graph, operation, own=self._own_apps)
            except ListTooLong as error:
                # The step's PowerShell does all of it: nothing is left half done.
                return [], [Told(Came.FAILED, error=error)]
            except CollectorError as error:
                told.append(Told(Came.FAILED, error=error))
                continue
            looked.append(one)
            if one.spared:
                why = NeedsOperator(one.spared, fix="look at who used it, and at who changed it")
                told.append(Told(Came.REFUSED, error=why))
            elif one.is_missing and not self._done_before(step, one):
                told.append(Told(Came.MISSING, "; ".join(self._why_missing(step, one))))
            elif one.lacking > len({line.path for line in self._done_before(step, one)}):
                told.append(Told(Came.MISSING, f"{one.lacking} more that the records tell of"))
        return looked, told

    def _why_missing(self, step: Step, looked: Looked) -> list[str]:
        """What there is instead, and whether it may have gone by something that was begun here."""
        unclear = self._journal.did(
            step.word, step.title, self._plan.tenant, about=looked.about, came=NEVER_ANSWERED
        )
        there = [f"there is: {_some(looked.others)}"] if looked.others else []
        return [*there, *(["an earlier try whose answer never came may have removed it"] if unclear else [])]

    def _done_before(self, step: Step, looked: Looked) -> list[Line]:
        """By which deeds it went that is missing, be they for another alert: this one wants it gone, too.

        Not where a record has come since, and all is missing: it was there again then, and may be called
        otherwise by now. Of several things one may have gone before the last was made.
        """
        told = (self._plan.since, step.since if looked.is_missing else None)
        since = [one for one in told if one is not None]
        done = self._journal.did(step.word, step.title, self._plan.tenant, about=looked.about)
        return [line for line in done if all(line.at >= one for one in since)]

    def _keep(self, step: Step, looked: Looked) -> None:
        """Write down what is so already, and is to stay so."""
        calls = [looked.is_so] if looked.is_so is not None else []
        if looked.is_missing or looked.lacking:
            before = self._done_before(step, looked)
            calls += [GraphCall(line.method, line.path) for line in before if line.method]
        for call in calls:
            self._keep_found(step, call, looked.about)

    def _keep_found(self, step: Step, call: GraphCall, about: str) -> None:
        deed = Deed(step.title, call, about=about)
        self._write(self._next_id(), "found", step=step.word, title=step.title, label="", deed=deed)

    async def let_go(self, found: Sequence[Line]) -> Told | None:
        """Want no more that what was found to be so stays so: another alert may take it back then.

        None where no other has anything to take back.
        """
        label = named(found[0])
        if not self._journal.keeps_others(found):
            self._let_go(found)
            return None
        if self._ask is not None and not await self._ask(plain(f"Let go what was so already: {label}?")):
            return Told(Came.DECLINED, label)
        self._let_go(found)
        return Told(Came.LET_GO, label)

    def _let_go(self, found: Iterable[Line]) -> None:
        for line in found:
            self._write(line.deed, "let go", step=line.step, title=line.title, label=line.label)

    async def undo(self, done: DeedDone) -> Told:
        """Take a deed back."""
        line, undo = done.line, done.line.undo
        assert undo is not None  # noqa: S101 - the journal names only these
        label = f"{named(line)}{_with_old_password(undo)}"
        doubts = self._doubts(done)
        if self._ask is not None and not await self._ask(plain(f"Take back: {label}{doubts}?")):
            return Told(Came.DECLINED, label)
        if self._ask is None and doubts:
            return Told(Came.PICK, f"{label}{doubts}")
        try:
            if await self._is_so(undo):
                self._end(line)
                return Told(Came.ALREADY, label)
            # What is made twice is there twice: an answer that never comes must not be asked for again.
            self._write(line.deed, "undoing", step=line.step, title=line.title, label=line.label)
            await self._graph.ask(undo)
        except JournalUnwritable as error:
            return Told(Came.FAILED, label, error)
        except CollectorError as error:
            failed = Told(Came.FAILED, label, error)
            return self._stays(line, failed) if done.is_certain and _changed_nothing(error) else failed
        try:
            self._end(line, otherwise=RESULT_UNWRITTEN)
        except JournalUnwritable as error:
            return Told(Came.UNWRITTEN, label, error)
        return Told(Came.DONE, label)

    def _stays(self, line: Line, failed: Told) -> Told:
        """Write down that it is still done, by who did it, for nothing was taken back."""
        assert failed.error is not None  # noqa: S101 - it failed
        otherwise = f"{failed.error.what}; and that cannot be written down"
        try:
            self._journal.write(msgspec.structs.replace(line, outcome="done"), otherwise=otherwise)
        except JournalUnwritable as error:
            return Told(Came.FAILED, failed.label, error)
        return failed

    def _end(self, line: Line, *, otherwise: str = NOT_DONE) -> None:
        """Write down that it is taken back; with the last of a step goes what was so already."""
        self._write(
            line.deed, "undone", step=line.step, title=line.title, label=line.label, otherwise=otherwise
        )
        for found in self._journal.list_found(line.alert, self._plan.alert_id):
            if (found[0].step, found[0].title) == (line.step, line.title):
                self._let_go(found)

    def _doubts(self, done: DeedDone) -> str:
        """What a person has to know before it is taken back; empty where there is nothing."""
        line = done.line
        doubts = [] if done.is_certain else ["it is not certain that it was done"]
        if done.is_begun:
            doubts = ["it may have been taken back already: look first"]
        doubts += [line.doubt] if line.doubt else []
        others = self._journal.others_wanting(line, line.alert, self._plan.alert_id)
        doubts += [f"the alert {one[:8]} wants it to stay so" for one in others]
        return f" ({'; '.join(doubts)})" if doubts else ""

    async def _is_so(self, call: GraphCall) -> bool:
        """Whether properties are by now as the call would set them."""
        if call.method != "PATCH" or not call.body:
            return False
        current = await self._graph.ask(GraphCall("GET", f"{call.path}?$select=id,{','.join(call.body)}"))
        return all(current.get(name) == value for name, value in call.body.items())

    def _next_id(self) -> str:
        self._begun += 1
        return f"{self._clock.now():%Y%m%dT%H%M%S.%f}-{os.getpid()}-{self._begun}"

    async def _do(self, step: Step, deed: Deed) -> Told:
        if not deed.is_meant:
            if self._ask is None:
                return Told(Came.PICK, deed.label)
            if not await self._ask(plain(f"  {deed.label}: this one?")):
                return Told(Came.DECLINED, deed.label)
        try:
            # Whoever responds with another state directory may have done it since it was looked at.
            if await self._is_so(deed.call):
                return self._is_found(step, deed, self._next_id())
        except CollectorError as error:
            return Told(Came.FAILED, deed.label, error)
        refused = await self._why_not(deed)
        if refused is not None:
            return Told(Came.REFUSED, deed.label, refused)
        deed_id = self._next_id()
        try:
            self._write(deed_id, "begun", step=step.word, title=step.title, label=deed.label, deed=deed)
        except JournalUnwritable as error:
            return Told(Came.FAILED, deed.label, error)
        outcome: Outcome = "done"
        told = Told(Came.DONE, deed.label)
        try:
            await self._graph.ask(deed.call)
        except CollectorError as error:
            if _may_be_gone(deed.call, error) and await self._is_gone(step, deed):
                return self._is_found(step, deed, deed_id)
            outcome = "failed" if _changed_nothing(error) else "unclear"
            told = Told(Came.FAILED, deed.label, error)
        return self._came_of(step, deed_id, outcome, told)

    async def _is_gone(self, step: Step, deed: Deed) -> bool:
        """Whether what Graph did not find to remove is listed no more: so says a late replica as well."""
        try:
            looked = [await look(self._graph, one, own=self._own_apps) for one in step.operations]
        except CollectorError:
            return False
        return not any(other.call == deed.call for one in looked for other in one.deeds)

    def _is_found(self, step: Step, deed: Deed, deed_id: str) -> Told:
        """It is so already, and is to stay so."""
        try:
            self._write(deed_id, "already so", step=step.word, title=step.title, label=deed.label)
            self._keep_found(step, deed.call, deed.about)
        except JournalUnwritable as error:
            return Told(Came.FAILED, deed.label, error)
        return Told(Came.ALREADY, deed.label)

    def _came_of(self, step: Step, deed_id: str, outcome: Outcome, told: Told) -> Told:
        """Write down what came of a deed; where that cannot be, what is told of it says so."""
        failed = "" if told.error is None else told.error.what
        try:
            self._write(
                deed_id,
                outcome,
                step=step.word,
                title=step.title,
                label=told.label,
                error=failed,
                otherwise=f"{failed}; and that cannot be written down" if failed else RESULT_UNWRITTEN,
            )
        except JournalUnwritable as error:
            return Told(Came.FAILED if failed else Came.UNWRITTEN, told.label, error)
        return told

    async def _why_not(self, deed: Deed) -> NeedsOperator | None:
        """Why it must not be done; None where it may. Looked at last, for each deed may have changed it."""
        if not deed.locks_out or self._even_last:
            return None
        # What was done just now, here or by another process, Graph may not tell yet.
        locked = self._journal.locked_out(self._plan.tenant, since=self._clock.now() - _TOLD_WITHIN)
        among = frozenset(account for group, account in locked if group in ("", deed.by_group))
        # A role that goes while another person signs in locks nobody out: Graph is asked each time.
        among |= frozenset() if deed.call.method == "DELETE" else _locked_by(self._plan)
        if deed.by_group:
            return await why_not_leave(self._graph, deed.locks_out, deed.by_group, among=among)
        return await why_not_lock_out(self._graph, deed.locks_out, among=among)

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
        otherwise: str = NOT_DONE,
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
                about=deed.about if deed else "",
                undo=deed.undo if deed else None,
                doubt=deed.doubt if deed else "",
                error=error,
                locks_out=deed.locks_out if deed else "",
                by_group=deed.by_group if deed else "",
            ),
            otherwise=otherwise,
        )


def _with_old_password(undo: GraphCall) -> str:
    """What whoever enables an account again has to know; empty of all else."""
    is_account = undo.path.startswith("/users/") and (undo.body or {}).get("accountEnabled") is True
    return _OLD_PASSWORD if is_account and has_password_here(unquote(undo.path)) else ""


def _locked_by(plan: Plan) -> frozenset[str]:
    """Whom the plan locks out, in lower case: none of them is one that is left."""
    revised = (one for step in plan.steps for one in step.operations if isinstance(one, Revise))
    return frozenset(unquote(one.path.rpartition("/")[2]).lower() for one in revised if one.locks_out)


def _changed_nothing(error: CollectorError) -> bool:
    """Whether it is certain that Graph did nothing: it refused, or was never asked."""
    return isinstance(error, NeedsOperator | Throttled | TokenRefused | Unreachable)


def _may_be_gone(call: GraphCall, error: CollectorError) -> bool:
    """Whether Graph may have refused it for there is nothing; how it says so of a secret no page tells."""
    return isinstance(error, NothingThere) or (call.method == "POST" and isinstance(error, NeedsOperator))


def _question(step: Step, looked: Iterable[Looked]) -> str:
    """What a person says yes to, with what the tenant knows of it."""
    looked = list(looked)
    names = dict.fromkeys(one.application for one in looked if one.application)
    meant = [deed for one in looked for deed in one.deeds if deed.is_meant and deed.call.method != "PATCH"]
    labels = [deed.label for deed in meant if deed.label and deed.label not in step.title]
    told = [*names, *([f"{len(labels)} in all: {_some(labels)}"] if labels else [])]
    return f"{step.title} ({'; '.join(told)})?" if told else f"{step.title}?"


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - _SHOWN
    return "; ".join(labels[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _each_failure_once(told: list[Told]) -> list[Told]:
    """Two operations of a step may fail of the same thing: it is said once."""
    kept: list[Told] = []
    for one in told:
        said = {(other.label, other.error.what) for other in kept if other.error is not None}
        if one.error is None or (one.label, one.error.what) not in said:
            kept.append(one)
    return kept
