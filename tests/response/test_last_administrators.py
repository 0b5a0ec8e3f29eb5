"""Nobody who is the last administrator is locked out, in whichever way they are one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, make_alert, make_match
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NeedsOperator
from m365watch.response.execution.admin_lockout import why_not_leave, why_not_lock_out
from m365watch.response.execution.response_executor import Came, Desk
from m365watch.response.execution.step_actions import Document
from m365watch.response.journal import Journal
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import GraphCall
from responding_scene import ADMIN, ASSIGNMENTS, EVE, GLOBAL, Scene, in_scene, make_administrators


@guarantee(39)
@pytest.mark.parametrize("word", ["disable_account", "remove_role"])
@pytest.mark.parametrize("says", [None, True])
def test_the_last_administrator_is_not_locked_out_unawares(
    tmp_path: Path, word: str, says: bool | None
) -> None:
    """Nobody could let anyone in again; whoever knows another way in says so."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN)
        plan = scene.plan(word, user=ANN, fields=ADMIN)

        [refused] = await scene.apply(plan, says=says)
        assert refused.came is Came.REFUSED
        assert isinstance(refused.error, NeedsOperator)
        assert "no other Global Administrator is enabled" in refused.error.what
        assert "--even-last-administrator" in refused.error.fix
        assert not scene.journal.path.exists()
        assert scene.directory.users[ANN]["accountEnabled"]
        assert len(scene.directory.lists[ASSIGNMENTS]) == 1
        assert [one.came for one in await scene.apply(plan, says=says, even_last=True)] == [Came.DONE]

    in_scene(tmp_path, test)


@guarantee(39)
def test_of_the_administrators_whom_a_plan_locks_out_none_is_left(tmp_path: Path) -> None:
    """Where it names all of them, the one would be the intruder's own: somebody else has to be there."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        both = replace(make_alert("disable_account"), group=(), entities=(("user", ANN), ("user", EVE)))
        plan = replace(plan_response(both), tenant=scene.tenant)

        assert [one.came for one in await scene.apply(plan)] == [Came.REFUSED, Came.REFUSED]
        assert scene.directory.users[ANN]["accountEnabled"]
        other = {"id": "7f3d0c1e-0000-4c4f-9a4e-0000000000b1", "userPrincipalName": "bea@contoso.example"}
        scene.directory.users["bea@contoso.example"] = scene.directory.users[EVE] | other
        make_administrators(scene, ANN, EVE, "bea@contoso.example")
        assert [one.came for one in await scene.apply(plan)] == [Came.DONE, Came.DONE]

    in_scene(tmp_path, test)


def test_a_role_goes_while_somebody_else_still_signs_in(tmp_path: Path) -> None:
    """The account that an only administrator's stolen one has made loses it, whomever the plan names."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        plan = scene.plan("disable_account", "remove_role", user=EVE, actor=ANN, fields=ADMIN)
        told = await scene.apply(plan)

        assert Came.DONE in [one.came for one in told]
        assert len(scene.directory.lists[ASSIGNMENTS]) == 1
        assert scene.directory.users[ANN]["accountEnabled"]

    in_scene(tmp_path, test)


GROUP_ID = "5d3f1c6e-0000-4c4f-9a4e-0000000000f1"


def make_group(scene: Scene, *names: str, role: str = GLOBAL) -> None:
    """These are in a group, which has the role; nobody else has it."""
    make_administrators(scene)
    scene.directory.add(
        ASSIGNMENTS,
        {"principalId": GROUP_ID, "roleDefinitionId": role, "roleDefinition": {"displayName": "A role"}},
    )
    for name in names:
        groups = f"/users/{name}/memberOf"
        scene.directory.lists[groups] = [{"id": GROUP_ID, "displayName": "Root"}]


LEAVES = {
    "ModifiedProperties.Group.ObjectID.new": GROUP_ID,
    "ModifiedProperties.Group.DisplayName.new": "Root",
}


