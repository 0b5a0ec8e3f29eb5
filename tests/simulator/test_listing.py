from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest

from caller import EXCHANGE, START, Caller, calling, in_loop, seconds
from m365watch_simulator.service.identities import derive_identities

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@in_loop
async def test_a_window_is_half_open_on_content_created() -> None:
    """Contract 7.3: start <= contentCreated < end, to the millisecond."""
    async with calling("behaviour: {cut_blobs: false}") as caller:
        whole = await caller.list_window(START - DAY, START)
        created = whole[len(whole) // 2]["contentCreated"]
        first, second = (START - DAY, created), (created, START)
        before = await listed(caller, seconds(first[0]), created)
        after = await listed(caller, created, seconds(second[1]))
    assert before + after == whole
    assert created in [named["contentCreated"] for named in after]


@in_loop
async def test_a_listing_is_ordered_and_shaped_as_on_the_wire() -> None:
    """Contract 2.4: five fields in their order, ascending contentCreated."""
    async with calling() as caller:
        whole = await caller.list_window(START - DAY, START)
    assert list(whole[0]) == ["contentUri", "contentId", "contentType", "contentCreated", "contentExpiration"]
    created = [named["contentCreated"] for named in whole]
    assert created == sorted(created)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", instant) for instant in created)
    assert all(named["contentUri"].endswith(named["contentId"]) for named in whole)


@in_loop
async def test_an_empty_window_is_an_empty_array() -> None:
    """Contract 2.4: `[]`, also for a window in the future."""
    async with calling() as caller:
        reply = await caller.page(START + DAY, START + 2 * DAY)
    assert (reply.status, reply.body) == (200, b"[]")


ALLOWED = [
    ("2026-11-16", "2026-11-17"),
    ("2026-11-16T10:00", "2026-11-16T11:00"),
    ("2026-11-16T10:00:00", "2026-11-16T11:00:00"),
    ("2026-11-16T10:00:00Z", "2026-11-16T11:00:00Z"),
    ("2026-11-16T10:00:00.123Z", "2026-11-16T11:00:00.123Z"),
    ("2026-11-16T10:00:00.1234567Z", "2026-11-16T11:00:00.1234567Z"),
    ("2026-11-10T08:31:00", "2026-11-10T09:00:00"),
    ("2026-11-17T09:00:00", "2026-11-18T09:00:00"),
]


@pytest.mark.parametrize(("start", "end"), ALLOWED)
@in_loop
async def test_a_window_of_the_documented_forms_is_taken(start: str, end: str) -> None:
    """Contract 7.3: formats, 24 h, an hour's slack beyond 7 days, ends in the future."""
    async with calling() as caller:
        reply = await caller.get("subscriptions/content", contentType=EXCHANGE, startTime=start, endTime=end)
    assert reply.status == 200


REFUSED = [
    ("2026-11-16T10:00:00", "", "AF20055"),
    ("", "2026-11-16T10:00:00", "AF20055"),
    ("2026-11-16T10:00:00", "2026-11-16T10:00:00", "AF20055"),
    ("2026-11-16T10:00:00", "2026-11-16T09:00:00", "AF20055"),
    ("2026-11-15T10:00:00", "2026-11-16T10:00:01", "AF20055"),
    ("2026-11-10T08:29:00", "2026-11-10T09:00:00", "AF20055"),
    ("yesterday", "2026-11-16T10:00:00", "AF20002"),
    ("2026-11-16T10:00:00+00:00", "2026-11-16T11:00:00+00:00", "AF20002"),
]


@pytest.mark.parametrize(("start", "end", "code"), REFUSED)
@in_loop
async def test_a_window_that_is_not_allowed_is_refused(start: str, end: str, code: str) -> None:
    """Contract 7.3 and 2.4: AF20055 under HTTP 400; an unescaped plus is a blank and no time."""
    async with calling() as caller:
        reply = await caller.get("subscriptions/content", contentType=EXCHANGE, startTime=start, endTime=end)
    assert (reply.status, reply.code) == (400, code)


@in_loop
async def test_without_times_the_last_24_hours_are_listed() -> None:
    """Contract 7.3: the default window, and its pages carry it."""
    async with calling(page_size=3) as caller:
        reply = await caller.get("subscriptions/content", contentType=EXCHANGE)
        expected = await caller.page(START - DAY, START)
    assert reply.document == expected.document
    query = dict(parse_qsl(urlsplit(reply.headers["NextPageUri"]).query))
    assert query["starttime"] == "2026-11-16T09:30:00.0000000Z"


@in_loop
async def test_pages_follow_each_other_without_a_gap() -> None:
    """Contract 7.3: every page but the last is full, and together they are the listing."""
    async with calling(page_size=4) as caller:
        paged = await caller.list_window(START - DAY, START)
        calls = caller.running.report["requests"]
    async with calling(page_size=1000) as caller:
        at_once = await caller.list_window(START - DAY, START)
    ids = [named["contentId"] for named in at_once]
    assert [named["contentId"] for named in paged] == ids
    assert calls["page"] == (len(ids) - 1) // 4


@in_loop
async def test_next_page_uri_is_as_on_the_wire() -> None:
    """Contract 7.3: a header, keys in lower case, 7 digits of fraction, no PublisherIdentifier."""
    async with calling(page_size=2) as caller:
        reply = await caller.page(START - DAY, START)
    parts = urlsplit(reply.headers["NextPageUri"])
    query = dict(parse_qsl(parts.query))
    assert parts.path == f"/api/v1.0/{caller.identity.tenant_id}/activity/feed/subscriptions/content"
    assert list(query) == ["contenttype", "endtime", "starttime", "nextpage"]
    assert query["endtime"] == "2026-11-17T09:30:00.0000000Z"
    assert re.fullmatch(r"\d{23}\$20261116093000000000000\$[a-z]+\d{4}", query["nextpage"])


@in_loop
async def test_a_foreign_page_token_is_refused() -> None:
    """Contract 7.3: invented, of another window, of another content type: AF20031."""
    async with calling(page_size=2) as caller:
        await caller.start("Audit.General")
        following = (await caller.page(START - DAY, START)).headers["NextPageUri"]
        token = following.rpartition("nextpage=")[2]
        wrong = [
            following.replace(token, "nonsense"),
            following.replace("starttime=2026-11-16T09", "starttime=2026-11-16T10"),
            following.replace("Audit.Exchange", "Audit.General"),
        ]
        codes = [(await caller.send("GET", url)).code for url in wrong]
    assert codes == ["AF20031"] * 3


@in_loop
async def test_a_page_token_of_another_tenant_is_refused() -> None:
    """Contract 7.3: tokens are known to their tenant only."""
    async with calling(page_size=2, tenants=derive_identities(5, 2)) as caller:
        following = (await caller.page(START - DAY, START)).headers["NextPageUri"]
        other = Caller(caller.session, caller.running, caller.clock, number=1)
        await other.sign_in()
        await other.start()
        url = following.replace(caller.identity.tenant_id, other.identity.tenant_id)
        assert (await other.send("GET", url)).code == "AF20031"


@in_loop
async def test_a_page_token_ends() -> None:
    """Contract 7.3: an expired token gets AF20031, and a window that aged out AF20055."""
    async with calling("behaviour: {page_token_life_s: 60}", page_size=2) as caller:
        following = (await caller.page(START - DAY, START)).headers["NextPageUri"]
        await caller.clock.sleep(60)
        expired = await caller.send("GET", following)
        await caller.clock.sleep(7 * 86400)
        await caller.sign_in()
        aged = await caller.send("GET", following)
    assert (expired.code, aged.code) == ("AF20031", "AF20055")


@in_loop
async def test_a_blob_is_listed_once_it_exists() -> None:
    """A blob is not named before its contentCreated, and from then on it is."""
    async with calling() as caller:
        window = (START, START + 4 * HOUR)
        before = await caller.list_window(*window)
        await caller.clock.sleep(3000)
        between = await caller.list_window(*window)
        await caller.clock.sleep(3 * 3600)
        await caller.sign_in()
        after = await caller.list_window(*window)
    assert before == []
    assert 0 < len(between) < len(after)
    assert after[: len(between)] == between


@in_loop
async def test_blobs_can_appear_later_than_they_say() -> None:
    """The switch `appears_late_s`: listed after their contentCreated, and not before."""
    async with calling("behaviour: {appears_late_s: 1800}") as caller:
        window = (START - HOUR, START)
        first = await caller.list_window(*window)
        await caller.clock.sleep(1800)
        later = await caller.list_window(*window)
    assert len(first) < len(later)


@in_loop
async def test_a_window_inside_a_blob_lists_its_rest() -> None:
    """Contract 7.4: the cut blob has fewer records, an id of its own, and is created in the window."""
    async with calling(per_hour=60) as caller:
        whole = await caller.list_week()
        spanning = next(named for named in whole if spans_seconds(named["contentId"]) > 5)
        inside = caller.running.tenants[0].publication.find(spanning["contentId"])
        assert inside is not None
        middle = (inside.created_at + (inside.ends_at - inside.created_at) / 2).replace(microsecond=0)
        cut = (await caller.list_window(middle, middle + HOUR))[0]
        full = await caller.fetch_records(spanning["contentId"])
        rest = await caller.fetch_records(cut["contentId"])
    assert cut["contentId"].split("$")[1:] == spanning["contentId"].split("$")[1:]
    assert cut["contentId"] != spanning["contentId"]
    assert cut["contentCreated"] >= f"{seconds(middle)}.000Z"
    assert 0 < len(rest) < len(full)
    assert rest == full[-len(rest) :]


@in_loop
async def test_notifications_name_the_same_blobs_under_longer_ids() -> None:
    """Contract 7.4: `$IsFromNotification`, and the blob can be fetched so."""
    async with calling() as caller:
        window = {"startTime": seconds(START - DAY), "endTime": seconds(START)}
        notified = (await caller.get("subscriptions/notifications", contentType=EXCHANGE, **window)).document
        whole = await caller.list_window(START - DAY, START)
        bodies = [(await caller.fetch(named["contentId"])).body for named in (notified[0], whole[0])]
    suffix = "$IsFromNotification"
    assert [named["contentId"] for named in notified] == [named["contentId"] + suffix for named in whole]
    assert notified[0]["notificationStatus"] == "Succeeded"
    assert bodies[0] == bodies[1]


async def listed(caller: Caller, start: str, end: str) -> list[dict[str, str]]:
    reply = await caller.get("subscriptions/content", contentType=EXCHANGE, startTime=start, endTime=end)
    whole: list[dict[str, str]] = reply.document
    return whole


def spans_seconds(content_id: str) -> int:
    first, last = (int(part[:17]) for part in content_id.split("$")[:2])
    return (last - first) // 1000
