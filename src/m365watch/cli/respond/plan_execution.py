"""Carries out a plan on a terminal: asks for each step, and says what came of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import typer

from m365watch.cli.event_loop import run_in_loop
from m365watch.cli.terminal.prompts import confirm
from m365watch.cli.this_user import this_user
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NeedsOperator
from m365watch.common.text import plain
from m365watch.config.models.settings import Settings
from m365watch.response.execution.graph_client import open_graph, own_apps
from m365watch.response.execution.response_executor import Ask, Came, Desk, Told, turn_held
from m365watch.response.journal import Journal
from m365watch.response.plans.emergency_accounts import spare_by_both_names
from m365watch.response.plans.step_order import spans
from m365watch.response.steps.step import Plan, Step

Say = Callable[[str], None]
_STOPPED = "stopped: nothing more is done while it cannot be written down"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one thing."""

    title: str
    told: Told
    number: int = 0
    """Of the plan's step."""


def apply_plan(
    settings: Settings, plan: Plan, *, numbers: Sequence[int], asks: bool, even_last: bool, say: Say
) -> list[Result]:
    """Carry out the steps of these numbers, or all. Raises: CollectorError: none of the rest was done."""

    async def work(desk: Desk) -> list[Result]:
        say(_where(plan))
        for check in plan.checks:
            say(f"see first: {plain(check)}")
        results: list[Result] = []
        steps = [one for one in enumerate(desk.plan.steps, 1) if not numbers or one[0] in numbers]
        for place, (number, step) in enumerate(steps):
            title = f"{number}. {step.title}"
            if step not in plan.steps and not asks:
                # The plan that was read does not say it, and no question does.
                say(f"{plain(title)}: {plain(step.notes[0])}")
            try:
                found = [Result(title, told, number) for told in await desk.carry_out(step)]
            except (KeyboardInterrupt, typer.Abort):
                _tell_left(plan, [one for one, _ in steps[place:]])
                raise
            for result in found:
                say(_line(result, step))
            results += found
            if any(one.told.ends for one in found):
                say(_STOPPED)
                break
        return results

    with turn_held(settings.state_directory, by=this_user(), alert=plan.alert_id):
        return run_in_loop(
            _with_desk(settings, plan, asks=asks, even_last=even_last, numbers=numbers, work=work)
        )


def undo_plan(
    settings: Settings, plan: Plan, *, formerly: Sequence[str], asks: bool, say: Say
) -> list[Result]:
    """Take back what was done for the alert, the latest first, and let go what was so already.

    `formerly` are ids that it had.

    Raises: CollectorError: none of the rest was taken back.
    """

    async def work(desk: Desk) -> list[Result]:
        say(_where(plan))
        journal, alerts = Journal(settings.state_directory), (plan.alert_id, *formerly)
        results: list[Result] = []

        def add(told: Told) -> None:
            results.append(Result(f"undo: {told.label}", told))
            say(_line(results[-1], None))

        for done in journal.to_undo(*alerts):
            add(await desk.undo(done))
            if results[-1].told.ends:
                say(_STOPPED)
                return results
        for found in journal.list_found(*alerts):
            if told := await desk.let_go(found):
                add(told)
        for gone in journal.list_gone(*alerts):
            label = f" ({gone.label})" if gone.label and gone.label not in gone.title else ""
            say(plain(f"stays as it is: {gone.title or gone.step}{label}"))
        return results

    with turn_held(settings.state_directory, by=this_user(), alert=plan.alert_id):
        return run_in_loop(_with_desk(settings, plan, asks=asks, work=work))


def _tell_left(plan: Plan, numbers: Sequence[int]) -> None:
    """Which steps nobody was asked about when the command was ended at a question, below which it stands."""
    again = f"`m365watch respond {plan.alert_id[:8]} --apply` goes on"
    what = "step" if len(numbers) == 1 else "steps"
    sys.stderr.write(f"\nnot done: {what} {spans(numbers)}; {again}\n")


def _where(plan: Plan) -> str:
    return f"in the tenant {plain(plan.tenant)}, for the alert {plan.alert_id[:8]}:"


async def _with_desk(
    settings: Settings,
    plan: Plan,
    *,
    asks: bool,
    work: Callable[[Desk], Awaitable[list[Result]]],
    even_last: bool = False,
    numbers: Sequence[int] = (),
) -> list[Result]:
    clock = SystemClock()
    ask: Ask | None = ask_on_terminal if asks else None
    async with open_graph(settings, plan.tenant, clock=clock, on_wait=_tell_wait) as graph:
        journal, spared = Journal(settings.state_directory), settings.detections.spared_accounts
        desk = Desk(
            await spare_by_both_names(plan, graph, spared, numbers=numbers),
            graph,
            journal,
            clock=clock,
            by=this_user(),
            ask=ask,
            even_last=even_last,
            own_apps=own_apps(settings),
        )
        return await work(desk)


async def ask_on_terminal(question: str) -> bool:
    """Whether a person says yes. Ctrl-C ends the command at once: nothing else is under way meanwhile."""
    # The loop's own way with Ctrl-C is to end what waits for the loop, which a question does not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return confirm(question)
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_wait(seconds: float) -> None:
    sys.stderr.write(f"Graph has no time: it is asked again in {seconds:.0f} s\n")


def require_terminal() -> None:
    """Refuse to ask where nobody can answer."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask on; look at the plan, then give --yes")


def _line(result: Result, step: Step | None) -> str:
    told = result.told
    label = f" ({plain(told.label)})" if told.label and told.label not in result.title else ""
    why = ""
    if told.error is not None:
        fix = f"; {told.error.fix}" if isinstance(told.error, NeedsOperator) else ""
        why = f": {plain(told.error.what)}{fix}"
    if told.came is Came.BY_HAND and step is not None and step.powershell:
        why = ": its PowerShell stands in the plan"
    return f"{plain(result.title)}{label}: {told.came}{why}"
