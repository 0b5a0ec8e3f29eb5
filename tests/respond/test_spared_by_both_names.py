"""An account that must not stop is spared by its name and by its object's id, whichever a record has."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alerts import ANN
from m365watch.cli.respond_apply import Result, apply_plan
from m365watch.config.settings import Settings
from m365watch.respond.desk import Came
from m365watch.respond.spared import ask_for_spared
from m365watch.respond.steps import Plan
from responding_scene import ADMIN, ALL_ROLES, EVE, Scene, in_scene, make_administrators

STOPPING = ("revoke_sessions", "disable_account")
GONE = "0a1b2c3d-0000-4000-8000-0000000000ff"


def sparing(scene: Scene, *accounts: str) -> Settings:
    """The settings, with these on the list."""
    return replace(
        scene.settings, detections=replace(scene.settings.detections, spared_accounts=frozenset(accounts))
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


@pytest.mark.parametrize("by", ["id", "name"])
@pytest.mark.parametrize("listed", ["id", "name"])
def test_an_account_is_spared_by_whichever_name_it_is_listed(tmp_path: Path, by: str, listed: str) -> None:
    """With the name on the list, a record that had the id alone was carried out by --yes."""

    async def test(scene: Scene) -> None:
        user = scene.directory.users[ANN]
        names = {"id": user["id"], "name": ANN.upper()}
        plan = scene.plan(*STOPPING, user=names[by])
        settings, said = sparing(scene, names[listed], EVE), list[str]()
        steps = tuple(ask_for_spared(one, settings.detections.spared_accounts) for one in plan.steps)
        results = await applied(settings, replace(plan, steps=steps), said=said)

        assert came_of(results) == [Came.ASKS, Came.ASKS]
        # What the plan that was read says is not said again.
        assert sum("one of detections.spared_accounts" in one for one in said) == 2 * (by != listed)
        assert user["accountEnabled"] is True
        assert user["sessions"] > 0

    in_scene(tmp_path, test)


def test_a_role_by_the_holders_id_is_left_too(tmp_path: Path) -> None:
    """The way in for an emergency is none without it."""

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN, EVE)
        plan = scene.plan("remove_role", user=scene.directory.users[ANN]["id"], fields=ADMIN)

        assert came_of(await applied(sparing(scene, ANN), plan)) == [Came.ASKS]

    in_scene(tmp_path, test)


def test_whoever_is_not_on_the_list_is_locked_out_by_the_id_as_before(tmp_path: Path) -> None:
    """And the mark of the plan, by which it was read, is the same."""

    async def test(scene: Scene) -> None:
        plan = scene.plan(*STOPPING, user=scene.directory.users[EVE]["id"])

        assert came_of(await applied(sparing(scene, ANN), plan)) == [Came.DONE, Came.DONE]
        assert scene.directory.users[EVE]["accountEnabled"] is False

    in_scene(tmp_path, test)


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
