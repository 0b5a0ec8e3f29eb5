"""Two collectors of one tenant, each with its state directory, know nothing of each other's responses.

What Graph says right before each deed is what keeps the second from doing it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from alerts import ANN, APP, hides
from m365watch.common.clock import SystemClock
from m365watch.common.errors import NothingThere
from m365watch.response.execution.graph_client import open_graph
from m365watch.response.execution.response_executor import Came, Desk, Told
from m365watch.response.journal import Journal
from m365watch.response.steps.step import Plan
from m365watch_simulator.feed.refusals import Refusal, graph_refusal
from responding_scene import ADMIN, DELETES, EVE, RULES, Scene, answering, in_scene, make_administrators

GRANTS_OF_APP = f"/servicePrincipals(appId='{APP}')/appRoleAssignments"


def rule_of_ann(scene: Scene) -> Plan:
    """A rule that hides mail, and the plan for it."""
    scene.directory.add(RULES, {"displayName": "..", **DELETES})
    return scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))


def account_of_ann(scene: Scene) -> Plan:
    """The plan that disables an account."""
    return scene.plan("disable_account", user=ANN)


def application(scene: Scene) -> Plan:
    """The plan that disables an application."""
    scene.directory.add_principal(APP)
    return scene.plan("disable_application", app=APP)


def grant(scene: Scene) -> Plan:
    """An application's permission, and the plan for it."""
    principal = scene.directory.add_principal(APP)
    scene.directory.lists[f"/servicePrincipals(appId='{APP}')/oauth2PermissionGrants"] = []
    scene.directory.add(GRANTS_OF_APP, {"principalId": principal, "resourceId": "r", "appRoleId": "x"})
    return scene.plan("remove_oauth_grant", app=APP)


def role(scene: Scene) -> Plan:
    """An administrator besides another one, and the plan for the role."""
    make_administrators(scene, ANN, EVE)
    return scene.plan("remove_role", user=ANN, fields=ADMIN)


def folder_in(place: Path) -> Path:
    """Another state directory."""
    folder = place / "other"
    folder.mkdir()
    return folder


async def apply_beside(scene: Scene, plan: Plan, folder: Path) -> list[Told]:
    """Carry the plan out with another state directory; while it asks, somebody here carries it out."""
    asked: list[str] = []

    async def ask(question: str) -> bool:
        if not asked:
            assert {one.came for one in await scene.apply(plan, says=True)} == {Came.DONE}
        asked.append(question)
        return True

    async with open_graph(scene.settings, scene.tenant, clock=SystemClock()) as graph:
        desk = Desk(plan, graph, Journal(folder), clock=SystemClock(), by="other", ask=ask)
        return [told for step in plan.steps for told in await desk.carry_out(step)]


@pytest.mark.parametrize("planned", [account_of_ann, application, rule_of_ann, grant, role])
def test_what_the_other_did_while_it_was_asked_is_so_already(
    tmp_path: Path, planned: Callable[[Scene], Plan]
) -> None:
    """It was done twice, or failed; and the second's --undo took back what only the first had done."""

    async def test(scene: Scene) -> None:
        plan, other = planned(scene), folder_in(tmp_path)
        told = await apply_beside(scene, plan, other)

        assert [one.came for one in told] == [Came.ALREADY]
        assert Journal(other).to_undo(plan.alert_id) == []
        found = Journal(other).list_found(plan.alert_id)
        assert {line.outcome for lines in found for line in lines} == {"found"}
        assert {one.came for one in await scene.undo(plan)} == {Came.DONE}

    in_scene(tmp_path, test)


@pytest.mark.parametrize("planned", [account_of_ann, application, rule_of_ann, grant, role])
def test_what_was_so_already_is_not_told_as_failed(tmp_path: Path, planned: Callable[[Scene], Plan]) -> None:
    """The console said "already so", and the journal's last word was "failed ... 404", or there was none."""

    async def test(scene: Scene) -> None:
        plan, other = planned(scene), folder_in(tmp_path)
        [told] = await apply_beside(scene, plan, other)

        [line] = Journal(other).list_deeds(plan.alert_id)
        assert (line.outcome, line.label, line.error) == (told.came, told.label, "")

    in_scene(tmp_path, test)


