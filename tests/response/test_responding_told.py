"""What waits for a yes, what a failure is told as, and what stays because it is another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, APP, hides, make_alert, make_match
from halting_scene import lines_in
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NeedsOperator, PermissionMissing, Unavailable
from m365watch.config.models.detections import DetectionsSection
from m365watch.response.execution.graph_client import open_graph
from m365watch.response.execution.response_executor import Came, Desk
from m365watch.response.execution.step_actions import Document
from m365watch.response.journal import FILE_NAME, Journal
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import LEAVES, GraphCall
from responding_scene import ADMIN, DELETES, EVE, LINK, RULES, Scene, in_scene, make_administrators


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

        assert [told.label.partition(";")[0] for told in await scene.undo(plan)] == [
            f"Remove the role {role} of {ANN}: roleDefinition.displayName {role}",
            f"Disable the account {ANN}",
        ]

    in_scene(tmp_path, test)


@guarantee(39)
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


@guarantee(40)
def test_who_did_what_is_written_down_and_no_secret(tmp_path: Path) -> None:
    """The file is its owner's alone; a deed stands there before it is done, and its end after."""

    async def test(scene: Scene) -> None:
        await scene.apply(scene.plan("revoke_sessions", "disable_account", user=ANN))
        path = scene.settings.state_directory / FILE_NAME
        lines = lines_in(path.parent)

        assert [(line["step"], line["outcome"], line["by"]) for line in lines] == [
            ("disable_account", "begun", "tester"),
            ("disable_account", "done", "tester"),
            ("revoke_sessions", "begun", "tester"),
            ("revoke_sessions", "done", "tester"),
        ]
        assert lines[0]["undo"]["body"] == {"accountEnabled": True}
        assert path.stat().st_mode & 0o077 == 0
        assert scene.secret.encode() not in path.read_bytes()

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


@guarantee(40)
def test_what_may_have_been_done_can_be_taken_back_and_says_so(tmp_path: Path) -> None:
    """A lost answer is no proof that nothing happened."""
    plan = plan_response(make_alert("disable_account", user=ANN))
    journal, graph = Journal(tmp_path), DeafGraph()
    desk = Desk(plan, graph, journal, clock=SystemClock(), by="tester", ask=None)

    [told] = asyncio.run(desk.carry_out(plan.steps[0]))
    [left] = journal.to_undo(plan.alert_id)
    asyncio.run(desk.carry_out(plan.steps[0]))

    assert told.came is Came.FAILED
    assert len(graph.changed) == 2
    assert not left.is_certain
    assert len(journal.to_undo(plan.alert_id)) == 2
    assert asyncio.run(desk.undo(left)).came is Came.PICK


@guarantee(40)
def test_nothing_is_done_that_cannot_be_written_down(tmp_path: Path) -> None:
    """A change that nobody knows of is worse than none."""
    plan = plan_response(make_alert("disable_account", user=ANN))
    graph = DeafGraph()
    (tmp_path / "file").write_text("no folder")
    desk = Desk(plan, graph, Journal(tmp_path / "file"), clock=SystemClock(), by="t", ask=None)

    [told] = asyncio.run(desk.carry_out(plan.steps[0]))
    assert (told.came, told.ends) == (Came.FAILED, True)
    assert graph.changed == []


@guarantee(39)
def test_without_an_application_it_says_what_to_give(tmp_path: Path) -> None:
    """The application that collects is never used for it."""

    async def test(scene: Scene) -> None:
        settings = replace(scene.settings, detections=DetectionsSection())
        with pytest.raises(NeedsOperator, match="no application that may respond"):
            async with open_graph(settings, scene.tenant, clock=SystemClock()):
                pass

    in_scene(tmp_path, test)


@guarantee(38)
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

        assert {one.came for one in told} <= {Came.DONE, Came.ALREADY, Came.MISSING, Came.UNSEEN}

    in_scene(tmp_path, test, roles=needed)


def test_a_rule_of_another_spelling_stays(tmp_path: Path) -> None:
    """Two rules may be called alike but for their capitals: the owner's is not the intruder's."""

    async def test(scene: Scene) -> None:
        for name in ("Newsletter", "newsletter"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides("newsletter"))

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


@pytest.mark.parametrize("word", ["remove_inbox_rule", "remove_credential"])
def test_an_empty_list_of_what_has_no_name_is_looked_at_by_hand(tmp_path: Path, word: str) -> None:
    """Graph lists no hidden rules here, and no certificates: "already so" left them in."""

    async def test(scene: Scene) -> None:
        scene.directory.add_registration(APP)
        scene.directory.add_principal(APP)
        scene.directory.lists[RULES] = []
        for path in (f"/applications(appId='{APP}')", f"/servicePrincipals(appId='{APP}')"):
            scene.directory.lists[f"{path}/passwordCredentials"] = []
        [told] = await scene.apply(scene.plan(word, user=ANN, app=APP))

        assert told.came is Came.UNSEEN

    in_scene(tmp_path, test)


def test_why_only_a_person_may_say_yes_stands_above_the_question(tmp_path: Path) -> None:
    """Nobody who carries a plan out has it before them: a yes by habit did what --yes may not."""

    async def test(scene: Scene) -> None:
        scene.directory.add_principal(APP)
        plan = scene.plan("disable_application", app=APP, fields={"Operation": "Consent to application."})
        [step] = plan.steps
        told = replace(
            step, notes=(f"It stops\nfor all. {LEAVES}",), asks_always=True, title=f"{step.title}\r"
        )
        asked: list[str] = []
        await scene.apply(replace(plan, steps=(told,)), says=False, asked=asked)

        assert asked == [f"It stops for all. {LEAVES}\n1. Disable the application {APP} ?"]

    in_scene(tmp_path, test)
