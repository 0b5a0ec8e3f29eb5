"""An account that must not stop is spared by its name and by its object's id, whichever a record has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from alerts import ANN
from m365watch.cli.respond import plan_execution
from m365watch.cli.respond.plan_execution import Result, apply_plan
from m365watch.config.models.settings import Settings
from m365watch.response.execution.response_executor import Came
from m365watch.response.plans.emergency_accounts import ask_for_spared
from m365watch.response.steps.step import Plan
from m365watch_simulator.graph.directory import groups_of, owners_of
from responding_scene import ADMIN, ALL_ROLES, EVE, Scene, answering, in_scene, make_administrators

STOPPING = ("revoke_sessions", "disable_account")
GROUP = "0a1b2c3d-0000-4000-8000-00000000000a"
IN_GROUP = {
    "ModifiedProperties.Group.ObjectID.new": GROUP,
    "ModifiedProperties.Group.DisplayName.new": "Payroll",
}
OWNS = {"Operation": "Add owner to group.", **IN_GROUP}
DONE_TO: Mapping[str, Callable[[Scene, str], Plan]] = {
    "sessions": lambda scene, name: scene.plan("revoke_sessions", user=name),
    "account": lambda scene, name: scene.plan("disable_account", user=name),
    "role": lambda scene, name: scene.plan("remove_role", user=name, fields=ADMIN),
    "member": lambda scene, name: scene.plan("remove_group_member", user=name, fields=IN_GROUP),
    "owner": lambda scene, name: scene.plan("remove_group_member", user=name, fields=OWNS),
}
"""Of each word that Graph carries out, what it does to an account; a guest is disabled as any account."""
GONE = "0a1b2c3d-0000-4000-8000-0000000000ff"


def sparing(scene: Scene, *accounts: str) -> Settings:
    """The settings, with these on the list."""
    return replace(
        scene.settings,
        detections=scene.settings.detections.model_copy(update={"spared_accounts": frozenset(accounts)}),
    )


async def applied(
    settings: Settings, plan: Plan, *, numbers: Sequence[int] = (), said: list[str] | None = None
) -> list[Result]:
    """What comes of it with --yes."""
    told: list[str] = [] if said is None else said
    return await asyncio.to_thread(
        apply_plan, settings, plan, numbers=numbers, asks=False, even_last=True, say=told.append
    )


def came_of(results: Sequence[Result]) -> list[Came]:
    """Of each step."""
    return [one.told.came for one in results]


def as_planned(plan: Plan, settings: Settings) -> Plan:
    """As the printed plan has it, which asks nobody."""
    spared = settings.detections.spared_accounts
    return replace(plan, steps=tuple(ask_for_spared(one, spared) for one in plan.steps))


def state_of(scene: Scene) -> str:
    """All that Graph has."""
    return repr((scene.directory.users, scene.directory.lists))


@guarantee(39)
@pytest.mark.parametrize("planned", DONE_TO)
@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize("listed", ["id", "name"])
def test_an_account_is_spared_by_whichever_name_it_is_listed(
    tmp_path: Path, by: str, listed: str, planned: str
) -> None:
    """With the name on the list, a record that had the id alone was carried out by --yes.

    So was, last of all, a group's owner taken away, whose path has the group alone.
    """

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        scene.directory.add(groups_of(ANN), {"id": GROUP, "displayName": "Payroll"})
        scene.directory.lists[owners_of(GROUP)] = [*map(dict, scene.directory.users.values())]
        user = scene.directory.users[ANN]
        names = {"id": user["id"], "name": ANN.upper()}
        settings, said = sparing(scene, names[listed], EVE), list[str]()
        plan, before = as_planned(DONE_TO[planned](scene, names[by]), settings), state_of(scene)
        results = await applied(settings, plan, said=said)

        assert came_of(results) == [Came.ASKS]
        # What the plan that was read says is not said again.
        assert sum("one of detections.spared_accounts" in one for one in said) == (by != listed)
        assert state_of(scene) == before

    in_scene(tmp_path, test)


def test_whoever_says_yes_hears_both_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graph knew it, and whoever was asked for another reason was not told: the emergency account went."""

    async def test(scene: Scene) -> None:
        asked: list[str] = []
        monkeypatch.setattr(plan_execution, "ask_on_terminal", answering(True, asked))
        make_administrators(scene, ANN, EVE)
        words = ("see_who_signed_in", "disable_account")
        settings = sparing(scene, ANN)
        plan = as_planned(scene.plan(*words, user=scene.directory.users[ANN]["id"]), settings)
        said: list[str] = []
        await asyncio.to_thread(
            apply_plan, settings, plan, numbers=[2], asks=True, even_last=True, say=said.append
        )

        [question] = asked
        spared, tried, last = question.splitlines()
        assert spared.startswith("It is one of detections.spared_accounts")
        assert tried.startswith("Only for whose password was right")
        assert last.startswith("2. Disable the account")
        # It stands above the question, and not above that once more.
        assert [one for one in said if "spared_accounts" in one] == []

    in_scene(tmp_path, test)