def test_what_is_its_own_end_may_be_done_twice(tmp_path: Path) -> None:
    """Sessions that are ended twice are ended."""

    async def test(scene: Scene) -> None:
        told = await apply_beside(scene, scene.plan("revoke_sessions", user=ANN), folder_in(tmp_path))

        assert [one.came for one in told] == [Came.DONE]
        assert scene.directory.users[ANN]["sessions"] == 0

    in_scene(tmp_path, test)


@pytest.mark.parametrize("status", [400, 404])
def test_a_secret_that_the_other_removed_is_so_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """It was told as failed, for it goes by a POST; with which status Graph says so is not known."""

    async def test(scene: Scene) -> None:
        scene.directory.add_registration(APP)
        scene.directory.add_principal(APP)
        scene.directory.lists[f"/servicePrincipals(appId='{APP}')/passwordCredentials"] = []
        secrets = f"/applications(appId='{APP}')/passwordCredentials"
        scene.directory.add(secrets, {"keyId": "k1", "displayName": "mine"})
        refuse_removals(scene, monkeypatch, status)
        plan, other = scene.plan("remove_credential", app=APP), folder_in(tmp_path)
        told = await apply_beside(scene, plan, other)

        assert [one.came for one in told] == [Came.ALREADY]
        assert scene.directory.lists[secrets] == []
        assert Journal(other).to_undo(plan.alert_id) == []

    in_scene(tmp_path, test)


def refuse_removals(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int, *, always: bool = False
) -> None:
    """Graph says that status to whatever would remove a thing that it has not, or any thing at all."""
    answer = scene.directory.answer

    def told(method: str, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Any:
        removes = method == "DELETE" or path.endswith("/removePassword")
        refusal = graph_refusal(status, "itemNotFound", "The resource could not be found.")
        if removes and always:
            raise refusal
        try:
            return answer(method, path, query, body)
        except Refusal as refused:
            raise (refusal if removes else refused) from None

    monkeypatch.setattr(scene.directory, "answer", told)


@pytest.mark.parametrize("planned", [rule_of_ann, grant, role])
def test_what_graph_does_not_find_and_lists_all_the_same_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: Callable[[Scene], Plan]
) -> None:
    """A late replica knew nothing of the rule: it was told as "already so", and stayed."""

    async def test(scene: Scene) -> None:
        plan = planned(scene)
        refuse_removals(scene, monkeypatch, 404, always=True)
        [told] = await scene.apply(plan, says=True)
        [line] = scene.journal.list_deeds(plan.alert_id)

        assert (told.came, line.outcome) == (Came.FAILED, "failed")
        assert "404" in line.error
        assert isinstance(told.error, NothingThere)
        assert told.error.fix.startswith("it was listed: do the step again in some minutes")
        monkeypatch.undo()
        assert [one.came for one in await scene.apply(plan, says=True)] == [Came.DONE]

    in_scene(tmp_path, test)


@pytest.mark.parametrize("planned", [rule_of_ann, grant, role])
def test_what_was_seen_to_be_gone_is_so_the_next_time_as_well(
    tmp_path: Path, planned: Callable[[Scene], Plan]
) -> None:
    """The next run said that nothing of that name is there, with exit code 1."""

    async def test(scene: Scene) -> None:
        plan, other = planned(scene), folder_in(tmp_path)
        await apply_beside(scene, plan, other)
        async with open_graph(scene.settings, scene.tenant, clock=SystemClock()) as graph:
            ask = answering(True, None)
            desk = Desk(plan, graph, Journal(other), clock=SystemClock(), by="other", ask=ask)
            told = [one for step in plan.steps for one in await desk.carry_out(step)]

        assert [one.came for one in told] == [Came.ALREADY]
        assert Journal(other).to_undo(plan.alert_id) == []

    in_scene(tmp_path, test)
