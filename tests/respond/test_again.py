"""A response that is repeated, refused or taken back: nothing is done twice, and nothing else instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from multidict import CIMultiDict

from alerts import ANN, APP, AT_MS, hides, make_alert, make_match
from detected import plan_from
from m365watch.clock import SystemClock
from m365watch.detect.alert import AlertId
from m365watch.entra.session import Answer, Session
from m365watch.errors import CollectorError, Throttled, Unavailable
from m365watch.respond.carrying import Document
from m365watch.respond.desk import Came, Desk
from m365watch.respond.graph import GraphClient
from m365watch.respond.journal import FILE_NAME, Journal
from m365watch.respond.plan import plan_response
from m365watch.respond.steps import GraphCall, Plan
from m365watch.simulator.directory import GRANTS
from m365watch.testing.clock import FakeClock
from responding_scene import DELETES, LINK, RULES, Scene, in_scene

MICROSOFT = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
PRINCIPAL = f"/servicePrincipals(appId='{APP}')"
EVE = "eve@contoso.example"
ANN_ID = "1b6f0c11-2222-4aaa-8bbb-0123456789ab"


def names(scene: Scene) -> list[str]:
    """What the inbox rules of Ann are called."""
    return [rule["displayName"] for rule in scene.directory.lists[RULES]]


def test_what_is_gone_is_not_looked_for_among_the_others(tmp_path: Path) -> None:
    """The second go offered the owner's own rules, one by one."""

    async def test(scene: Scene) -> None:
        for name in ("..", "news", "bills"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=hides(".."))

        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.DONE]
        assert [told.came for told in await scene.apply(plan, says=True)] == [Came.ALREADY]
        assert names(scene) == ["news", "bills"]

    in_scene(tmp_path, test)


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


@pytest.mark.parametrize("made_again", [{}, {"Parameters.MarkAsRead": "True"}])
def test_what_came_back_since_and_is_called_otherwise_is_not_done(
    tmp_path: Path, made_again: dict[str, str]
) -> None:
    """The alert has a record of later than what was done: the rule lives, and its name may be another."""

    async def test(scene: Scene) -> None:
        scene.directory.add(RULES, {"displayName": ".."} | DELETES)
        fields = hides("..")
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=fields)
        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]

        scene.directory.add(RULES, {"displayName": "Invoices"} | DELETES)
        tomorrow_ms = int((SystemClock().now() + timedelta(days=1)).timestamp() * 1000)
        alert = replace(make_alert("remove_inbox_rule", user=ANN), last_at_ms=tomorrow_ms)
        after = make_match(fields | made_again, after_ms=tomorrow_ms - AT_MS)
        later = plan_response(alert, [make_match(fields), after])
        told = await scene.apply(replace(later, tenant=scene.tenant))

        assert {one.came for one in told} == {Came.MISSING}
        assert all("there is: displayName Invoices" in one.label for one in told)

    in_scene(tmp_path, test)


def test_what_was_done_stays_done_whatever_else_came_since(tmp_path: Path) -> None:
    """Only a record of that very rule says that it was there again."""

    async def test(scene: Scene) -> None:
        made = {"Operation": "New-InboxRule"}
        first, second = (made | hides(name) for name in ("..", "Invoices"))
        for name in ("..", "Invoices"):
            scene.directory.add(RULES, {"displayName": name} | DELETES)
        plan = scene.plan("remove_inbox_rule", user=ANN, fields=first)
        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]

        tomorrow_ms = int((SystemClock().now() + timedelta(days=1)).timestamp() * 1000)
        alert = replace(make_alert("remove_inbox_rule", user=ANN), last_at_ms=tomorrow_ms)
        later = plan_response(alert, [make_match(first), make_match(second, after_ms=tomorrow_ms - AT_MS)])
        told = await scene.apply(replace(later, tenant=scene.tenant))

        assert [one.came for one in told] == [Came.ALREADY, Came.DONE]

    in_scene(tmp_path, test)


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
        groups = f"/users/{ANN}/memberOf/microsoft.graph.group"
        for _ in range(2):
            scene.directory.add(groups, {"displayName": "Finance"})
        scene.directory.add(groups, {"displayName": "Lunch"})
        group = {"ModifiedProperties.Group.DisplayName.new": "Finance"}
        plan = scene.plan("remove_group_member", user=ANN, fields=group)

        assert [told.came for told in await scene.apply(plan)] == [Came.PICK] * 2
        assert len(scene.directory.lists[groups]) == 3

    in_scene(tmp_path, test)


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


class Halting:
    """Graph that answers reads, and meets every change with an error."""

    def __init__(self, error: CollectorError | None) -> None:
        self.error = error
        self.changed: list[GraphCall] = []
        self.enabled = True

    async def ask(self, call: GraphCall) -> Document:
        if call.method == "GET":
            return {"id": "1", "accountEnabled": self.enabled}
        self.changed.append(call)
        if self.error is not None:
            raise self.error
        self.enabled = bool((call.body or {}).get("accountEnabled"))
        return {}

    async def list(self, path: str, *, most: int) -> Sequence[Document]:
        if path.startswith("/directoryRoles"):
            return [{"id": "another", "accountEnabled": True}]
        return [{"id": "r", "displayName": ".."} | DELETES]


