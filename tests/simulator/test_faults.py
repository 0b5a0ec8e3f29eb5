from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from datetime import timedelta
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from caller import EXCHANGE, START, Caller, Reply, calling, host_of, in_loop, scenario
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.scenario import Answer, Call

DAY = timedelta(days=1)
AF = '{"error":{"code":"AF'


@pytest.mark.parametrize(
    ("answer", "status", "start"),
    [
        ("af429_as_403", 403, AF + "429"),
        ("af429_as_429", 429, AF + "429"),
        ("retry_after", 429, AF + "429"),
        ("html_404", 404, "<html>"),
        ("html_500", 500, "<html>"),
        ("html_503", 503, "<html>"),
        ("timeout_408", 408, "<html>"),
        ("af50000", 500, AF + "50000"),
        ("unauthorized_message", 401, '{"Message":'),
        ("error_object_200", 200, AF + "50000"),
        ("expired", 400, AF + "20051"),
        ("unknown", 404, AF + "20050"),
        ("invalid_key", 400, AF + "20052"),
        ("disable_subscription", 400, AF + "20023"),
        ("drop_subscription", 400, AF + "20022"),
        ("invalid_json", 200, "{[{"),
        ("bom", 200, "\ufeff[{"),
        ("pretty_array", 200, "[\r\n  {"),
    ],
)
@in_loop
async def test_a_fault_answers_as_its_name_says(answer: str, status: int, start: str) -> None:
    """Contract 7.5: status and body of each fault on a blob."""
    async with calling(f"rules: [{{on: fetch, answer: {answer}}}]") as caller:
        reply = await caller.fetch(await first_id(caller))
    assert (reply.status, reply.body.decode()[: len(start)]) == (status, start)


@pytest.mark.parametrize(("answer", "body"), [("empty_body", b""), ("empty_array", b"[]")])
@in_loop
async def test_an_empty_answer_is_empty(answer: str, body: bytes) -> None:
    """Contract 7.5: nothing, and an array of nothing, under HTTP 200."""
    async with calling(f"rules: [{{on: fetch, answer: {answer}}}]") as caller:
        reply = await caller.fetch(await first_id(caller))
    assert (reply.status, reply.body) == (200, body)


@in_loop
async def test_a_fault_that_passes_gives_way_to_the_right_answer() -> None:
    """`times` counts for each blob: after so many strikes its answer is right."""
    async with calling("rules: [{on: fetch, answer: html_500, times: 2}]") as caller:
        ids = [named["contentId"] for named in (await caller.list_week())[:3]]
        statuses = [[(await caller.fetch(name)).status for _ in range(4)] for name in ids]
    assert statuses == [[500, 500, 200, 200]] * 3


@in_loop
async def test_a_permanent_fault_stays() -> None:
    """`times: always`."""
    async with calling("rules: [{on: fetch, answer: html_500, times: always}]") as caller:
        name = await first_id(caller)
        assert {(await caller.fetch(name)).status for _ in range(5)} == {500}


@pytest.mark.parametrize("call", ["subscriptions", "start", "list", "page", "fetch", "token"])
@in_loop
async def test_every_call_can_be_struck(call: str) -> None:
    """A rule names the calls it strikes, and no other is struck."""
    rules = f"rules: [{{on: {call}, answer: html_503, times: always}}]"
    async with calling(rules, signed_in=False, page_size=2) as caller:
        token = await caller.ask_token()
        if token.status == 200:
            caller.bearer = token.document["access_token"]
        replies = {
            "token": token,
            "subscriptions": await caller.get("subscriptions/list"),
            "start": await caller.start(),
            "list": (listing := await caller.page(START - DAY, START)),
        }
        if listing.status == 200:
            replies["page"] = await caller.send("GET", listing.headers["NextPageUri"])
            replies["fetch"] = await caller.fetch(listing.document[0]["contentId"])
    assert replies[call].status == 503
    if call not in ("token", "start", "list"):
        assert [name for name, reply in replies.items() if reply.status == 503] == [call]


@in_loop
async def test_retry_after_comes_in_seconds_and_as_a_date() -> None:
    """Contract 3.3, defensive: both forms that HTTP has."""
    rules = """
    rules:
      - {on: fetch, answer: retry_after, after_s: 7}
      - {on: fetch, answer: retry_after_date, after_s: 7}
    """
    async with calling(rules) as caller:
        name = await first_id(caller)
        first, second = await caller.fetch(name), await caller.fetch(name)
    assert first.headers["Retry-After"] == "7"
    assert parsedate_to_datetime(second.headers["Retry-After"]) == START + timedelta(seconds=7)