@guarantee(39)
@pytest.mark.parametrize(
    ("members", "role", "came"),
    [
        ([ANN], GLOBAL, Came.REFUSED),
        ([ANN, EVE], GLOBAL, Came.DONE),
        ([ANN], "another", Came.DONE),
    ],
    ids=["the last of the group", "another is in it", "a group with another role"],
)
def test_nobody_is_taken_out_of_the_group_as_its_last_administrator(
    tmp_path: Path, members: list[str], role: str, came: Came
) -> None:
    """Where the group has the role, it is its members' alone."""

    async def test(scene: Scene) -> None:
        make_group(scene, *members, role=role)
        plan = scene.plan("remove_group_member", user=ANN, fields=LEAVES)

        assert [one.came for one in await scene.apply(plan)] == [came]
        groups = scene.directory.lists[f"/users/{ANN}/memberOf"]
        assert len(groups) == (came is Came.REFUSED)
        if came is Came.REFUSED:
            assert [one.came for one in await scene.apply(plan, even_last=True)] == [Came.DONE]

    in_scene(tmp_path, test)


def test_who_else_is_in_the_group_has_to_sign_in(tmp_path: Path) -> None:
    """An account that is off lets nobody in; an administrator without the group does."""

    async def test(scene: Scene) -> None:
        make_group(scene, ANN, EVE)
        scene.directory.users[EVE]["accountEnabled"] = False
        plan = scene.plan("remove_group_member", user=ANN, fields=LEAVES)

        assert [one.came for one in await scene.apply(plan)] == [Came.REFUSED]
        other = {"id": "7f3d0c1e-0000-4c4f-9a4e-0000000000b1", "userPrincipalName": "bea@contoso.example"}
        scene.directory.users["bea@contoso.example"] = scene.directory.users[ANN] | other
        direct = {"principalId": other["id"], "roleDefinitionId": GLOBAL}
        scene.directory.add(ASSIGNMENTS, direct)
        assert [one.came for one in await scene.apply(plan)] == [Came.DONE]

    in_scene(tmp_path, test)


def test_the_only_member_of_the_administrators_group_is_not_disabled(tmp_path: Path) -> None:
    """The role is the group's, and Graph's list of who has it names the group alone."""

    async def test(scene: Scene) -> None:
        make_group(scene, ANN)

        assert [one.came for one in await scene.apply(scene.plan("disable_account", user=ANN))] == [
            Came.REFUSED
        ]

    in_scene(tmp_path, test)


class Stale:
    """Graph, which tells of each change later than it is made."""

    def __init__(self, *assigned: str) -> None:
        self._assigned = assigned
        self.done: list[str] = []

    async def ask(self, call: GraphCall) -> Document:
        if call.method != "GET":
            self.done.append(call.path)
        name = call.path.partition("?")[0].rpartition("/")[2].partition("%40")[0]
        return {"id": name}

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        if path.startswith("/directoryRoles"):
            return [
                {"id": one, "userPrincipalName": f"{one}@contoso.example", "accountEnabled": True}
                for one in self._assigned
            ]
        account = path.partition("%20eq%20'")[2].partition("'")[0]
        return [{"id": f"a-{account}", "principalId": account, "roleDefinitionId": GLOBAL}]


@guarantee(39)
def test_the_last_role_stays_where_graph_is_slow_to_tell(tmp_path: Path) -> None:
    """Two lose it within a second: the second is told of the first as if it were still there."""
    graph = Stale("ann", "eve")
    fields = ADMIN | {"ModifiedProperties.Role.TemplateId.new": GLOBAL}
    plans = [plan_response(make_alert("remove_role", user=name), [make_match(fields)]) for name in (ANN, EVE)]
    plan = replace(plans[0], steps=tuple(step for one in plans for step in one.steps))

    async def test() -> list[Came]:
        desk = Desk(plan, graph, Journal(tmp_path), clock=SystemClock(), by="tester", ask=None)
        return [one.came for step in plan.steps for one in await desk.carry_out(step)]

    assert asyncio.run(test()) == [Came.DONE, Came.REFUSED]
    assert len(graph.done) == 1


