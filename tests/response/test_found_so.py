"""What was so already: it is wanted by whoever said yes to it, until they take it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_line

from alerts import ANN, APP, hides, make_alert, make_match
from m365watch.common.clock import SystemClock
from m365watch.detection.alerts.alert import AlertId
from m365watch.response.execution.response_executor import Came
from m365watch.response.plans.planner import plan_response
from m365watch.response.steps.step import Plan
from m365watch_simulator.graph.directory import GRANTS, PERMISSIONS
from responding_scene import ALL_ROLES, DELETES, RULES, Scene, in_scene

ROLES = f"/servicePrincipals(appId='{APP}')/appRoleAssignments"
OTHER = AlertId("f" * 32)


def all_and_one(scene: Scene) -> tuple[Plan, Plan]:
    """Of an application that has one grant and one role: what takes the grant, and what takes everything."""
    principal = scene.directory.add_principal(APP)
    scene.directory.add(ROLES, {"appRoleId": "r1", "principalId": principal, "resourceId": "s1"})
    grant = {"clientId": principal, "consentType": "AllPrincipals", "scope": "Mail.Read"}
    consent = {
        "Operation": "Consent to application.",
        "m365.made_grants": scene.directory.add(GRANTS, grant),
    }
    one = plan_response(make_alert("remove_oauth_grant", app=APP), [make_match(consent)])
    every = scene.plan("remove_oauth_grant", app=APP)
    return replace(one, tenant=scene.tenant, steps=one.steps[:1]), replace(every, alert_id=OTHER)


def test_what_a_person_declined_is_wanted_by_nobody(tmp_path: Path) -> None:
    """It stood as found before the person was asked, so that the other alert could not take it back."""

    async def test(scene: Scene) -> None:
        one, every = all_and_one(scene)
        assert [told.came for told in await scene.apply(one)] == [Came.DONE]
        assert [told.came for told in await scene.apply(every, says=False)] == [Came.DECLINED]

        assert [told.came for told in await scene.undo(one)] == [Came.DONE]
        assert [grant["scope"] for grant in scene.directory.lists[GRANTS]] == ["Mail.Read"]

    in_scene(tmp_path, test)


def test_what_was_so_is_let_go_with_what_was_done(tmp_path: Path) -> None:
    """The second alert was taken back, and still kept the first one from it."""

    async def test(scene: Scene) -> None:
        one, every = all_and_one(scene)
        assert [told.came for told in await scene.apply(one)] == [Came.DONE]
        assert [told.came for told in await scene.apply(every, says=True)] == [Came.DONE]
        assert [told.came for told in await scene.undo(one)] == [Came.PICK]

        assert [told.came for told in await scene.undo(every)] == [Came.DONE]
        assert await scene.undo(every) == []
        assert [told.came for told in await scene.undo(one)] == [Came.DONE]
        assert scene.journal.list_deeds(OTHER)[-1].outcome == "undone"

    in_scene(tmp_path, test)


def test_what_was_so_and_nothing_else_is_let_go_as_well(tmp_path: Path) -> None:
    """The alert has done nothing that could be taken back, and wants something all the same."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        first = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        second = replace(first, alert_id=OTHER)
        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        assert [told.came for told in await scene.apply(second)] == [Came.ALREADY]

        [told] = await scene.undo(second)
        assert (told.came, told.label) == (Came.LET_GO, f'Remove the inbox rule ".." of {ANN}')
        assert scene.journal.list_deeds(OTHER) == []
        assert [told.came for told in await scene.undo(first)] == [Came.DONE]

    in_scene(tmp_path, test)


def test_nobody_is_asked_about_what_nobody_could_take_back(tmp_path: Path) -> None:
    """A person has disabled the account by hand: there is nothing to let go for."""

    async def test(scene: Scene) -> None:
        scene.directory.users[ANN]["accountEnabled"] = False
        plan = scene.plan("disable_account", user=ANN)
        assert [told.came for told in await scene.apply(plan)] == [Came.ALREADY]
        [found] = scene.journal.list_found(plan.alert_id)

        assert await scene.undo(plan) == []
        assert scene.journal.list_found(plan.alert_id) == []
        assert [line.title for line in found] == [f"Disable the account {ANN}"]

    in_scene(tmp_path, test)