@pytest.mark.parametrize("answer", ["reset", "stall", "truncated"])
@in_loop
async def test_a_connection_breaks(answer: str) -> None:
    """Contract 7.5: before the answer, after a while, in the middle of a body."""
    rules = f"rules: [{{on: fetch, answer: {answer}, duration_s: 5, times: 4}}]"
    async with calling(rules) as caller:
        name = await first_id(caller)
        with pytest.raises(aiohttp.ClientError):
            await caller.fetch(name)
        while caller.running.report["faults"][answer] < 4:
            with pytest.raises(aiohttp.ClientError):
                await caller.fetch(name)
        assert (await caller.fetch(name)).status == 200
    assert (5 in caller.clock.slept_s) == (answer == "stall")


@in_loop
async def test_a_gzip_body_is_cut_although_http_is_whole() -> None:
    """Contract 7.5, defensive: Content-Length is right, the gzip file in it is half."""
    async with calling("rules: [{on: fetch, answer: truncated_gzip}]") as caller:
        caller.session._auto_decompress = False
        reply = await caller.fetch(await first_id(caller))
        assert reply.headers["Content-Length"] == str(len(reply.body))
        with pytest.raises(EOFError):
            gzip.decompress(reply.body)


@in_loop
async def test_a_body_drips_slowly_and_whole() -> None:
    """Contract 7.5: the right body in small pieces."""
    async with calling("rules: [{on: fetch, answer: slow_drip, duration_s: 4}]") as caller:
        name = await first_id(caller)
        slow, quick = await caller.fetch(name), await caller.fetch(name)
    assert slow.body == quick.body
    assert sum(caller.clock.slept_s) == pytest.approx(4, abs=0.5)


@in_loop
async def test_a_body_can_have_32_mebibytes() -> None:
    """Contract 7.5: white space after the array, so that the records are the same."""
    async with calling("rules: [{on: fetch, answer: padded}]") as caller:
        name = await first_id(caller)
        large, usual = await caller.fetch(name), await caller.fetch(name)
    assert len(large.body) == 32 * 1024 * 1024
    assert large.body.rstrip() == usual.body


@in_loop
async def test_a_garbage_content_uri_leads_into_a_trap() -> None:
    """Contract 7.5 and fact 6: http, localhost, no API path, another tenant; a visit is noted."""
    async with calling("rules: [{on: list, answer: garbage_content_uri, times: always}]") as caller:
        named = (await caller.list_week())[0]
        assert host_of(named["contentUri"]).startswith("localhost:")
        assert "/api/" not in named["contentUri"]
        assert caller.identity.tenant_id not in named["contentUri"]
        assert caller.running.report["violations"] == []
        assert (await caller.fetch(named["contentId"])).status == 200
        assert (await caller.send("GET", named["contentUri"])).status == 404
    violation = caller.running.report["violations"][0]
    assert "localhost" in violation
    assert violation.endswith("with a bearer token")


@in_loop
async def test_a_garbage_next_page_leads_into_a_trap() -> None:
    """Defensive: the header names another host; its query is still right."""
    async with calling("rules: [{on: list, answer: garbage_next_page}]", page_size=2) as caller:
        following = (await caller.page(START - DAY, START)).headers["NextPageUri"]
        await caller.send("GET", following)
        assert len(caller.running.report["violations"]) == 1
        query = following.partition("?")[2]
        url = caller.feed_url("subscriptions/content", {}).partition("?")[0]
        assert (await caller.send("GET", f"{url}?{query}")).status == 200


@in_loop
async def test_a_page_can_name_itself_as_the_next() -> None:
    """Contract 2.4: pages can repeat."""
    async with calling("rules: [{on: page, answer: repeated_page}]", page_size=2) as caller:
        first = await caller.page(START - DAY, START)
        second = await caller.send("GET", first.headers["NextPageUri"])
        third = await caller.send("GET", second.headers["NextPageUri"])
    assert second.headers["NextPageUri"] == first.headers["NextPageUri"]
    assert second.body == third.body
    assert third.headers["NextPageUri"] != second.headers["NextPageUri"]


@in_loop
async def test_a_redirect_points_into_the_trap() -> None:
    """Defensive: nobody may follow with a token."""
    async with calling("rules: [{on: fetch, answer: redirect}]") as caller:
        reply = await caller.fetch(await first_id(caller))
        await caller.send("GET", reply.headers["Location"])
    assert reply.status == 302
    assert len(caller.running.report["violations"]) == 1


@in_loop
async def test_a_token_fault_passes() -> None:
    """Contract 1.7: 90055 and 90033 are passing."""
    rules = """
    rules:
      - {on: token, answer: aadsts, code: 90055}
      - {on: token, answer: aadsts, code: 90033, nth: 2}
    """
    async with calling(rules, signed_in=False) as caller:
        replies = [await caller.ask_token() for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 503, 200]
    assert [reply.document.get("error_codes") for reply in replies] == [[90055], [90033], None]