def test_nobody_asks_about_administrators_where_the_account_is_none(tmp_path: Path) -> None:
    """And another role than theirs goes though it is the last of its kind."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, EVE)
        scene.directory.users[EVE]["accountEnabled"] = False
        scene.directory.lists[ASSIGNMENTS].append(
            {
                "id": "own",
                "principalId": scene.directory.users[ANN]["id"],
                "roleDefinitionId": "x",
                "roleDefinition": {"displayName": "Reader"},
            }
        )
        fields = {"ModifiedProperties.Role.DisplayName.new": "Reader"}
        plan = scene.plan("remove_role", "disable_account", user=ANN, fields=fields)

        assert [one.came for one in await scene.apply(plan)] == [Came.DONE, Came.DONE]

    in_scene(tmp_path, test)


@guarantee(39)
def test_where_administrators_cannot_be_read_nobody_is_locked_out(tmp_path: Path) -> None:
    """One clear line says which permission is missing, and what to say who is sure."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", user=ANN)

        [refused] = await scene.apply(plan)
        assert refused.came is Came.REFUSED
        assert refused.error is not None
        assert "cannot be read" in refused.error.what
        assert isinstance(refused.error, NeedsOperator)
        assert "RoleManagement.Read.Directory" in refused.error.fix
        assert [one.came for one in await scene.apply(plan, even_last=True)] == [Came.DONE]

    in_scene(tmp_path, test, roles=["User.EnableDisableAccount.All", "User.Read.All"])


def test_an_administrator_through_a_group_counts_as_one_whom_nobody_knows() -> None:
    """The account may be in that group; another person by name settles it, and no program or guest does."""
    group: Document = {"@odata.type": "#microsoft.graph.group", "id": "g"}
    other: Document = {"id": "o", "userPrincipalName": EVE, "accountEnabled": True}
    program: Document = {"@odata.type": "#microsoft.graph.servicePrincipal", "accountEnabled": True}
    guest: Document = {**other, "userPrincipalName": "eve_x#EXT#@contoso.example"}
    off: Document = {**other, "accountEnabled": False}
    for members, is_let in (([group], 0), ([group, other], 1), ([group, off], 0), ([], 1)):
        assert (asyncio.run(why_not_lock_out(Administrators(members), "a")) is None) == is_let
    for one in (program, guest):
        assert asyncio.run(why_not_lock_out(Administrators([{"id": "a"}, one]), "a"))


def test_of_a_group_that_cannot_be_read_nobody_is_taken_out() -> None:
    """Nobody knows whether another of its members could still sign in."""
    group: Document = {"@odata.type": "#microsoft.graph.group", "id": "g"}

    class Closed(Administrators):
        async def list(self, path: str, *, most: int) -> Sequence[Document]:
            if path.startswith("/groups/"):
                raise NeedsOperator("HTTP 403", fix="give the permission")
            return await super().list(path, most=most)

    refused = asyncio.run(why_not_leave(Closed([group]), "a", "g"))

    assert refused is not None
    assert "nobody could let anyone in again" in refused.what


class Administrators:
    """Graph, as far as it says who they are."""

    def __init__(self, members: Sequence[Document]) -> None:
        self._members = members

    async def ask(self, call: GraphCall) -> Document:
        raise AssertionError(call)

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        assert most > 0
        return self._members if path.startswith("/directoryRoles") else []


def test_a_plan_says_that_the_last_administrator_is_left_alone() -> None:
    """Whoever pastes its PowerShell is shown how to look; the call that looks is among those of Graph."""
    for word in ("disable_account", "remove_role"):
        [step] = plan_response(make_alert(word, user=ANN), [make_match(ADMIN)]).steps

        assert any("--even-last-administrator" in note for note in step.notes)
        assert any("Get-MgDirectoryRoleMemberAsUser" in line for line in step.powershell)
        assert any(call.path.startswith("/directoryRoles") for call in step.calls)
