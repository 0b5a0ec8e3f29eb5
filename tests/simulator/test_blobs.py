from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from datetime import datetime, timedelta

import pytest

from caller import EXCHANGE, START, Caller, SmallSource, calling, in_loop

DAY = timedelta(days=1)


@in_loop
async def test_a_content_id_is_as_on_the_wire() -> None:
    """Contract 7.4: `t1$t2$audit_x$Audit_X$emea0036`, t1 to the millisecond being contentCreated."""
    async with calling(subscribed=False) as caller:
        for content_type, name in (("Audit.Exchange", "Audit_Exchange"), ("DLP.All", "DLP_All")):
            await caller.start(content_type)
            named = (await caller.list_week(content_type))[0]
            pattern = rf"(\d{{23}})\$\d{{23}}\${name.lower()}\${name}\$[a-z]+\d{{4}}"
            match = re.fullmatch(pattern, named["contentId"])
            assert match is not None
            assert match[1][:17] == re.sub(r"\D", "", named["contentCreated"])


@in_loop
async def test_a_blob_is_an_array_of_the_records_own_bytes() -> None:
    """Contract 2.5: what the source wrote is what is served, non-ASCII included."""
    async with calling("behaviour: {duplicates: false}") as caller:
        blobs = await caller.list_week()
        served = [record for named in blobs for record in await caller.fetch_records(named["contentId"])]
    week = SmallSource().records_between(START.replace(minute=0) - 7 * DAY, START.replace(minute=0))
    assert set(served) <= {record.body for record in week}
    assert all("zoë".encode() in record for record in served)


@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/json; charset=utf-8"])
@in_loop
async def test_the_media_type_of_blobs_is_a_switch(media_type: str) -> None:
    """Contract 7.5: octet-stream and JSON."""
    async with calling(f"behaviour: {{blob_media_type: '{media_type}'}}") as caller:
        reply = await caller.fetch((await caller.list_week())[0]["contentId"])
    assert reply.headers["Content-Type"] == media_type


