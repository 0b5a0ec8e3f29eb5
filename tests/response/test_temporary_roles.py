"""A role that was given for a time only: taken back, it would be there for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from alerts import ANN, make_alert, make_match
from m365watch.common.errors import CollectorError, NeedsOperator, Throttled
from m365watch.response.execution.response_executor import Came
from m365watch.response.execution.step_actions import Document, look
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import GraphCall
from responding_scene import ADMIN, ASSIGNMENTS, EVE, Scene, in_scene, make_administrators

UNTIL = "2026-11-02T17:00:00Z"


@pytest.mark.parametrize(("until", "came"), [(UNTIL, Came.PICK), (None, Came.DONE)])
def test_a_role_that_would_have_ended_is_given_back_by_a_person_alone(
    tmp_path: Path, until: str | None, came: Came
) -> None:
    """`--undo --yes` made eight hours of Global Administrator one without an end."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        scene.directory.lists[ASSIGNMENTS][0] |= {"directoryScopeId": "/", "endDateTime": until}
        plan = scene.plan("remove_role", user=ANN, fields=ADMIN)
        assert [one.came for one in await scene.apply(plan)] == [Came.DONE]
        [told] = await scene.undo(plan)

        assert told.came is came
        assert (f"it was given until {UNTIL}, and would stay for good" in told.label) is (until is not None)
        assert len(scene.directory.lists[ASSIGNMENTS]) == (1 if until else 2)

    in_scene(tmp_path, test)


def test_a_role_of_one_application_s_scope_comes_back_in_it(tmp_path: Path) -> None:
    """The scope was lost, and Graph takes no assignment without one."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        scene.directory.lists[ASSIGNMENTS][0] |= {"appScopeId": "/AdministrativeScope"}
        plan = scene.plan("remove_role", user=ANN, fields=ADMIN)
        await scene.apply(plan)
        assert [one.came for one in await scene.undo(plan)] == [Came.DONE]

        assert scene.directory.lists[ASSIGNMENTS][-1]["appScopeId"] == "/AdministrativeScope"

    in_scene(tmp_path, test)


class Refusing:
    """Graph that does not tell for how long roles were given."""

    def __init__(self, error: CollectorError) -> None:
        self.error = error

    async def ask(self, call: GraphCall) -> Document:
        return {"id": "1"}

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        if "ScheduleInstances" in path:
            raise self.error
        role = {"displayName": "Global Administrator"}
        return [{"id": "a", "principalId": "1", "directoryScopeId": "/", "roleDefinition": role}]


@pytest.mark.parametrize(
    ("error", "doubt"),
    [
        (NeedsOperator("HTTP 400 (AadPremiumLicenseRequired: The tenant needs P2)", fix=""), ""),
        (Throttled("HTTP 429"), "whether it was given for a time only could not be read"),
    ],
    ids=["a tenant that has no such roles", "an answer that never came"],
)
def test_what_is_not_told_is_a_doubt_where_there_may_be_such_roles(error: CollectorError, doubt: str) -> None:
    """A tenant without the licence has none that end."""
    plan = plan_response(make_alert("remove_role", user=ANN), [make_match(ADMIN)])
    [deed] = asyncio.run(look(Refusing(error), plan.steps[0].operations[0])).deeds

    assert deed.doubt == doubt
