"""Steps carried out on a simulated Graph: its state changes, a second read proves it, undo brings it back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from alerts import ANN, APP, make_alert, make_match
from m365watch.clock import SystemClock
from m365watch.config.load import parse_settings
from m365watch.config.settings import DetectionSettings, Settings
from m365watch.errors import NeedsOperator, PermissionMissing, Unavailable
from m365watch.respond.administrators import why_not_lock_out
from m365watch.respond.carrying import Document
from m365watch.respond.desk import Came, Desk, Told
from m365watch.respond.journal import FILE_NAME, Journal
from m365watch.respond.plan import plan_response
from m365watch.respond.steps import GraphCall, Plan
from m365watch.respond.way import open_graph
from m365watch.simulator.directory import PERMISSIONS, SimulatedDirectory
from m365watch.simulator.scenario import parse_scenario
from m365watch.simulator.server import SimulationSettings, simulator_running

ALL_ROLES = sorted({role for _, _, roles in PERMISSIONS for role in roles})
RULES = "/users/ann@contoso.example/mailFolders/inbox/messageRules"
LINK = "https://contoso.example/sites/a/b.docx"


@dataclass
class Scene:
    """A simulated tenant, and the collector's settings for it."""

    directory: SimulatedDirectory
    settings: Settings
    tenant: str
    secret: str

    @property
    def journal(self) -> Journal:
        return Journal(self.settings.state_directory)

    async def apply(
        self,
        plan: Plan,
        *,
        says: bool | None = None,
        even_last: bool = False,
        own_apps: Sequence[str] = (),
        asked: list[str] | None = None,
    ) -> list[Told]:
        """Carry it out; `says` is what a person answers, None: --yes; `asked` gets the questions."""

        async def ask(question: str) -> bool:
            if asked is not None:
                asked.append(question)
            return bool(says)

        async with open_graph(self.settings, self.tenant, clock=SystemClock()) as graph:
            desk = Desk(
                plan,
                graph,
                self.journal,
                clock=SystemClock(),
                by="tester",
                ask=None if says is None else ask,
                even_last=even_last,
                own_apps=own_apps,
            )
            return [told for step in plan.steps for told in await desk.carry_out(step)]

    async def undo(self, plan: Plan) -> list[Told]:
        async with open_graph(self.settings, self.tenant, clock=SystemClock()) as graph:
            desk = Desk(plan, graph, self.journal, clock=SystemClock(), by="tester", ask=None)
            return [await desk.undo(done) for done in self.journal.to_undo(plan.alert_id)]

    def plan(self, *words: str, fields: dict[str, str] | None = None, **entities: str) -> Plan:
        alert = make_alert(*words, **entities)
        return replace(plan_response(alert, [make_match(fields)] if fields else []), tenant=self.tenant)


@asynccontextmanager
async def scene_in(folder: Path, roles: Sequence[str]) -> AsyncIterator[Scene]:
    behaviour = {"behaviour": {"graph_roles": list(roles)}}
    scenario = parse_scenario(json.dumps(behaviour), where="test")
    simulation = SimulationSettings(seed=5, days=0.1, records_per_day=10, live=False, scenario=scenario)
    async with simulator_running(simulation, clock=SystemClock()) as running:
        document: dict[str, Any] = running.configuration(outputs={"lake": {"type": "lake"}})
        tenant = running.tenants[0]
        credentials = {
            "client_id": tenant.identity.client_id,
            "client_secret": tenant.identity.client_secret,
        }
        document["detections"] = {"response": {"credentials": credentials}}
        settings = parse_settings(document, path=folder / "m365watch.json", environment={})
        settings.state_directory.mkdir(exist_ok=True)
        yield Scene(tenant.directory, settings, tenant.identity.tenant_id, tenant.identity.client_secret)


def in_scene(
    folder: Path, test: Callable[[Scene], Awaitable[None]], *, roles: Sequence[str] = ALL_ROLES
) -> None:
    """Run the test with a simulated tenant."""

    async def main() -> None:
        async with scene_in(folder, roles) as scene:
            for name in (ANN, "eve@contoso.example"):
                scene.directory.add_user(name)
            await test(scene)

    asyncio.run(main())


