"""A response that is repeated or taken back: nothing is done twice, and nothing else instead."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, AT_MS, hides, make_alert, make_match
from halting_scene import Halting, desk_of, disable, outcomes
from m365watch.common.clock import SystemClock
from m365watch.common.errors import CollectorError, Throttled, Unavailable
from m365watch.response.execution.response_executor import Came
from m365watch.response.journal import Journal
from m365watch.response.plans.planner import plan_response
from responding_scene import DELETES, RULES, Scene, in_scene, names


def test_what_is_gone_is_not_looked_for_among_the_others(tmp_path: Path) -> None:
    """The second go offered the owner's own rules, one by one."""

    async def test(scene: Scene) -> None:
        for name in ("..", "news", "bills"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))

        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.DONE]
        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.ALREADY]
        assert names(scene) == ["news", "bills"]

    in_scene(tmp_path, test)


@pytest.mark.parametrize("made_again", [{}, {"Parameters.MarkAsRead": "True"}])
def test_what_came_back_since_and_is_called_otherwise_is_not_done(
    tmp_path: Path, made_again: dict[str, str]
) -> None:
    """The alert has a record of later than what was done: the rule lives, and its name may be another."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        fields = hides("..")
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=fields)
        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]

        scene.directory.add(RULES, {"displayName": "Invoices"} | DELETES)
        tomorrow_ms = int((SystemClock().now() + timedelta(days=1)).timestamp() * 1000)
        alert = replace(make_alert("remove_inbox_rule", user=ANN), last_at_ms=tomorrow_ms)
        after = make_match(fields | made_again, after_ms=tomorrow_ms - AT_MS)
        later = plan_response(alert, [make_match(fields), after])
        told = await scene.apply(replace(later, tenant=scene.tenant))

        assert {one.came for one in told} == {Came.MISSING}
        assert all("there is: displayName Invoices" in one.label for one in told)

    in_scene(tmp_path, test)


def test_what_was_done_stays_done_whatever_else_came_since(tmp_path: Path) -> None:
    """Only a record of that very rule says that it was there again."""

    async def test(scene: Scene) -> None:
        made = {"Operation": "New-InboxRule"}
        first, second = (made | hides(name) for name in ("..", "Invoices"))
        for name in ("..", "Invoices"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=first)
        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]

        tomorrow_ms = int((SystemClock().now() + timedelta(days=1)).timestamp() * 1000)
        alert = replace(make_alert("remove_inbox_rule", user=ANN), last_at_ms=tomorrow_ms)
        later = plan_response(alert, [make_match(first), make_match(second, after_ms=tomorrow_ms - AT_MS)])
        told = await scene.apply(replace(later, tenant=scene.tenant))

        assert [one.came for one in told] == [Came.ALREADY, Came.DONE]

    in_scene(tmp_path, test)


@pytest.mark.parametrize(
    ("error", "outcome", "left"),
    [(Throttled("no time"), "failed", 0), (Unavailable("no answer"), "unclear", 1)],
)
def test_what_was_refused_was_not_done(
    tmp_path: Path, error: CollectorError, outcome: str, left: int
) -> None:
    """There is nothing to take back then; where no answer came, there may be."""
    plan, journal = disable(), Journal(tmp_path)
    asyncio.run(desk_of(plan, Halting(error), journal).carry_out(plan.steps[0]))

    assert outcomes(tmp_path) == ["begun", outcome]
    assert len(journal.to_undo(plan.alert_id)) == left


@guarantee(40)
def test_what_may_have_been_taken_back_is_not_taken_back_again(tmp_path: Path) -> None:
    """The inbox rule would be there twice."""
    plan = plan_response(make_alert("remove_inbox_rule", user=ANN), [make_match(hides(".."))])
    journal, graph = Journal(tmp_path), Halting(None)
    desk = desk_of(plan, graph, journal)
    asyncio.run(desk.carry_out(plan.steps[0]))
    graph.error = Unavailable("no answer")
    [done] = journal.to_undo(plan.alert_id)
    first = asyncio.run(desk.undo(done))
    [left] = journal.to_undo(plan.alert_id)
    second = asyncio.run(desk.undo(left))

    assert (first.came, second.came) == (Came.FAILED, Came.PICK)
    assert "it may have been taken back already" in second.label
    assert [call.method for call in graph.changed] == ["DELETE", "POST"]


@guarantee(40)
def test_what_is_back_already_is_not_changed(tmp_path: Path) -> None:
    """A person has enabled the account meanwhile."""
    plan, journal, graph = disable(), Journal(tmp_path), Halting(None)
    desk = desk_of(plan, graph, journal)
    asyncio.run(desk.carry_out(plan.steps[0]))
    graph.enabled = True
    [done] = journal.to_undo(plan.alert_id)

    assert asyncio.run(desk.undo(done)).came is Came.ALREADY
    assert len(graph.changed) == 1
    assert journal.to_undo(plan.alert_id) == []
