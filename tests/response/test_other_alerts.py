"""Two alerts about one thing: taking one back leaves be what the other wants gone or shut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from alerts import ANN, APP, hides, make_alert, make_match
from halting_scene import Halting, desk_of, disable
from m365watch.common.clock import SystemClock
from m365watch.detection.alerts.alert import AlertId
from m365watch.response.execution.response_executor import Came, Desk
from m365watch.response.journal import Journal
from m365watch.response.plans.planner import plan_response
from m365watch_simulator.graph.directory import GRANTS
from responding_scene import DELETES, RULES, Scene, in_scene, names

PRINCIPAL = f"/servicePrincipals(appId='{APP}')"
ANN_ID = "1b6f0c11-2222-4aaa-8bbb-0123456789ab"


@guarantee(40)
def test_what_another_alert_wants_gone_is_not_put_back(tmp_path: Path) -> None:
    """Two alerts about one rule are usual: the second finds it gone, and the first is taken back."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        other = replace(plan, alert_id=AlertId("f" * 32))

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        assert [told.came for told in await scene.apply(other)] == [Came.ALREADY]
        tomorrow_ms = int((SystemClock().now() + timedelta(days=1)).timestamp() * 1000)
        alert = replace(make_alert("remove_inbox_rule", user=ANN), first_at_ms=tomorrow_ms)
        later = plan_response(alert, [make_match(hides(".."))])
        later = replace(later, tenant=scene.tenant)
        assert [told.came for told in await scene.apply(later)] == [Came.MISSING]
        [told] = await scene.undo(plan)

        assert told.came is Came.PICK
        assert "the alert ffffffff wants it to stay so" in told.label
        assert names(scene) == []

    in_scene(tmp_path, test)


@pytest.mark.parametrize("more", [[], ["Files.Read"]])
def test_a_permission_is_not_given_back_that_another_alert_wants_gone_with_all(
    tmp_path: Path, more: list[str]
) -> None:
    """The second took what was left of them, be it none: it said "already so", and wrote nothing."""

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        scene.directory.lists[f"{PRINCIPAL}/appRoleAssignments"] = []
        of_all = {"clientId": principal, "consentType": "AllPrincipals"}
        given = scene.directory.add(GRANTS, of_all | {"scope": "Mail.Read"})
        consent = {"Operation": "Consent to application.", "m365.made_grants": given}
        alert = make_alert("remove_oauth_grant", app=APP)
        first = replace(plan_response(alert, [make_match(consent)]), tenant=scene.tenant)
        first = replace(first, steps=first.steps[:1])
        second = scene.plan("remove_oauth_grant", app=APP)
        second = replace(second, alert_id=AlertId("f" * 32))

        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        for scope in more:
            scene.directory.add(GRANTS, of_all | {"scope": scope})
        done = Came.DONE if more else Came.ALREADY
        assert [told.came for told in await scene.apply(second, says=True)] == [done]
        [told] = await scene.undo(first)

        assert told.came is Came.PICK
        assert "the alert ffffffff wants it to stay so" in told.label
        assert scene.directory.lists[GRANTS] == []

    in_scene(tmp_path, test)


def test_all_are_not_given_back_where_another_alert_wants_one_of_them_gone(tmp_path: Path) -> None:
    """It went with the others; who wants it gone by its id was told that it is missing."""

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        scene.directory.lists[f"{PRINCIPAL}/appRoleAssignments"] = []
        given = scene.directory.add(GRANTS, {"clientId": principal, "scope": "Mail.Read"})
        scene.directory.add(GRANTS, {"clientId": principal, "scope": "Files.Read"})
        consent = {"Operation": "Consent to application.", "m365.made_grants": given}
        alert = replace(make_alert("remove_oauth_grant", app=APP), id=AlertId("f" * 32))
        second = replace(plan_response(alert, [make_match(consent)]), tenant=scene.tenant)
        second = replace(second, steps=second.steps[:1])
        first = scene.plan("remove_oauth_grant", app=APP)

        assert [told.came for told in await scene.apply(first, says=True)] == [Came.DONE] * 2
        assert [told.came for told in await scene.apply(second)] == [Came.ALREADY]
        told = await scene.undo(first)

        assert sorted(one.came for one in told) == sorted([Came.DONE, Came.PICK])
        assert [one["scope"] for one in scene.directory.lists[GRANTS]] == ["Files.Read"]

    in_scene(tmp_path, test)