def test_sessions_end_and_the_account_is_disabled_and_comes_back(tmp_path: Path) -> None:
    """What can be undone is; sessions stay ended."""

    async def test(scene: Scene) -> None:
        user = scene.directory.users[ANN]
        plan = scene.plan("revoke_sessions", "disable_account", user=ANN)

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE, Came.DONE]
        assert (user["sessions"], user["accountEnabled"]) == (0, False)
        assert [told.came for told in await scene.apply(plan)] == [Came.ALREADY, Came.DONE]
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE]
        assert (user["sessions"], user["accountEnabled"]) == (0, True)
        assert await scene.undo(plan) == []

    in_scene(tmp_path, test)


def test_the_named_rule_goes_and_comes_back_as_it_was(tmp_path: Path) -> None:
    """Its neighbours stay; what is put back has the conditions and actions of before."""

    async def test(scene: Scene) -> None:
        bad = {
            "displayName": "..",
            "sequence": 1,
            "isEnabled": True,
            "conditions": {"subjectContains": ["invoice"]},
            "actions": {"delete": True},
            "hasError": False,
        }
        scene.directory.add(RULES, {"displayName": "news", "sequence": 2})
        scene.directory.add(RULES, bad)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields={"Parameters.Name": ".."})

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        assert [rule["displayName"] for rule in scene.directory.lists[RULES]] == ["news"]
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE]
        back = scene.directory.lists[RULES][-1]
        assert {name: back.get(name) for name in bad if name != "hasError"} == {
            name: value for name, value in bad.items() if name != "hasError"
        }

    in_scene(tmp_path, test)


@pytest.mark.parametrize(("says", "left"), [(None, ["a", "b"]), (False, ["a", "b"]), (True, [])])
def test_what_the_alert_does_not_name_a_person_picks(
    tmp_path: Path, says: bool | None, left: list[str]
) -> None:
    """--yes alone never removes what nobody named."""

    async def test(scene: Scene) -> None:
        for name in ("a", "b"):
            scene.directory.add(RULES, {"displayName": name, "sequence": 1})
        told = await scene.apply(scene.plan("remove_inbox_rule", user=ANN), says=says)

        assert [rule["displayName"] for rule in scene.directory.lists[RULES]] == left
        assert {one.came for one in told} <= {Came.PICK, Came.DECLINED, Came.DONE}

    in_scene(tmp_path, test)


def test_an_application_loses_its_grants_and_gets_them_back(tmp_path: Path) -> None:
    """Delegated and application permissions, and the application itself."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        principal = directory.add_principal(APP)
        own = f"/servicePrincipals(appId='{APP}')"
        grants, roles = f"{own}/oauth2PermissionGrants", f"{own}/appRoleAssignments"
        grant = {
            "clientId": principal,
            "consentType": "AllPrincipals",
            "resourceId": "r",
            "scope": "Mail.Read",
        }
        grant_id = directory.add(grants, grant)
        directory.lists["/oauth2PermissionGrants"] = directory.lists[grants]
        directory.add(roles, {"principalId": principal, "resourceId": "r", "appRoleId": "x"})
        plan = scene.plan("remove_oauth_grant", "disable_application", app=APP)

        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.DONE] * 3
        assert directory.lists["/oauth2PermissionGrants"] == []
        assert directory.lists[roles] == []
        assert directory.principals[APP]["accountEnabled"] is False
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE] * 3
        back = directory.lists["/oauth2PermissionGrants"][0]
        assert {name: back[name] for name in grant} == grant
        assert back["id"] != grant_id
        assert directory.lists[roles][0]["appRoleId"] == "x"
        assert directory.principals[APP]["accountEnabled"] is True

    in_scene(tmp_path, test)


@pytest.mark.parametrize("kind", ["Application", "ServicePrincipal"])
def test_an_application_is_found_by_the_object_that_a_record_names(tmp_path: Path, kind: str) -> None:
    """Real records have `Application_` and the object's id, which Graph refuses in the place of an appId."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        ids = {"ServicePrincipal": directory.add_principal(APP)}
        ids["Application"] = directory.add_registration(APP)
        own, registered = f"/servicePrincipals(appId='{APP}')", f"/applications(appId='{APP}')"
        directory.add(f"{own}/appRoleAssignments", {"resourceId": "r", "appRoleId": "x"})
        directory.lists[f"{own}/oauth2PermissionGrants"] = []
        directory.add(f"{registered}/passwordCredentials", {"keyId": "k1", "displayName": "mine"})
        directory.lists[f"{own}/passwordCredentials"] = []
        directory.add(f"{registered}/owners", {"userPrincipalName": ANN})
        words = ("remove_credential", "remove_owner", "remove_oauth_grant", "disable_application")
        plan = scene.plan(*words, app=f"{kind}_{ids[kind]}")

        told = await scene.apply(plan, says=True)
        assert [one.came for one in told] == [Came.DONE] * 4
        assert directory.lists[f"{registered}/passwordCredentials"] == []
        assert directory.lists[f"{registered}/owners"] == []
        assert directory.lists[f"{own}/appRoleAssignments"] == []
        assert directory.principals[APP]["accountEnabled"] is False
        assert [one.came for one in await scene.undo(plan)] == [Came.DONE] * 2
        assert directory.principals[APP]["accountEnabled"] is True
        assert directory.lists[f"{own}/appRoleAssignments"][0]["appRoleId"] == "x"

    in_scene(tmp_path, test)