@in_loop
async def test_a_blob_is_compressed_for_those_who_take_it() -> None:
    """Contract 7.5: gzip when asked, the same bytes otherwise."""
    async with calling() as caller:
        caller.session._auto_decompress = False
        content_id = (await caller.list_week())[0]["contentId"]
        packed = await caller.fetch(content_id, headers={"Accept-Encoding": "gzip, deflate"})
        plain = await caller.fetch(content_id, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(("switch", "days"), [("{}", 7), ("{expiration_days: 20}", 20)])
@in_loop
async def test_content_expiration_is_a_switch(switch: str, days: int) -> None:
    """Contract 7.4: 7 days documented, 20 observed."""
    async with calling(f"behaviour: {switch}") as caller:
        named = (await caller.list_week())[0]
    created, expires = (datetime.fromisoformat(named[key]) for key in ("contentCreated", "contentExpiration"))
    assert expires - created == timedelta(days=days)


@in_loop
async def test_an_expired_blob_cannot_be_fetched() -> None:
    """Contract 3.1: AF20051 from contentExpiration on."""
    async with calling("behaviour: {expiration_days: 1}") as caller:
        old, young = (await caller.list_week())[:: len(await caller.list_week()) - 1]
        replies = [await caller.fetch(named["contentId"]) for named in (old, young)]
    assert (replies[0].status, replies[0].code) == (400, "AF20051")
    assert replies[1].status == 200


@in_loop
async def test_a_blob_that_is_not_there_is_told_from_one_that_cannot_be() -> None:
    """Contract 3.1: AF20050 under 404 for an unknown id, AF20052 for one that is none."""
    async with calling() as caller:
        content_id = (await caller.list_week())[0]["contentId"]
        unknown = await caller.fetch(f"{content_id[:17]}999999{content_id[23:]}")
        invalid = await caller.fetch("nonsense")
        no_time = await caller.fetch("9" * 23 + content_id[23:])
    assert (unknown.status, unknown.code) == (404, "AF20050")
    assert (invalid.status, invalid.code, no_time.code) == (400, "AF20052", "AF20052")


@in_loop
async def test_a_blob_of_the_future_does_not_exist() -> None:
    """Nobody can fetch what has not come out."""
    async with calling() as caller:
        tenant = caller.running.tenants[0]
        tenant.publication.make(START, START + DAY)
        later = [blob for blob in tenant.publication.blobs(EXCHANGE) if blob.created_at > START]
        assert (await caller.fetch(later[0].content_id)).code == "AF20050"


@in_loop
async def test_a_restarted_simulator_still_has_its_blobs() -> None:
    """The same seed gives the same ids and bodies, even if nothing was listed since the start."""
    async with calling() as caller:
        content_id = (await caller.list_week())[10]["contentId"]
        before = await caller.fetch(content_id)
    async with calling() as caller:
        after = await caller.fetch(content_id)
    assert before.body == after.body


@in_loop
async def test_a_path_with_another_tenant_is_refused() -> None:
    """Contract 3.1: AF20013 for no GUID, AF20010 for another, AF20052 on a blob."""
    other = "0f0f0f0f-0000-4000-8000-000000000000"
    async with calling() as caller:
        content_id = (await caller.list_week())[0]["contentId"]
        urls = [
            caller.feed_url("subscriptions/list", {}, tenant="contoso"),
            caller.feed_url("subscriptions/list", {}, tenant=other),
            caller.feed_url(f"audit/{content_id}", {}, tenant=other),
        ]
        codes = [(await caller.send("GET", url)).code for url in urls]
    assert codes == ["AF20013", "AF20010", "AF20052"]


@in_loop
async def test_the_application_id_stands_for_the_tenant() -> None:
    """Contract 1.1: one collector puts it into the path, and it works but for blobs."""
    async with calling() as caller:
        url = caller.feed_url("subscriptions/list", {}, tenant=caller.identity.client_id)
        assert (await caller.send("GET", url)).status == 200


@in_loop
async def test_both_spellings_of_the_root_are_served() -> None:
    """Contract 1.1: /api/v1.0/ on the wire, /api/v1/ in the documents."""
    async with calling() as caller:
        url = caller.feed_url("subscriptions/list", {}).replace("/v1.0/", "/v1/")
        assert (await caller.send("GET", url)).status == 200


@in_loop
async def test_answers_carry_the_usual_headers() -> None:
    """Contract 2: the headers of the documented samples."""
    async with calling() as caller:
        headers = (await caller.get("subscriptions/list")).headers
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert (headers["Pragma"], headers["Expires"]) == ("no-cache", "-1")
    assert "Retry-After" not in headers


@in_loop
async def test_sensitive_types_are_named_in_one_language() -> None:
    """Contract 2.8: ids and names; AF20053 for two languages, AF20054 for none."""
    async with calling() as caller:
        url = caller.feed_url("resources/dlpSensitiveTypes", {})
        named = (await caller.send("GET", url)).document
        two = await caller.send("GET", url, headers={"Accept-Language": "en-US, de-DE"})
        wrong = await caller.send("GET", url, headers={"Accept-Language": "!"})
    assert set(named[0]) == {"id", "name"}
    assert (two.code, wrong.code) == ("AF20053", "AF20054")


@in_loop
async def test_records_come_again_with_other_key_order_days_later() -> None:
    """Contract 7.6: one record in two blobs, its keys in another order."""
    async with calling(per_hour=20, days=7) as caller:
        counts, created = await copies(caller)
    again = {name for name, texts in counts.items() if len(texts) > 1}
    assert again
    assert max(max(created[name]) - min(created[name]) for name in again) > DAY


@in_loop
async def test_a_record_can_come_twice_in_one_blob() -> None:
    """Contract 5.2: duplicates inside one blob, and one Id with two operations."""
    async with calling(per_hour=60) as caller:
        twice, operations = 0, Counter[str]()
        for named in await caller.list_week():
            records = (await caller.fetch(named["contentId"])).document
            ids = Counter((record["Id"], record["Operation"]) for record in records)
            twice += any(count > 1 for count in ids.values())
            operations.update(record["Operation"] for record in records)
    assert twice > 0
    assert operations["FileAccessedExtended"] > 0


@in_loop
async def test_a_good_day_without_duplicates_has_none() -> None:
    """The switch `duplicates: false`."""
    async with calling("behaviour: {duplicates: false}", per_hour=30) as caller:
        truth = caller.running.tenants[0].truth()
    assert truth.served == truth.record_count


@pytest.mark.parametrize("size", [10, 100])
@in_loop
async def test_blobs_can_have_one_size(size: int) -> None:
    """`blob_records`: full blobs but for the last of a day, each record once."""
    async with calling(blob_records=size, live=False, per_hour=50) as caller:
        truth = caller.running.tenants[0].truth()
        blobs = caller.running.tenants[0].publication.blobs(EXCHANGE)
        assert Counter(len(blob.lengths) for blob in blobs)[size] >= len(blobs) - 8
    assert truth.served == truth.record_count


async def copies(caller: Caller) -> tuple[dict[str, set[str]], dict[str, list[datetime]]]:
    texts: dict[str, set[str]] = {}
    created: dict[str, list[datetime]] = {}
    for named in await caller.list_week():
        for record in (await caller.fetch(named["contentId"])).document:
            key = f"{record['Id']}/{record['Operation']}"
            texts.setdefault(key, set()).add(json.dumps(record))
            created.setdefault(key, []).append(datetime.fromisoformat(named["contentCreated"]))
    return texts, created