def test_who_made_two_of_one_name_is_told_to_have_one_more(tmp_path: Path) -> None:
    """It may be called otherwise by now: "done" alone would say that nothing is left."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        made = {"Operation": "New-InboxRule"} | hides("..")
        alert = make_alert("remove_inbox_rule", user=ANN)
        plan = plan_response(alert, [make_match(made), make_match(made, after_ms=1)])
        plan = replace(plan, tenant=scene.tenant)

        assert [one.came for one in await scene.apply(plan)] == [Came.ASKS]
        told = await scene.apply(plan, says=True)
        assert [one.came for one in told] == [Came.MISSING, Came.DONE]
        assert told[0].label == "1 more that the records tell of"
        assert [one.came for one in await scene.apply(plan, says=True)] == [Came.ALREADY]

    in_scene(tmp_path, test)


def test_one_of_two_that_another_alert_took_is_wanted_gone_as_well(tmp_path: Path) -> None:
    """The second alert knows both, and finds the one that was made after the first went: none is missing."""

    async def test(scene: Scene) -> None:
        made = {"Operation": "New-InboxRule"} | hides("..")
        alert = make_alert("remove_inbox_rule", user=ANN)
        records = [make_match(made, after_ms=number) for number in range(2)]
        first = replace(plan_response(alert, records[:1]), tenant=scene.tenant)
        second = replace(plan_response(replace(alert, id=OTHER), records), tenant=scene.tenant)
        later = SystemClock().now() + timedelta(hours=1)
        second = replace(second, steps=tuple(replace(one, since=later) for one in second.steps))

        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        assert [told.came for told in await scene.apply(second, says=True)] == [Came.DONE]
        [told] = await scene.undo(first)
        assert told.came is Came.PICK

    in_scene(tmp_path, test)


def test_one_that_was_done_and_seen_to_be_gone_is_one_of_three(tmp_path: Path) -> None:
    """A late replica listed it once more: counted twice, it stood for another one that is still there."""

    async def test(scene: Scene) -> None:
        made = {"Operation": "New-InboxRule"} | hides("..")
        alert = make_alert("remove_inbox_rule", user=ANN)
        records = [make_match(made, after_ms=number) for number in range(3)]
        first = replace(plan_response(alert, records[:1]), tenant=scene.tenant)
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        await scene.apply(first)
        [done] = scene.journal.to_undo(first.alert_id)
        for outcome in ("begun", "already so"):
            scene.journal.write(replace_line(done.line, deed="again", alert=OTHER, outcome=outcome))

        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        every = replace(plan_response(replace(alert, id=OTHER), records), tenant=scene.tenant)
        told = await scene.apply(every, says=True)
        assert [one.came for one in told] == [Came.MISSING, Came.DONE]

    in_scene(tmp_path, test)


READERS = frozenset({"User.Read.All", "Directory.Read.All"})
"""Of which one is needed to read an account."""


@pytest.mark.parametrize(
    ("roles", "came"),
    [
        (ALL_ROLES, [Came.ALREADY]),
        ([one for one in ALL_ROLES if one not in READERS], [Came.MISSING]),
    ],
    ids=["the account may be read", "it may not"],
)
def test_a_mailbox_is_one_by_its_address_and_by_its_id(
    tmp_path: Path, roles: list[str], came: list[Came]
) -> None:
    """One alert has the address, the next the object's id; where nobody may tell, they stay two."""
    assert any(READERS & one for _, _, one in PERMISSIONS)

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        first = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        by_id = make_alert("remove_inbox_rule", user=str(scene.directory.users[ANN]["id"]))
        second = plan_response(replace(by_id, id=OTHER), [make_match(hides(".."))])
        second = replace(second, tenant=scene.tenant)

        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        assert [told.came for told in await scene.apply(second)] == came
        [told, *_] = await scene.undo(first)
        assert told.came is (Came.PICK if came == [Came.ALREADY] else Came.DONE)

    in_scene(tmp_path, test, roles=roles)