def test_a_thing_that_was_picked_is_not_all_of_its_list(tmp_path: Path) -> None:
    """Who picked another inbox rule wants nothing of this one."""

    async def test(scene: Scene) -> None:
        for name in ("..", "news"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        first = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        second = replace(scene.plan("remove_inbox_rule", user=ANN), alert_id=AlertId("f" * 32))

        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        assert [told.came for told in await scene.apply(second, says=True)] == [Came.DONE]
        assert [told.came for told in await scene.undo(first)] == [Came.DONE]
        assert names(scene) == [".."]

    in_scene(tmp_path, test)


@guarantee(40)
def test_what_another_alert_wants_shut_is_not_opened_unasked(tmp_path: Path) -> None:
    """The second alert found the account disabled, and had nothing to do."""
    first, second, journal, graph = disable(), disable("b" * 32), Journal(tmp_path), Halting(None)
    asyncio.run(desk_of(first, graph, journal).carry_out(first.steps[0]))
    [told] = asyncio.run(desk_of(second, graph, journal).carry_out(second.steps[0]))
    [done] = journal.to_undo(first.alert_id)
    undone = asyncio.run(desk_of(first, graph, journal).undo(done))

    assert told.came is Came.ALREADY
    assert undone.came is Came.PICK
    assert "the alert bbbbbbbb wants it to stay so" in undone.label
    assert not graph.enabled
    assert journal.list_deeds(second.alert_id) == []


@pytest.mark.parametrize("spelt", ["Ann@Contoso.Example", ANN_ID])
def test_an_account_is_the_same_however_an_alert_spells_it(tmp_path: Path, spelt: str) -> None:
    """Exchange and Entra differ in capitals, and some records have the object's id."""
    journal, graph = Journal(tmp_path), Halting(None)
    first = disable()
    second = plan_response(replace(make_alert("disable_account", user=spelt), id=AlertId("b" * 32)))
    asyncio.run(desk_of(first, graph, journal).carry_out(first.steps[0]))
    [told] = asyncio.run(desk_of(second, graph, journal).carry_out(second.steps[0]))
    [done] = journal.to_undo(first.alert_id)
    undone = asyncio.run(desk_of(first, graph, journal).undo(done))

    assert told.came is Came.ALREADY
    assert (undone.came, graph.enabled) == (Came.PICK, False)
    assert "the alert bbbbbbbb wants it to stay so" in undone.label


def test_an_application_is_the_same_by_its_id_and_by_its_object(tmp_path: Path) -> None:
    """One alert has the id that it signs in with, and the next only the object's."""
    journal, graph = Journal(tmp_path), Halting(None)
    first, second = (
        plan_response(replace(make_alert("disable_application", app=app), id=AlertId(alert * 32)))
        for alert, app in (("a", APP), ("b", f"ServicePrincipal_{ANN_ID}"))
    )
    for plan in (first, second):
        desk = Desk(plan, graph, journal, clock=SystemClock(), by="tester", ask=yes)
        asyncio.run(desk.carry_out(plan.steps[0]))
    [done] = journal.to_undo(first.alert_id)
    undone = asyncio.run(desk_of(first, graph, journal).undo(done))

    assert (undone.came, graph.enabled) == (Came.PICK, False)


async def yes(_question: str) -> bool:
    """A person who means it."""
    return True


def test_a_rule_s_mailbox_is_the_same_however_an_alert_spells_it(tmp_path: Path) -> None:
    """The second alert found the rule gone, and the first would have made it again."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        first = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        spelt = "Ann@Contoso.Example"
        alert = replace(make_alert("remove_inbox_rule", user=spelt), id=AlertId("b" * 32))
        second = plan_response(alert, [make_match(hides(".."))])
        second = replace(second, tenant=scene.tenant)

        assert [told.came for told in await scene.apply(first)] == [Came.DONE]
        assert [told.came for told in await scene.apply(second)] == [Came.ALREADY]
        [told] = await scene.undo(first)

        assert told.came is Came.PICK
        assert names(scene) == []

    in_scene(tmp_path, test)


def test_what_was_made_again_and_removed_for_another_alert_is_not_made_again(tmp_path: Path) -> None:
    """It has another id by then, and is what that alert wants gone."""

    async def test(scene: Scene) -> None:
        first = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))
        for plan in (first, replace(first, alert_id=AlertId("b" * 32))):
            scene.directory.add(RULES, {"displayName": ".."} | DELETES)
            assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        [told] = await scene.undo(first)

        assert told.came is Came.PICK
        assert names(scene) == []

    in_scene(tmp_path, test)