@in_loop
async def test_tokens_can_be_short_or_bare() -> None:
    """Short lives and tokens without roles, once each."""
    rules = """
    rules:
      - {on: token, answer: short_token, duration_s: 3}
      - {on: token, answer: token_without_roles, nth: 2}
    """
    async with calling(rules, signed_in=False) as caller:
        short = (await caller.ask_token()).document
        caller.bearer = (await caller.ask_token()).document["access_token"]
        bare = await caller.get("subscriptions/list")
        caller.bearer = short["access_token"]
        before = await caller.get("subscriptions/list")
        await caller.clock.sleep(3)
        after = await caller.get("subscriptions/list")
    assert (short["expires_in"], bare.code) == (3, "AF10001")
    assert (before.status, after.status) == (200, 401)


@pytest.mark.parametrize(
    ("answer", "part", "unreadable"),
    [
        ("lone_surrogate", b"\\ud83d", 0),
        ("nan", b":NaN}", 0),
        ("huge_record", b"x" * 5000, 0),
        ("unreadable_record", b":undefined}", 1),
    ],
)
@in_loop
async def test_content_can_be_damaged(answer: str, part: bytes, unreadable: int) -> None:
    """Contract 7.5, defensive: what a blob holds; the truth holds the same bytes."""
    rules = f"rules: [{{on: content, answer: {answer}, size_bytes: 5000}}]"
    async with calling(rules) as caller:
        records = await caller.fetch_records(await first_id(caller))
        truth = caller.running.tenants[0].truth()
    assert part in records[-1]
    readable = records[: len(records) - unreadable]
    assert set(readable) <= {text for texts in truth.texts.values() for text in texts}
    assert (truth.unreadable > 0) == bool(unreadable)


@in_loop
async def test_a_record_without_id_counts_each_time() -> None:
    """Contract 5.2: never deduplicated."""
    async with calling("rules: [{on: content, answer: without_id}]") as caller:
        blobs = len(await caller.list_week())
        truth = caller.running.tenants[0].truth(EXCHANGE)
    assert truth.without_id.total() == truth.blobs
    assert blobs >= truth.blobs


@in_loop
async def test_what_runs_at_once_does_not_change_the_faults() -> None:
    """A run can be repeated: chance is a hash of rule, blob and count, not of the order of calls."""
    rules = "rules: [{on: fetch, answer: html_500, probability: 0.5, times: always}]"

    async def statuses(*, at_once: bool) -> dict[str, list[int]]:
        async with calling(rules) as caller:
            names = [named["contentId"] for named in await caller.list_week()][:40]
            seen: dict[str, list[int]] = {name: [] for name in names}

            async def fetch(name: str) -> None:
                for _ in range(4):
                    seen[name].append((await caller.fetch(name)).status)

            if at_once:
                await asyncio.gather(*map(fetch, reversed(names)))
            else:
                for name in names:
                    await fetch(name)
            return seen

    one_by_one, together = await statuses(at_once=False), await statuses(at_once=True)
    assert one_by_one == together
    assert 0.3 < Counter(status for seen in together.values() for status in seen)[500] / 160 < 0.7


@in_loop
async def test_a_share_of_blobs_is_chosen_by_the_seed() -> None:
    """`share` picks blobs once and for all; another seed picks others."""
    rules = scenario("rules: [{on: fetch, answer: html_500, share: 0.3, times: always}]")

    def struck(seed: int) -> set[int]:
        plan = FaultPlan(rules, seed=seed)
        return {number for number in range(300) if plan.strike(Call.FETCH, f"blob {number}")}

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 60 < len(struck(1)) < 120


@in_loop
async def test_a_rule_can_keep_to_content_types() -> None:
    """`content_types` narrows a rule."""
    rules = "rules: [{on: list, answer: html_500, times: always, content_types: DLP.All}]"
    async with calling(rules) as caller:
        await caller.start("DLP.All")
        replies = [await caller.page(START - DAY, START, name) for name in (EXCHANGE, "DLP.All")]
    assert [reply.status for reply in replies] == [200, 500]


@in_loop
async def test_a_refused_start_has_no_effect() -> None:
    """A fault in place of the right answer leaves the subscription as it was."""
    async with calling("rules: [{on: start, answer: af50000}]", subscribed=False) as caller:
        failed = await caller.start()
        listed = (await caller.get("subscriptions/list")).document
    assert (failed.status, listed) == (500, [])


@in_loop
async def test_faults_are_counted_in_the_report() -> None:
    """The report tells a test whether its scenario happened at all."""
    async with calling("rules: [{on: fetch, answer: bom, times: always}]") as caller:
        await caller.fetch(await first_id(caller))
    assert caller.running.report["faults"] == {Answer.BOM: 1}


async def first_id(caller: Caller) -> str:
    reply: Reply = await caller.page(START - DAY, START)
    return str(json.loads(reply.body)[0]["contentId"])
