"""Taking somebody out of a group: how Graph lists memberships, and what a group takes that may hold roles."""

from __future__ import annotations

from pathlib import Path

from alerts import ANN
from m365watch.respond.desk import Came
from m365watch.respond.permissions import wishes
from m365watch.simulator.directory import groups_of
from responding_scene import ALL_ROLES, Scene, in_scene

GROUP_ID = "5d3f1c6e-0000-4c4f-9a4e-0000000000f1"
JOINED = {
    "ModifiedProperties.Group.ObjectID.new": GROUP_ID,
    "ModifiedProperties.Group.DisplayName.new": "Finance",
}
ROLE_PERMISSION = "RoleManagement.ReadWrite.Directory"


def test_memberships_are_read_from_no_index(tmp_path: Path) -> None:
    """Graph has the cast to groups in an index alone, late by minutes, and wants a header for it."""

    async def test(scene: Scene) -> None:
        scene.directory.add(groups_of(ANN), {"id": GROUP_ID, "displayName": "Finance"})
        plan = scene.plan("remove_group_member", user=ANN, fields=JOINED)

        assert [one.came for one in await scene.apply(plan)] == [Came.DONE]
        assert scene.directory.lists[groups_of(ANN)] == []
        assert not [call for call in plan.steps[0].calls if "microsoft.graph.group" in call.path]

    in_scene(tmp_path, test)


def test_a_group_that_may_hold_roles_takes_one_more_permission(tmp_path: Path) -> None:
    """`check` said that every step can be done, and this one was refused."""
    roles = [one for one in ALL_ROLES if one != ROLE_PERMISSION]

    async def test(scene: Scene) -> None:
        group = {"id": GROUP_ID, "displayName": "Finance", "isAssignableToRole": True}
        scene.directory.add(groups_of(ANN), group)
        plan = scene.plan("remove_group_member", user=ANN, fields=JOINED)
        [told] = await scene.apply(plan)

        assert told.came is Came.FAILED
        assert told.error is not None
        assert ROLE_PERMISSION in told.error.fix
        assert plan.wished == (ROLE_PERMISSION,)

    in_scene(tmp_path, test, roles=roles)
    assert [*wishes(["remove_group_member"], roles)] == [ROLE_PERMISSION]


def test_with_that_permission_it_is_left(tmp_path: Path) -> None:
    """And the membership is gone."""

    async def test(scene: Scene) -> None:
        group = {"id": GROUP_ID, "displayName": "Finance", "isAssignableToRole": True}
        scene.directory.add(groups_of(ANN), group)

        plan = scene.plan("remove_group_member", user=ANN, fields=JOINED)
        assert [one.came for one in await scene.apply(plan)] == [Came.DONE]

    in_scene(tmp_path, test)
