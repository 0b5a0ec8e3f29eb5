"""Graph names people only to who may read them: a list without names is none in which nobody is.

Source: Microsoft Graph, "Limited information returned for inaccessible member objects".
"""

from __future__ import annotations

from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, APP
from m365watch.common.errors import NeedsOperator
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.execution.response_executor import Came, Told
from m365watch.response.plans.powershell import connections
from m365watch.response.steps.step import Plan
from m365watch_simulator.graph.directory import groups_of, owners_of
from plan_scene import plan
from responding_scene import ADMIN, ALL_ROLES, EVE, Scene, in_scene, make_administrators

READ_PEOPLE = ("User.Read.All", "Directory.Read.All")
UNREAD = [one for one in ALL_ROLES if one not in READ_PEOPLE]
GROUP = "7a1d7f60-0000-4000-8000-0000000000a1"
OF_APPLICATION = {"ModifiedProperties.User.UPN.new": EVE}
OF_GROUP = {
    "Operation": "Add owner to group.",
    "ModifiedProperties.Group.ObjectID.new": GROUP,
    "ModifiedProperties.Group.DisplayName.new": "Finance",
}
GIVEN_TO_GROUP = {"Operation": "Add member to role.", "m365.target_group": GROUP, **ADMIN}


def owning(scene: Scene, word: str) -> tuple[Plan, str]:
    """Eve owns an application, or a group, beside Ann; the list of its owners."""
    scene.directory.add_registration(APP)
    of_group = word == "remove_group_member"
    listed = owners_of(GROUP) if of_group else f"/applications(appId='{APP}')/owners"
    for name in (ANN, EVE):
        owner = {"id": scene.directory.users[name]["id"], "userPrincipalName": name, "displayName": name}
        scene.directory.add(listed, owner)
    if of_group:
        return scene.plan(word, user=EVE, fields=OF_GROUP), listed
    return scene.plan(word, app=APP, fields=OF_APPLICATION), listed


def refused_for_want_of_names(told: Told) -> bool:
    """Whether it says what is missing; that nobody is there would be a lie."""
    assert told.came in {Came.FAILED, Came.REFUSED}
    assert isinstance(told.error, NeedsOperator)
    return "may not be read" in told.error.what and "User.Read.All" in told.error.fix


@guarantee(38)
@pytest.mark.parametrize("word", ["remove_owner", "remove_group_member"])
def test_an_owner_goes_with_the_permissions_that_the_step_names(tmp_path: Path, word: str) -> None:
    """The step named too few, and the intruder stayed owner."""
    needed = plan(word, app=APP, user=EVE, fields=OF_GROUP if "group" in word else OF_APPLICATION).permissions

    async def test(scene: Scene) -> None:
        made, listed = owning(scene, word)

        assert [one.came for one in await scene.apply(made)] == [Came.DONE]
        assert [one["userPrincipalName"] for one in scene.directory.lists[listed]] == [ANN]

    in_scene(tmp_path, test, roles=needed)


@guarantee(38)
@pytest.mark.parametrize("word", ["remove_owner", "remove_group_member"])
def test_owners_that_may_not_be_read_are_not_taken_for_gone(tmp_path: Path, word: str) -> None:
    """Nothing is removed, and what is missing is said."""

    async def test(scene: Scene) -> None:
        made, listed = owning(scene, word)

        [told] = await scene.apply(made)
        assert refused_for_want_of_names(told)
        assert len(scene.directory.lists[listed]) == 2

    in_scene(tmp_path, test, roles=UNREAD)


def give_role_to_group(scene: Scene) -> Plan:
    """A group has the role beside Eve, who is enabled."""
    make_administrators(scene, EVE)
    scene.directory.lists[groups_of(ANN)] = [{"id": GROUP, "displayName": "IT"}]
    scene.directory.lists["/roleManagement/directory/roleAssignments"].append(
        {
            "id": "of the group",
            "principalId": GROUP,
            "roleDefinitionId": "62e90394-69f5-4237-9190-012177145e10",
            "roleDefinition": {"displayName": "Global Administrator"},
        }
    )
    return scene.plan("remove_role", fields=GIVEN_TO_GROUP)


@guarantee(38)
def test_a_group_loses_its_role_with_the_permissions_that_the_step_names(tmp_path: Path) -> None:
    """Whether another administrator is left, the names of accounts tell."""
    needed = plan("remove_role", fields=GIVEN_TO_GROUP).permissions

    async def test(scene: Scene) -> None:
        assert [one.came for one in await scene.apply(give_role_to_group(scene))] == [Came.DONE]

    in_scene(tmp_path, test, roles=needed)


@guarantee(39)
def test_administrators_without_names_are_not_taken_for_none(tmp_path: Path) -> None:
    """That no other is enabled was not true, and led to --even-last-administrator."""

    async def test(scene: Scene) -> None:
        [told] = await scene.apply(give_role_to_group(scene))
        assert refused_for_want_of_names(told)

    in_scene(tmp_path, test, roles=UNREAD)


@pytest.mark.parametrize(
    ("word", "fields"),
    [("remove_owner", OF_APPLICATION), ("remove_group_member", OF_GROUP), ("remove_role", GIVEN_TO_GROUP)],
)
def test_whoever_looks_in_powershell_may_read_the_names(word: str, fields: dict[str, str]) -> None:
    """Without it owners, members and administrators are shown blank."""
    made = plan(word, app=APP, user=EVE if "group" in word else "", fields=fields)

    [line] = connections(made, cloud=CLOUDS["worldwide"])
    assert "'User.Read.All'" in line or "'Directory.Read.All'" in line
