"""The simulated service announcements: pages, conditions, permissions, and time that goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from caller import Caller, Reply, calling, in_loop
from m365watch_simulator.graph.announcements import SERVICES, STEP, Announcements

START = datetime(2026, 11, 17, 9, tzinfo=UTC)


async def ask(caller: Caller, path: str, query: str = "") -> Reply:
    """A page of announcements, with a token for Graph."""
    answer = await caller.ask_token(scope=f"{caller.running.graph_url}/.default")
    caller.bearer = answer.document["access_token"]
    url = f"{caller.running.graph_url}/v1.0/admin/serviceAnnouncement/{path}{query}"
    return await caller.send("GET", url)


@in_loop
async def test_pages_end_and_hold_everything() -> None:
    """A hundred on a page; the link of each page leads to the next."""
    async with calling() as caller:
        found, query = [], ""
        for _ in range(10):
            reply = await ask(caller, "messages", query)
            found += [one["id"] for one in reply.document["value"]]
            link = reply.document.get("@odata.nextLink")
            if link is None:
                break
            query = f"?{link.partition('?')[2]}"
        overviews = await ask(caller, "healthOverviews")

    assert len(found) == len(set(found)) == 230
    assert {one["id"] for one in overviews.document["value"]} == set(SERVICES)


@in_loop
async def test_a_condition_leaves_out_what_was_not_modified() -> None:
    """What is no condition that the service knows is refused."""
    async with calling() as caller:
        everything = await ask(caller, "issues")
        times = sorted(one["lastModifiedDateTime"] for one in everything.document["value"])
        late = await ask(caller, "issues", f"?$filter=lastModifiedDateTime%20ge%20{times[-3][:19]}Z")
        wrong = await ask(caller, "issues", "?$filter=title%20eq%20'x'")

    assert len(late.document["value"]) == 3
    assert wrong.status == 400


@in_loop
async def test_each_kind_has_its_permission() -> None:
    """Health and messages are permitted apart."""
    async with calling("behaviour: {graph_roles: [ServiceMessage.Read.All]}") as caller:
        statuses = [(await ask(caller, path)).status for path in ("healthOverviews", "issues", "messages")]

    assert statuses == [403, 403, 200]


def test_things_happen_as_time_goes_by() -> None:
    """An issue begins, goes on and ends, and its service with it; each version has another time."""
    made = Announcements("seed", START)
    before = {one["id"] for one in made.listed("issues", START, since=None)}
    seen = []
    for step in range(1, 4):
        now = START + step * STEP
        [issue] = [one for one in made.listed("issues", now, since=None) if one["id"] not in before]
        seen.append((issue["status"], issue["isResolved"], issue["lastModifiedDateTime"]))

    assert [(status, over) for status, over, _ in seen] == [
        ("investigating", False),
        ("restoringService", False),
        ("serviceRestored", True),
    ]
    assert len({time for *_, time in seen}) == 3
    assert len(made.listed("messages", START + timedelta(days=1), since=START)) == 24
