"""Taking somebody out of a group: how Graph lists memberships, and what a group takes that may hold roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts import ANN
from m365watch.common.errors import NeedsOperator
from m365watch.response.execution.graph_permissions import wishes
from m365watch.response.execution.response_executor import Came
from m365watch_simulator.feed.refusals import Refusal
from m365watch_simulator.graph.directory import groups_of, owners_of
from plan_scene import plan
from responding_scene import ALL_ROLES, EVE, Scene, in_scene

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
        made = scene.plan("remove_group_member", user=ANN, fields=JOINED)

        assert [one.came for one in await scene.apply(made)] == [Came.DONE]
        assert scene.directory.lists[groups_of(ANN)] == []
        assert not [call for call in made.steps[0].calls if "microsoft.graph.group" in call.path]

    in_scene(tmp_path, test)


def test_what_is_called_as_the_group_and_is_none_stays(tmp_path: Path) -> None:
    """An older alert knows the name alone, and memberOf has roles and administrative units as well."""

    async def test(scene: Scene) -> None:
        for kind in ("directoryRole", "administrativeUnit"):
            one = {"@odata.type": f"#microsoft.graph.{kind}", "displayName": "Finance"}
            scene.directory.add(groups_of(ANN), one)
        named = {"ModifiedProperties.Group.DisplayName.new": "Finance"}
        made = scene.plan("remove_group_member", user=ANN, fields=named)

        assert [one.came for one in await scene.apply(made)] == [Came.MISSING]
        scene.directory.add(groups_of(ANN), {"displayName": "Finance"})
        assert [one.came for one in await scene.apply(made)] == [Came.DONE]
        assert len(scene.directory.lists[groups_of(ANN)]) == 2

    in_scene(tmp_path, test)


def test_graph_takes_nobody_out_of_a_role_as_out_of_a_group(tmp_path: Path) -> None:
    """What is none is not found below /groups."""

    async def test(scene: Scene) -> None:
        role = {"@odata.type": "#microsoft.graph.directoryRole", "displayName": "Finance"}
        made = scene.directory.add(groups_of(ANN), role)
        with pytest.raises(Refusal, match="404"):
            scene.directory.answer("DELETE", f"/groups/{made}/members/{ANN}/$ref", {}, {})

        assert len(scene.directory.lists[groups_of(ANN)]) == 1

    in_scene(tmp_path, test)


def test_a_group_that_may_hold_roles_takes_one_more_permission(tmp_path: Path) -> None:
    """`check` said that every step can be done, and this one was refused."""
    roles = [one for one in ALL_ROLES if one != ROLE_PERMISSION]

    async def test(scene: Scene) -> None:
        group = {"id": GROUP_ID, "displayName": "Finance", "isAssignableToRole": True}
        scene.directory.add(groups_of(ANN), group)
        made = scene.plan("remove_group_member", user=ANN, fields=JOINED)
        [told] = await scene.apply(made)

        assert told.came is Came.FAILED
        assert told.error is not None
        assert ROLE_PERMISSION in told.error.fix
        assert made.wished == (ROLE_PERMISSION,)

    in_scene(tmp_path, test, roles=roles)
    assert [*wishes(["remove_group_member"], roles)] == [ROLE_PERMISSION]


def test_with_that_permission_it_is_left(tmp_path: Path) -> None:
    """And the membership is gone."""

    async def test(scene: Scene) -> None:
        group = {"id": GROUP_ID, "displayName": "Finance", "isAssignableToRole": True}
        scene.directory.add(groups_of(ANN), group)

        made = scene.plan("remove_group_member", user=ANN, fields=JOINED)
        assert [one.came for one in await scene.apply(made)] == [Came.DONE]

    in_scene(tmp_path, test)


@pytest.mark.parametrize("kind", [{"mailEnabled": True}, {"onPremisesSyncEnabled": True}])
def test_what_another_place_keeps_is_left_there(tmp_path: Path, kind: dict[str, bool]) -> None:
    """Graph refuses distribution lists and synchronised groups; all that was said: it may be gone."""

    async def test(scene: Scene) -> None:
        scene.directory.add(groups_of(ANN), {"id": GROUP_ID, "displayName": "Finance"} | kind)
        made = scene.plan("remove_group_member", user=ANN, fields=JOINED)
        [told] = await scene.apply(made)

        assert told.came is Came.FAILED
        assert isinstance(told.error, NeedsOperator)
        assert "HTTP 400" in told.error.what
        assert "Exchange" in told.error.fix
        assert "Active Directory" in told.error.fix
        assert any("Remove-DistributionGroupMember" in note for note in made.steps[0].notes)
        unified = {"mailEnabled": True, "groupTypes": ["Unified"]}
        scene.directory.lists[groups_of(ANN)] = [{"id": GROUP_ID, "displayName": "Finance"} | unified]
        assert [one.came for one in await scene.apply(made)] == [Came.DONE]

    in_scene(tmp_path, test)


@pytest.mark.parametrize("fields", [JOINED, JOINED | {"Operation": "Add owner to group."}])
def test_who_may_come_in_again_at_will_is_not_among_those_who_left(fields: dict[str, str]) -> None:
    """As of a role: whoever is eligible takes the group again, and the list has nothing of it."""
    [step] = plan("remove_group_member", user=ANN, fields=fields).steps

    assert any("made eligible is not among these" in note for note in step.notes)
    assert any("Exchange" in note for note in step.notes)


def test_the_last_owner_stays_until_there_is_another(tmp_path: Path) -> None:
    """Whoever made himself the only owner stayed in, and the refusal sent people to Exchange."""

    async def test(scene: Scene) -> None:
        ann, eve = (scene.directory.users[one] for one in (ANN, EVE))
        scene.directory.lists[owners_of(GROUP_ID)] = [dict(ann)]
        made = scene.plan(
            "remove_group_member", user=ANN, fields=JOINED | {"Operation": "Add owner to group."}
        )
        [told] = await scene.apply(made)

        assert isinstance(told.error, NeedsOperator)
        assert "at least one owner" in told.error.what
        assert told.error.fix.startswith("if it is the last owner, make another one first")
        assert any("Graph lets no last owner go" in note for note in made.steps[0].notes)
        scene.directory.lists[owners_of(GROUP_ID)].append(dict(eve))
        assert [one.came for one in await scene.apply(made)] == [Came.DONE]

    in_scene(tmp_path, test)