def test_roles_links_secrets_owners_and_memberships_go(tmp_path: Path) -> None:
    """Each by the call that Graph has for it; of links the anonymous one alone."""

    async def test(scene: Scene) -> None:
        directory = scene.directory
        ann = directory.users[ANN]["id"]
        assignments = "/roleManagement/directory/roleAssignments"
        role = {"roleDefinition": {"displayName": "Global Administrator"}, "roleDefinitionId": "62e9"}
        directory.add(assignments, {"principalId": ann, "directoryScopeId": "/", **role})
        directory.add(assignments, {"principalId": "another", "directoryScopeId": "/", **role})
        permissions = directory.add_file(LINK)
        directory.add(permissions, {"link": {"scope": "anonymous", "type": "view"}})
        directory.add(permissions, {"link": {"scope": "organization", "type": "view"}})
        directory.add_registration(APP)
        directory.add_principal(APP)
        secrets = f"/applications(appId='{APP}')/passwordCredentials"
        directory.add(secrets, {"keyId": "k1", "displayName": "mine"})
        directory.lists[f"/servicePrincipals(appId='{APP}')/passwordCredentials"] = []
        owners = f"/applications(appId='{APP}')/owners"
        directory.add(owners, {"userPrincipalName": ANN})
        words = ("remove_role", "disable_anonymous_link", "remove_credential", "remove_owner")
        plan = scene.plan(*words, user=ANN, app=APP, fields={"ObjectId": LINK, **ADMIN})

        told = await scene.apply(plan, says=True)
        assert [one.came for one in told] == [Came.DONE] * 4
        assert ann not in [one["principalId"] for one in directory.lists[assignments]]
        assert "another" in [one["principalId"] for one in directory.lists[assignments]]
        assert [one["link"]["scope"] for one in directory.lists[permissions]] == ["organization"]
        assert directory.lists[secrets] == []
        assert directory.lists[owners] == []
        assert [one.came for one in await scene.undo(plan)] == [Came.DONE]
        assert [one["principalId"] for one in directory.lists[assignments]].count(ann) == 1

    in_scene(tmp_path, test)


GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
ASSIGNMENTS = "/roleManagement/directory/roleAssignments"


def make_administrators(scene: Scene, *names: str) -> None:
    """These hold the role that gives all others, and nobody else."""
    scene.directory.answer("GET", ASSIGNMENTS, {}, {})  # the tenant's own are there from its first answer on
    scene.directory.lists[ASSIGNMENTS] = [
        {
            "id": f"a{number}",
            "principalId": scene.directory.users[name]["id"],
            "roleDefinitionId": GLOBAL,
            "roleDefinition": {"displayName": "Global Administrator"},
        }
        for number, name in enumerate(names)
    ]


EVE = "eve@contoso.example"
ADMIN = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}


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
        groups = f"/users/{name}/memberOf/microsoft.graph.group"
        scene.directory.lists[groups] = [{"id": GROUP_ID, "displayName": "Root"}]


LEAVES = {
    "ModifiedProperties.Group.ObjectID.new": GROUP_ID,
    "ModifiedProperties.Group.DisplayName.new": "Root",
}


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
        groups = scene.directory.lists[f"/users/{ANN}/memberOf/microsoft.graph.group"]
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