def test_a_doubt_that_the_plan_has_already_is_not_added_again(tmp_path: Path) -> None:
    """By the name that the list has it is known; Graph is asked for the other one all the same."""

    async def test(scene: Scene) -> None:
        settings = sparing(scene, ANN, GONE)
        plan = as_planned(scene.plan("see_who_signed_in", *STOPPING, user=ANN), settings)
        said: list[str] = []
        await applied(settings, plan, said=said)

        assert [len(one.reasons) for one in plan.steps] == [0, 2, 2]
        assert [one for one in said if "spared_accounts" in one] == []

    in_scene(tmp_path, test)


def test_whoever_is_not_on_the_list_is_locked_out_by_the_id_as_before(tmp_path: Path) -> None:
    """And the mark of the plan, by which it was read, is the same."""

    async def test(scene: Scene) -> None:
        plan = scene.plan(*STOPPING, user=scene.directory.users[EVE]["id"])

        assert came_of(await applied(sparing(scene, ANN), plan)) == [Came.DONE, Came.DONE]
        assert scene.directory.users[EVE]["accountEnabled"] is False

    in_scene(tmp_path, test)


@guarantee(39)
def test_where_graph_does_not_tell_whose_id_it_is_a_person_is_asked(tmp_path: Path) -> None:
    """A permission is missing: nobody knows that it is not one of them."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("revoke_sessions", user=scene.directory.users[EVE]["id"])

        assert came_of(await applied(sparing(scene, ANN), plan)) == [Came.ASKS]
        assert came_of(await applied(sparing(scene), plan)) == [Came.DONE]

    in_scene(tmp_path, test, roles=[one for one in ALL_ROLES if one == "User.RevokeSessions.All"])


def test_an_account_that_is_gone_fails_as_before(tmp_path: Path) -> None:
    """There is nobody to spare."""

    async def test(scene: Scene) -> None:
        plan = scene.plan("disable_account", user=GONE)

        assert came_of(await applied(sparing(scene, ANN), plan)) == [Came.FAILED]

    in_scene(tmp_path, test)


def test_each_account_is_asked_about_once_and_only_for_steps_that_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at all where the list has none that could be it by another name."""

    async def test(scene: Scene) -> None:
        asked: list[str] = []
        answer = scene.directory.answer

        def told(method: str, path: str, query: Mapping[str, str], body: dict[str, Any]) -> Any:
            if "userPrincipalName" in query.get("$select", ""):
                asked.append(path)
            return answer(method, path, query, body)

        monkeypatch.setattr(scene.directory, "answer", told)
        ann, eve = (scene.directory.users[one]["id"] for one in (ANN, EVE))
        plan = scene.plan(*STOPPING, user=ann)
        other = scene.plan("revoke_sessions", user=eve)
        both = replace(plan, steps=(*plan.steps, *other.steps))

        await applied(sparing(scene, GONE), both)
        assert asked == []
        await applied(sparing(scene, ANN), both, numbers=[1, 2])
        assert asked == [f"/users/{ann}"]

    in_scene(tmp_path, test)
