"""A plan of response as people read it, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from m365watch.cli.documents import SCHEMA, instant
from m365watch.plain import plain
from m365watch.respond.connecting import connections
from m365watch.respond.journal import Line
from m365watch.respond.order import how_ordered
from m365watch.respond.steps import Plan, Step


def plan_lines(plan: Plan, *, graph_url: str) -> Iterator[str]:
    """The plan, line by line; commands are never wrapped, for they are to be copied."""
    yield f"Alert {plan.alert_id}: {plain(plan.title)}"
    yield f"Tenant {plain(plan.tenant)}"
    if plan.steps:
        yield f"Plan {plan.mark}, {how_ordered(plan.steps)}"
    yield from (f"note: {plain(note)}" for note in plan.notes)
    yield from (f"done: {plain(one)}" for one in plan.done)
    yield from (f"see first: {plain(one)}" for one in plan.checks)
    if lines := connections(plan, graph_url=graph_url):
        yield ""
        yield "PowerShell, before any of its lines below:"
        yield from (f"     {line}" for line in lines)
    for number, step in enumerate(plan.steps, 1):
        yield ""
        yield f"{number}. {plain(step.title)}  [{step.way}]"
        yield from (f"   {plain(note)}" for note in step.notes)
        if step.calls:
            yield "   Graph:"
            yield from (f"     {call.line(graph_url)}" for call in step.calls)
        if step.powershell:
            yield "   PowerShell:"
            yield from (f"     {plain(line)}" for line in step.powershell)
    if plan.parts:
        yield ""
        yield "Alerts that it joins, and what their own plans have beside this one:"
        yield from (f"   {one.alert_id[:8]}  {plain(one.title)}: {plain(one.more)}" for one in plan.parts)
    if plan.by_hand:
        yield ""
        yield yours(plan.by_hand)
    yield from once_more(plan)
    if plan.permissions:
        yield ""
        yield from plan.permissions_told


def yours(numbers: Sequence[int]) -> str:
    """Which steps are left to a person, in a sentence: `2 steps are yours, by hand: 3, 5`."""
    told = "1 step is" if len(numbers) == 1 else f"{len(numbers)} steps are"
    return f"{told} yours, by hand: {', '.join(map(str, numbers))}"


def once_more(plan: Plan, numbers: Sequence[int] = ()) -> Iterator[str]:
    """Which steps have to be done again once a person has done another; of these numbers, or of all."""
    steps = [*enumerate(plan.steps, 1)]
    passwords = [number for number, one in steps if one.word == "reset_password" and one.powershell]
    ended = [number for number, one in steps if one.word == "revoke_sessions" and one.operations]
    again = [one for one in ended if one in (numbers or ended)]
    if passwords and again:
        which = "step" if len(again) == 1 else "steps"
        yield (
            f"once a new password is given ({', '.join(map(str, passwords))}), do {which}"
            f" {', '.join(map(str, again))} again: the old one may have been used meanwhile"
        )


def plan_document(plan: Plan, *, graph_url: str) -> dict[str, Any]:
    """What `respond --json` prints."""
    return {
        "schema": SCHEMA,
        "alert": plan.alert_id,
        "tenant": plan.tenant,
        "title": plan.title,
        "mark": plan.mark,
        "steps": [
            {"number": number, **_step_document(step, graph_url=graph_url)}
            for number, step in enumerate(plan.steps, 1)
        ],
        "powershell_first": list(connections(plan, graph_url=graph_url)),
        "steps_by_hand": len(plan.by_hand),
        "permissions": list(plan.permissions),
        "wished_permissions": list(plan.wished),
        "parts": [
            {"alert": part.alert_id, "title": part.title, "more": list(part.words)} for part in plan.parts
        ],
        "notes": list(plan.notes),
        "see_first": list(plan.checks),
        "done": list(plan.done),
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


def _step_document(step: Step, *, graph_url: str) -> dict[str, Any]:
    return {
        "step": step.word,
        "title": step.title,
        "by_hand": step.is_by_hand,
        "can_be_undone": step.can_be_undone,
        "asks_always": step.asks_always,
        "graph": [
            {"method": call.method, "url": call.url(graph_url), "body": call.body} for call in step.calls
        ],
        "powershell": list(step.powershell),
        "permissions": list(step.permissions),
        "wished_permissions": list(step.wished),
        "notes": list(step.notes),
    }