def test_what_only_an_address_ties_to_it_waits_for_a_yes(tmp_path: Path) -> None:
    """--yes answers what somebody has read, and this is for a person to decide."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", user=ANN)
        near = replace(plan, steps=tuple(replace(one, asks_always=True) for one in plan.steps))

        assert [one.came for one in await scene.apply(near)] == [Came.ASKS]
        assert scene.directory.users[ANN]["accountEnabled"]
        assert [one.came for one in await scene.apply(near, says=True)] == [Came.DONE]

    in_scene(tmp_path, test)


def test_a_step_of_two_operations_tells_one_failure_once(tmp_path: Path) -> None:
    """An application that is gone is not found twice."""

    async def test(scene: Scene) -> None:
        [told] = await scene.apply(scene.plan("remove_oauth_grant", app=APP), says=True)

        assert told.came is Came.FAILED

    in_scene(tmp_path, test)


def test_what_is_taken_back_is_named_with_its_account(tmp_path: Path) -> None:
    """Four lines "undo (remove_role)" told nobody whose."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        plan, role = (
            scene.plan("remove_role", "disable_account", user=ANN, fields=ADMIN),
            "Global Administrator",
        )
        await scene.apply(plan)

        assert [told.label for told in await scene.undo(plan)] == [
            f"Remove the role {role} of {ANN}: roleDefinition.displayName {role}",
            f"Disable the account {ANN}",
        ]

    in_scene(tmp_path, test)


def test_a_no_changes_nothing(tmp_path: Path) -> None:
    """And nothing is written down."""

    async def test(scene: Scene) -> None:
        told = await scene.apply(scene.plan("revoke_sessions", user=ANN), says=False)

        assert [one.came for one in told] == [Came.DECLINED]
        assert scene.directory.users[ANN]["sessions"] == 1
        assert not scene.journal.path.exists()

    in_scene(tmp_path, test)


def test_a_missing_permission_is_one_step_s_failure_with_its_cure(tmp_path: Path) -> None:
    """The next step is done all the same; a step by hand says so."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", "revoke_sessions", "remove_forwarding", user=ANN)
        told = await scene.apply(plan)

        assert [one.came for one in told] == [Came.FAILED, Came.DONE, Came.BY_HAND]
        assert isinstance(told[0].error, PermissionMissing)
        assert "docs/respond.md" in told[0].error.fix
        assert scene.directory.users[ANN]["accountEnabled"] is True

    needed = ["RoleManagement.Read.Directory", "User.RevokeSessions.All", "User.Read.All"]
    in_scene(tmp_path, test, roles=needed)


def test_who_did_what_is_written_down_and_no_secret(tmp_path: Path) -> None:
    """The file is its owner's alone; a deed stands there before it is done, and its end after."""

    async def test(scene: Scene) -> None:
        await scene.apply(scene.plan("revoke_sessions", "disable_account", user=ANN))
        path = scene.settings.state_directory / FILE_NAME
        lines = [json.loads(line) for line in path.read_text().splitlines()]

        assert [(line["step"], line["outcome"], line["by"]) for line in lines] == [
            ("disable_account", "begun", "tester"),
            ("disable_account", "done", "tester"),
            ("revoke_sessions", "begun", "tester"),
            ("revoke_sessions", "done", "tester"),
        ]
        assert lines[0]["undo"]["body"] == {"accountEnabled": True}
        assert path.stat().st_mode & 0o077 == 0
        assert scene.secret not in path.read_text()

    in_scene(tmp_path, test)


class DeafGraph:
    """Does what it is asked, and its answer never arrives."""

    def __init__(self) -> None:
        self.changed: list[GraphCall] = []

    async def ask(self, call: GraphCall) -> Document:
        if call.method == "GET":
            return {"accountEnabled": True}
        self.changed.append(call)
        raise Unavailable("no answer")

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        assert path.startswith("/directoryRoles"), (path, most)
        return []


def test_what_may_have_been_done_can_be_taken_back_and_says_so(tmp_path: Path) -> None:
    """A lost answer is no proof that nothing happened; nor is a journal whose last line is cut."""
    plan = plan_response(make_alert("disable_account", user=ANN))
    journal, graph = Journal(tmp_path), DeafGraph()
    desk = Desk(plan, graph, journal, clock=SystemClock(), by="tester", ask=None)

    [told] = asyncio.run(desk.carry_out(plan.steps[0]))
    with journal.path.open("ab") as file:
        file.write(b'{"deed": "cut')
    [left] = journal.to_undo(plan.alert_id)
    asyncio.run(desk.carry_out(plan.steps[0]))

    assert told.came is Came.FAILED
    assert len(graph.changed) == 2
    assert not left.is_certain
    assert len(journal.to_undo(plan.alert_id)) == 2
    assert asyncio.run(desk.undo(left)).came is Came.PICK


