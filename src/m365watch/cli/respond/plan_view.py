"""A plan of response as people read it, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from textwrap import wrap
from typing import Any

from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.common.text import plain
from m365watch.config.models.clouds import Cloud
from m365watch.response.journal import Line, named
from m365watch.response.plans.powershell import commands, connections
from m365watch.response.plans.step_approval import SEE, is_for_some
from m365watch.response.plans.step_order import how_ordered, others_of, runs, spans
from m365watch.response.steps.step import Plan, Step

ALIKE_MIN = 6
"""Steps of a kind of which the first alone is shown whole."""
_COPIED = " " * 5
"""Before calls and commands, which stay whole on any terminal."""


def write_plan(lines: Iterable[str]) -> None:
    """The lines on stdout; on a terminal prose is folded at its width, between words."""
    width = stdout_console().width if sys.stdout.isatty() else 0
    for line in lines:
        for part in [line] if not width or line.startswith(_COPIED) else _folded(line, width):
            write_line(part)


def _folded(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")))
    parts = wrap(line, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return parts or [""]


def plan_lines(plan: Plan, *, cloud: Cloud, deeds: Sequence[Line] = ()) -> Iterator[str]:
    """The plan, line by line; commands are never wrapped, for they are to be copied.

    `deeds` are what was done for the alert already, or tried.
    """
    yield f"Alert {plan.alert_id}: {plain(plan.title)}"
    yield f"Tenant {plain(plan.tenant)}"
    if plan.steps:
        yield f"Plan {plan.mark}, {how_ordered(plan.steps)}"
    yield from (f"note: {plain(note)}" for note in plan.notes)
    yield from (f"response: {plain(_what_came(one))}" for one in deeds)
    yield from (f"see first: {plain(one)}" for one in plan.checks)
    if lines := connections(plan, cloud=cloud):
        yield ""
        yield "PowerShell, before any of its lines below:"
        yield from (f"{_COPIED}{line}" for line in lines)
    for number, run in runs(plan.steps):
        whole = run if len(run) < ALIKE_MIN else run[:1]
        for place, step in enumerate(whole, number):
            yield ""
            yield from _step_lines(place, step, cloud)
        if len(run) > len(whole):
            yield ""
            yield from _the_others(number, run, plan.alert_id)
    if plan.parts:
        yield ""
        yield "Alerts that it joins, and what their own plans have beside this one:"
        yield from (f"   {one.alert_id[:8]}  {plain(one.title)}: {plain(one.more)}" for one in plan.parts)
    if plan.by_hand:
        yield ""
        yield yours(plan, plan.by_hand)
    if plan.permissions:
        yield ""
        yield from plan.permissions_told


def _what_came(deed: Line) -> str:
    why = f": {deed.error}" if deed.error else ""
    return f"{deed.at:%Y-%m-%d %H:%M:%S}Z {named(deed)}: {deed.outcome}, by {deed.by}{why}"


def _step_lines(number: int, step: Step, cloud: Cloud) -> Iterator[str]:
    yield f"{number}. {plain(step.title)}  [{step.way}]"
    yield from (f"   {plain(note)}" for note in step.notes)
    if step.calls:
        yield "   Graph:"
        yield from (f"{_COPIED}{call.line(cloud.graph_url)}" for call in step.calls)
    if step.powershell:
        yield "   PowerShell:"
        yield from (f"{_COPIED}{plain(line)}" for line in commands(step, cloud=cloud))


def _the_others(number: int, run: Sequence[Step], alert_id: str) -> Iterator[str]:
    """Whom the steps are for besides the first of those that are alike, each with its number."""
    named = others_of(run)
    where = f", each with its own calls and commands in `m365watch respond {alert_id[:8]} --json`"
    has_any = any(step.calls or step.powershell for step in run)
    yield f"{number + 1} to {number + len(named)}. The same{where if has_any else ''}:"
    yield from (f"   {place}. {plain(name)}" for place, name in enumerate(named, number + 1))


def yours(plan: Plan, numbers: Sequence[int]) -> str:
    """Which steps are left to a person, in a sentence: `2 steps are yours, by hand: 3, 5`.

    Of who was only tried, it says for whom they are.
    """
    told = "1 step is" if len(numbers) == 1 else f"{len(numbers)} steps are"
    told += f" yours, by hand: {spans(numbers)}"
    some = [number for number in numbers if is_for_some(plan.steps[number - 1])]
    looks = [number for number, one in enumerate(plan.steps, 1) if one.word == SEE]
    if not some or not looks:
        return told
    return f"{told}; {spans(some)} only for whoever step {looks[0]} shows"


def once_more(plan: Plan, done: Collection[int]) -> Iterator[str]:
    """Which of the steps that were done have to be done again, once a person has done another."""
    steps = [*enumerate(plan.steps, 1)]
    is_given = any(one.word == "reset_password" and one.powershell for _, one in steps)
    again = [number for number, one in steps if one.word == "revoke_sessions" and number in done]
    if not is_given or not again:
        return
    given, which, used = (
        ("a new password is", "step", "one") if len(again) == 1 else ("new passwords are", "steps", "ones")
    )
    yield f"once {given} given, do {which} {spans(again)} again: the old {used} may have been used meanwhile"


def plan_document(plan: Plan, *, cloud: Cloud, deeds: Sequence[Line] = ()) -> dict[str, Any]:
    """What `respond --json` prints."""
    return {
        "schema": SCHEMA,
        "alert": plan.alert_id,
        "tenant": plan.tenant,
        "title": plan.title,
        "mark": plan.mark,
        "steps": [
            {"number": number, **_step_document(step, cloud=cloud)}
            for number, step in enumerate(plan.steps, 1)
        ],
        "powershell_first": list(connections(plan, cloud=cloud)),
        "steps_by_hand": len(plan.by_hand),
        "permissions": list(plan.permissions),
        "wished_permissions": list(plan.wished),
        "parts": [
            {"alert": part.alert_id, "title": part.title, "more": list(part.words)} for part in plan.parts
        ],
        "notes": list(plan.notes),
        "see_first": list(plan.checks),
        "responses": deeds_document(deeds),
    }


def deeds_document(deeds: Sequence[Line]) -> list[dict[str, Any]]:
    """What was done for an alert, the first one first, each with its last word."""
    return [
        {
            "at": instant(one.at),
            "by": one.by,
            "step": one.step,
            "title": one.title,
            "label": one.label,
            "outcome": one.outcome,
            "error": one.error,
        }
        for one in deeds
    ]


def _step_document(step: Step, *, cloud: Cloud) -> dict[str, Any]:
    return {
        "step": step.word,
        "title": step.title,
        "by_hand": step.is_by_hand,
        "can_be_undone": step.can_be_undone,
        "asks_always": step.asks_always,
        "graph": [
            {"method": call.method, "url": call.url(cloud.graph_url), "body": call.body}
            for call in step.calls
        ],
        "powershell": list(commands(step, cloud=cloud)),
        "permissions": list(step.permissions),
        "wished_permissions": list(step.wished),
        "notes": list(step.notes),
    }
