"""Which of the things that are there goes: the record's own, or what a person picks; no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, APP, hides
from detected import plan_from
from m365watch.response.execution.response_executor import Came
from m365watch_simulator.graph.directory import GRANTS
from responding_scene import DELETES, EVE, LINK, RULES, Scene, in_scene, names

MICROSOFT = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
PRINCIPAL = f"/servicePrincipals(appId='{APP}')"


def test_of_two_inbox_rules_of_one_name_a_person_picks(tmp_path: Path) -> None:
    """An intruder may call his as the owner's is called; what each does is said."""

    async def test(scene: Scene) -> None:
        for folder in ("Newsletters", "RSS Feeds"):
            actions = {"delete": True, "moveToFolder": folder}
            scene.directory.add(RULES, {"displayName": "news", "actions": actions})
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides("news"))

        told = await scene.apply(plan)

        assert [one.came for one in told] == [Came.PICK] * 2
        assert ["RSS Feeds" in one.label for one in told] == [False, True]
        assert names(scene) == ["news", "news"]

    in_scene(tmp_path, test)


def test_both_links_go_where_the_alert_has_made_one_of_each_kind(tmp_path: Path) -> None:
    """Whoever made two would be safe from --yes; the record tells which of them is whose."""

    async def test(scene: Scene) -> None:
        made = {"shape": "file", "Operation": "AnonymousLinkCreated", "ObjectId": LINK}
        records = [
            made | {"after": f"{number}m", "EventData": f"<Type>{kind}</Type>"}
            for number, kind in enumerate(("Edit", "View"))
        ]
        permissions = scene.directory.add_file(LINK)
        for kind in ("edit", "view"):
            scene.directory.add(permissions, {"link": {"scope": "anonymous", "type": kind}})
        plan = plan_from(tmp_path / "detected", "s01_anonymous_link", *records)
        told = await scene.apply(replace(plan, tenant=scene.tenant))

        assert [one.came for one in told].count(Came.DONE) == 2
        assert scene.directory.lists[permissions] == []

    (tmp_path / "detected").mkdir()
    in_scene(tmp_path, test)


def test_what_somebody_else_removed_is_told_with_what_is_there(tmp_path: Path) -> None:
    """It may be called otherwise by now; nobody is asked whether it is this one."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": "News"} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides("news"))
        [told] = await scene.apply(plan, says=True)

        assert (told.came, told.label) == (Came.MISSING, "there is: displayName News, actions.delete True")
        assert names(scene) == ["News"]

    in_scene(tmp_path, test)


def test_of_two_groups_of_one_name_a_person_picks(tmp_path: Path) -> None:
    """An older alert knows no more than the name."""

    async def test(scene: Scene) -> None:
        groups = f"/users/{ANN}/memberOf"
        for _ in range(2):
            scene.directory.add(groups, {"displayName": "Finance"})
        scene.directory.add(groups, {"displayName": "Lunch"})
        group = {"ModifiedProperties.Group.DisplayName.new": "Finance"}
        plan = scene.plan("remove_group_member", user=ANN, fields=group)

        assert [told.came for told in await scene.apply(plan)] == [Came.PICK] * 2
        assert len(scene.directory.lists[groups]) == 3

    in_scene(tmp_path, test)


@guarantee(39)
@pytest.mark.parametrize("word", ["disable_application", "remove_oauth_grant"])
def test_what_the_tenant_knows_as_microsoft_s_is_left_alone(tmp_path: Path, word: str) -> None:
    """Not every id of theirs is known beforehand: a service principal says whose it is."""

    async def test(scene: Scene) -> None:
        scene.directory.add_principal(APP)
        scene.directory.principals[APP]["appOwnerOrganizationId"] = MICROSOFT
        told = await scene.apply(scene.plan(word, user=ANN, app=APP), says=True)

        assert Came.REFUSED in {one.came for one in told}
        assert Came.DONE not in {one.came for one in told}
        assert scene.directory.principals[APP]["accountEnabled"] is True
        assert not scene.journal.path.exists()

    in_scene(tmp_path, test)


@guarantee(39)
def test_one_s_own_application_is_left_alone_whatever_id_names_it(tmp_path: Path) -> None:
    """A record may name the object, and the plan then cannot know."""

    async def test(scene: Scene) -> None:
        object_id = scene.directory.add_principal(APP)
        plan = scene.plan("disable_application", app=f"ServicePrincipal_{object_id}")
        [told] = await scene.apply(plan, own_apps=[APP], says=True)

        assert told.came is Came.REFUSED
        assert scene.directory.principals[APP]["accountEnabled"] is True

    in_scene(tmp_path, test)


def test_the_question_says_what_is_there(tmp_path: Path) -> None:
    """An id alone tells nobody what a yes would stop."""

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        scene.directory.principals[APP]["displayName"] = "Shift Planner"
        scene.directory.lists[f"{PRINCIPAL}/appRoleAssignments"] = []
        for scope in ("Mail.Read", "Files.Read"):
            scene.directory.add(GRANTS, {"clientId": principal, "scope": scope})
        asked: list[str] = []
        await scene.apply(scene.plan("remove_oauth_grant", app=APP), says=False, asked=asked)

        assert [one.partition(" (")[2] for one in asked] == [
            '"Shift Planner"; 2 in all: scope Mail.Read; scope Files.Read)?'
        ]

    in_scene(tmp_path, test)


def test_what_one_person_let_in_stays_for_the_others(tmp_path: Path) -> None:
    """Of the grants of an application that person's alone go."""

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        ids = {name: str(scene.directory.users[name]["id"]) for name in (ANN, EVE)}
        for name in (ANN, EVE):
            grant = {"clientId": principal, "consentType": "Principal", "principalId": ids[name]}
            scene.directory.add(GRANTS, grant)
        told = await scene.apply(scene.plan("remove_user_consent", user=ANN, app=APP))

        assert [one.came for one in told] == [Came.DONE]
        assert [one["principalId"] for one in scene.directory.lists[GRANTS]] == [ids[EVE]]

    in_scene(tmp_path, test)