def test_nothing_is_done_that_cannot_be_written_down(tmp_path: Path) -> None:
    """A change that nobody knows of is worse than none."""
    plan = plan_response(make_alert("disable_account", user=ANN))
    graph = DeafGraph()
    desk = Desk(plan, graph, Journal(tmp_path / "none"), clock=SystemClock(), by="t", ask=None)

    with pytest.raises(NeedsOperator):
        asyncio.run(desk.carry_out(plan.steps[0]))
    assert graph.changed == []


def test_without_an_application_it_says_what_to_give(tmp_path: Path) -> None:
    """The application that collects is never used for it."""

    async def test(scene: Scene) -> None:
        settings = replace(scene.settings, detections=DetectionSettings())
        with pytest.raises(NeedsOperator, match="no application that may respond"):
            async with open_graph(settings, scene.tenant, clock=SystemClock()):
                pass

    in_scene(tmp_path, test)


@pytest.mark.parametrize(
    "word", ["disable_account", "remove_inbox_rule", "remove_oauth_grant", "remove_role"]
)
def test_the_permissions_of_a_step_are_enough(tmp_path: Path, word: str) -> None:
    """An application with these roles alone can do it."""
    needed = plan_response(make_alert(word, user=ANN, app=APP), [make_match(ADMIN)]).permissions

    async def test(scene: Scene) -> None:
        scene.directory.add_principal(APP)
        for listed in (
            RULES,
            "/roleManagement/directory/roleAssignments",
            f"/servicePrincipals(appId='{APP}')/oauth2PermissionGrants",
            f"/servicePrincipals(appId='{APP}')/appRoleAssignments",
        ):
            scene.directory.lists[listed] = []
        told = await scene.apply(scene.plan(word, user=ANN, app=APP, fields=ADMIN), says=True)

        assert {one.came for one in told} <= {Came.DONE, Came.ALREADY, Came.MISSING}

    in_scene(tmp_path, test, roles=needed)


def test_a_rule_of_another_spelling_stays(tmp_path: Path) -> None:
    """Two rules may be called alike but for their capitals: the owner's is not the intruder's."""

    async def test(scene: Scene) -> None:
        for name in ("Newsletter", "newsletter"):
            scene.directory.add(RULES, {"displayName": name, "sequence": 1})
        plan = scene.plan("remove_inbox_rule", user=ANN, fields={"Parameters.Name": "newsletter"})

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        assert [rule["displayName"] for rule in scene.directory.lists[RULES]] == ["Newsletter"]

    in_scene(tmp_path, test)


def test_what_another_name_stands_at_is_left_alone(tmp_path: Path) -> None:
    """An address may lead to the folder above the file: its links are other people's."""

    async def test(scene: Scene) -> None:
        permissions = scene.directory.add_file(LINK)
        scene.directory.add(permissions, {"link": {"scope": "anonymous", "type": "view"}})
        scene.directory.shared[LINK]["name"] = "Documents"
        told = await scene.apply(scene.plan("disable_anonymous_link", fields={"ObjectId": LINK}))

        assert len(scene.directory.lists[permissions]) == 1
        assert [one.came for one in told] == [Came.FAILED]
        assert 'is called "Documents"' in str(told[0].error)

    in_scene(tmp_path, test)


def test_a_file_whose_name_has_a_mark_of_addresses_is_found_itself(tmp_path: Path) -> None:
    """What stands behind # is a part of its name, and not of the address of the folder above it."""

    async def test(scene: Scene) -> None:
        folder, url = "https://contoso.example/sites/a/", "https://contoso.example/sites/a/#old/50%?.docx"
        places = [scene.directory.add_file(one) for one in (folder, url)]
        for place in places:
            scene.directory.add(place, {"link": {"scope": "anonymous", "type": "view"}})
        told = await scene.apply(scene.plan("disable_anonymous_link", fields={"ObjectId": url}))

        assert [one.came for one in told] == [Came.DONE]
        assert [len(scene.directory.lists[place]) for place in places] == [1, 0]

    in_scene(tmp_path, test)
