"""Lists of Graph that go on over pages: the whole of them, or nothing is done; and never on another host."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest
from multidict import CIMultiDict
from promises import guarantee

from alerts import ANN, APP
from m365watch.common.errors import BadAnswer, CollectorError, ListTooLong
from m365watch.http.client import Answer, Session
from m365watch.response.execution.graph_client import PAGES_MAX, GraphClient
from m365watch.response.execution.response_executor import Came
from m365watch.response.execution.step_actions import FOUND_MAX, Document
from m365watch_simulator.graph.directory import GRANTS
from m365watch_testing.clock import FakeClock
from responding_scene import GLOBAL, Scene, in_scene

GRAPH = "https://graph.example"
FIRST = f"{GRAPH}/v1.0/users"


class Tokens:
    """One token for all."""

    async def current(self) -> str:
        return "token"

    async def renewed(self, refused: str) -> str:
        return refused


class Pages:
    """Serves pages by their addresses, and keeps what was asked for."""

    def __init__(self, pages: Mapping[str, Mapping[str, object]]) -> None:
        self._pages = pages
        self.asked: list[str] = []

    async def send(self, method: str, url: object, **_: object) -> Answer:
        assert method == "GET"
        self.asked.append(str(url))
        return Answer(200, CIMultiDict[str](), msgspec.json.encode(self._pages[str(url)]))


def listed(server: Pages, *, most: int) -> list[Document]:
    """What a client at that server lists."""
    session = cast(Session, server)
    graph = GraphClient(session, GRAPH, tokens=Tokens(), clock=FakeClock(), tenant="contoso")
    return list(asyncio.run(graph.list("/users", most=most)))


def things(count: int, link: str = "") -> dict[str, object]:
    """A page of so many things."""
    return {"value": [{"id": str(number)} for number in range(count)]} | (
        {"@odata.nextLink": link} if link else {}
    )


@pytest.mark.parametrize("last", [1, 2])
def test_a_list_is_read_over_all_its_pages(last: int) -> None:
    """Up to the bound, which is not yet too long."""
    second = f"{FIRST}?$skiptoken=2"
    server = Pages({FIRST: things(2, second), second: things(last)})

    assert len(listed(server, most=4)) == 2 + last
    assert server.asked == [FIRST, second]


@guarantee(39)
@pytest.mark.parametrize(
    "pages",
    [{FIRST: things(5)}, {FIRST: things(4, f"{FIRST}?$skiptoken=2"), f"{FIRST}?$skiptoken=2": things(1)}],
)
def test_a_list_that_is_too_long_is_refused_and_not_cut(pages: dict[str, dict[str, object]]) -> None:
    """What a step did to a part of it was told as all of it."""
    with pytest.raises(CollectorError) as refused:
        listed(Pages(pages), most=4)

    assert str(refused.value) == (
        "contoso/Graph: more than 4 are listed, and nothing was done;"
        " use the PowerShell that the plan has for this step"
    )


def test_a_list_without_an_end_is_refused() -> None:
    """A page that names itself as the next."""
    server = Pages({FIRST: things(0, FIRST)})
    with pytest.raises(ListTooLong):
        listed(server, most=4)

    assert len(server.asked) == PAGES_MAX


@guarantee(39)
@pytest.mark.parametrize(
    "link",
    [
        "https://graph.example.evil.test/v1.0/users",
        "https://graph.example@evil.test/v1.0/users",
        "https://evil.test/v1.0/users",
        "http://graph.example/v1.0/users",
    ],
)
def test_no_token_follows_a_next_page_to_another_host(link: str) -> None:
    """Whoever writes an answer must not have the token sent to them."""
    server = Pages({FIRST: things(1, link), link: things(1)})
    with pytest.raises(BadAnswer):
        listed(server, most=4)

    assert server.asked == [FIRST]


@guarantee(39)
def test_of_what_is_more_than_is_looked_at_nothing_is_taken(tmp_path: Path) -> None:
    """Five thousand consents were a thousand to `--apply`, which said that all was done.

    Nor is the other half of the step done: its PowerShell does both.
    """

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        roles = f"/servicePrincipals(appId='{APP}')/appRoleAssignments"
        scene.directory.add(roles, {"principalId": principal, "resourceId": "r", "appRoleId": GLOBAL})
        for number in range(FOUND_MAX + 1):
            scene.directory.add(GRANTS, {"clientId": principal, "principalId": f"p{number}", "scope": "a"})
        plan = scene.plan("remove_oauth_grant", app=APP)
        asked: list[str] = []
        [told] = await scene.apply(plan, says=True, asked=asked)

        assert told.came is Came.FAILED
        assert str(told.error) == (
            "more than 1,000 would go, and nothing was done;"
            " use the PowerShell that the plan has for this step"
        )
        assert asked == []
        assert len(scene.directory.lists[GRANTS]) == FOUND_MAX + 1
        assert len(scene.directory.lists[roles]) == 1
        assert not scene.journal.path.exists()

    in_scene(tmp_path, test)


def test_of_thousands_of_consents_one_person_s_is_found(tmp_path: Path) -> None:
    """An application that many use has as many: of these one alone is touched."""

    async def test(scene: Scene) -> None:
        principal = scene.directory.add_principal(APP)
        for number in range(2 * FOUND_MAX):
            scene.directory.add(GRANTS, {"clientId": principal, "principalId": f"p{number}", "scope": "a"})
        scene.directory.add(
            GRANTS, {"clientId": principal, "principalId": scene.directory.users[ANN]["id"], "scope": "b"}
        )
        [told] = await scene.apply(scene.plan("remove_user_consent", user=ANN, app=APP))

        assert told.came is Came.DONE
        assert len(scene.directory.lists[GRANTS]) == 2 * FOUND_MAX

    in_scene(tmp_path, test)