def disable(alert: str = "a" * 32) -> Plan:
    """A plan that disables Ann's account."""
    return plan_response(replace(make_alert("disable_account", user=ANN), id=AlertId(alert)))


def desk_of(plan: Plan, graph: Halting, journal: Journal) -> Desk:
    """A desk that asks nobody."""
    return Desk(plan, graph, journal, clock=SystemClock(), by="tester", ask=None)


def outcomes(folder: Path) -> list[str]:
    """What the journal has, line by line."""
    return [json.loads(line)["outcome"] for line in (folder / FILE_NAME).read_text().splitlines()]


@pytest.mark.parametrize(
    ("error", "outcome", "left"),
    [(Throttled("no time"), "failed", 0), (Unavailable("no answer"), "unclear", 1)],
)
def test_what_was_refused_was_not_done(
    tmp_path: Path, error: CollectorError, outcome: str, left: int
) -> None:
    """There is nothing to take back then; where no answer came, there may be."""
    plan, journal = disable(), Journal(tmp_path)
    asyncio.run(desk_of(plan, Halting(error), journal).carry_out(plan.steps[0]))

    assert outcomes(tmp_path) == ["begun", outcome]
    assert len(journal.to_undo(plan.alert_id)) == left


def test_what_may_have_been_taken_back_is_not_taken_back_again(tmp_path: Path) -> None:
    """The inbox rule would be there twice."""
    plan = plan_response(make_alert("remove_inbox_rule", user=ANN), [make_match(hides(".."))])
    journal, graph = Journal(tmp_path), Halting(None)
    desk = desk_of(plan, graph, journal)
    asyncio.run(desk.carry_out(plan.steps[0]))
    graph.error = Unavailable("no answer")
    [done] = journal.to_undo(plan.alert_id)
    first = asyncio.run(desk.undo(done))
    [left] = journal.to_undo(plan.alert_id)
    second = asyncio.run(desk.undo(left))

    assert (first.came, second.came) == (Came.FAILED, Came.PICK)
    assert "it may have been taken back already" in second.label
    assert [call.method for call in graph.changed] == ["DELETE", "POST"]


def test_what_is_back_already_is_not_changed(tmp_path: Path) -> None:
    """A person has enabled the account meanwhile."""
    plan, journal, graph = disable(), Journal(tmp_path), Halting(None)
    desk = desk_of(plan, graph, journal)
    asyncio.run(desk.carry_out(plan.steps[0]))
    graph.enabled = True
    [done] = journal.to_undo(plan.alert_id)

    assert asyncio.run(desk.undo(done)).came is Came.ALREADY
    assert len(graph.changed) == 1
    assert journal.to_undo(plan.alert_id) == []


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


class Tokens:
    """Tokens for whoever asks, or none."""

    def __init__(self, error: CollectorError | None = None) -> None:
        self._error = error

    async def current(self) -> str:
        if self._error is not None:
            raise self._error
        return "token"

    async def renewed(self, refused: str) -> str:
        return await self.current()


class Server:
    """Answers with these, one after the other."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    async def send(self, *_: object, **__: object) -> Answer:
        return self._answers.pop(0)


def client(server: Server, tokens: Tokens, clock: FakeClock) -> GraphClient:
    """Graph behind that server."""
    session = cast(Session, server)
    return GraphClient(session, "https://graph.example", tokens=tokens, clock=clock, tenant="contoso")


def answered(make: Callable[[], Awaitable[object]]) -> object:
    """What comes of it, or the error."""

    async def main() -> object:
        try:
            return await make()
        except CollectorError as error:
            return error

    return asyncio.run(main())


def test_graph_is_asked_again_when_it_has_time(tmp_path: Path) -> None:
    """All further deeds failed at once, one after the other."""
    busy = Answer(429, CIMultiDict({"Retry-After": "7"}), b"")
    clock = FakeClock(jumps=True)
    graph = client(Server(busy, Answer(204, CIMultiDict[str](), b"")), Tokens(), clock)

    assert answered(lambda: graph.ask(GraphCall("POST", "/x"))) == {}
    assert clock.slept_s == [7]


def test_without_a_token_nothing_was_asked(tmp_path: Path) -> None:
    """So that nothing may have been done."""
    plan, journal = disable(), Journal(tmp_path)
    graph = client(Server(), Tokens(Unavailable("no way to Entra")), FakeClock())
    found = answered(lambda: graph.ask(GraphCall("POST", "/x")))

    assert isinstance(found, CollectorError)
    assert "there is no token" in found.what
    asyncio.run(desk_of(plan, Halting(found), journal).carry_out(plan.steps[0]))
    assert outcomes(tmp_path) == ["begun", "failed"]
