from __future__ import annotations

import json
from datetime import timedelta

import pytest

from caller import EXCHANGE, START, Caller, SmallSource, calling, in_loop
from m365watch.common.model import ContentType
from m365watch_simulator.feed.copies import identity
from m365watch_simulator.service.scenario import load_scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth
from m365watch_testing.clock import FakeClock


@pytest.mark.slow
@in_loop
async def test_a_plain_collector_finds_the_whole_truth() -> None:
    """What can be listed and fetched, deduplicated, is exactly what `served` promises."""
    async with calling(per_hour=10, subscribed=False) as caller:
        delivered = await collect(caller)
        verdict = caller.running.tenants[0].truth().judge(delivered)
        served = caller.running.tenants[0].served(EXCHANGE)
    assert verdict.flawless
    assert len(served) == len({identity(record) for record in served})


@pytest.mark.parametrize("name", ["incident", "lone-surrogate", "nan", "without-id", "late-appearance"])
@in_loop
async def test_the_truth_holds_under_odd_content(name: str) -> None:
    """The same, where records are late, damaged or without an Id."""
    async with calling(subscribed=False, scenario=load_scenario(name)) as caller:
        verdict = caller.running.tenants[0].truth().judge(await collect(caller))
    assert verdict.flawless


@pytest.mark.parametrize("name", ["expired", "unknown-blob", "invalid-key", "poison"])
@in_loop
async def test_the_truth_leaves_out_what_nobody_can_have(name: str) -> None:
    """Blobs that a scenario never hands out are counted, and their records are not asked for."""
    async with calling(subscribed=False, scenario=load_scenario(name)) as caller:
        truth = caller.running.tenants[0].truth()
        verdict = truth.judge(await collect(caller))
    assert truth.blobs_out_of_reach > 0
    assert verdict.flawless


@in_loop
async def test_the_truth_grows_with_the_clock() -> None:
    """What has not come out yet is not asked for."""
    async with calling(per_hour=20) as caller:
        before = caller.running.tenants[0].truth().record_count
        await caller.clock.sleep(3600)
        assert caller.running.tenants[0].truth().record_count > before


@in_loop
async def test_a_frozen_tenant_has_everything_at_the_start() -> None:
    """`live=False`: nothing follows, and nothing of the past is still to come."""
    async with calling(live=False, days=7) as caller:
        before = caller.running.tenants[0].truth()
        await caller.clock.sleep(3 * 3600)
        after = caller.running.tenants[0].truth()
    assert before.record_count == after.record_count
    assert len(before.texts) >= 165 * 4 * 5


@pytest.mark.slow
@in_loop
async def test_a_frozen_tenant_is_all_there_for_who_lists_whole_seconds() -> None:
    """What came out within its first second was left out by a run at once, and the next one had it."""
    started_at = START + timedelta(milliseconds=900)
    settings = SimulationSettings(
        seed=5,
        days=0.1,
        live=False,
        blob_records=1,
        source=lambda _identity, _now: SmallSource(per_hour=1_000),
    )
    async with simulator_running(settings, clock=FakeClock(started_at, jumps=True)) as running:
        [tenant] = running.tenants
        served = tenant.truth().blobs
        created = [blob.created_at for kind in ContentType for blob in tenant.publication.blobs(kind)]

    assert len(created) == served > 5_000
    assert START - timedelta(seconds=2) < max(created) < START


@in_loop
async def test_the_same_seed_serves_the_same_bytes() -> None:
    """A run can be repeated."""
    runs = []
    for _ in range(2):
        async with calling() as caller:
            named = await caller.list_week()
            runs.append([(each["contentId"], (await caller.fetch(each["contentId"])).body) for each in named])
    assert runs[0] == runs[1]


def test_a_verdict_names_what_is_missing_repeated_and_altered() -> None:
    """Each fault of a collector is found, byte for byte."""
    records = [record(number) for number in range(4)]
    truth = Truth()
    truth.texts = {identity(text) or b"": [text] for text in records}
    truth.without_id[b'{"Id":null}'] = 2
    verdict = truth.judge([records[0], records[1], records[1], records[2] + b" ", b'{"Id":null}'])
    assert verdict.missing == [records[2], records[3], b'{"Id":null}']
    assert verdict.repeated == [records[1]]
    assert verdict.altered == [records[2] + b" "]
    assert not verdict.flawless


def test_any_text_that_was_served_is_right() -> None:
    """A record that came in two key orders may be delivered in either, once."""
    first, second = record(1), json.dumps(dict(reversed(json.loads(record(1)).items()))).encode()
    truth = Truth(texts={identity(first) or b"": [first, second]})
    assert truth.judge([second]).flawless
    assert truth.judge([first, second]).repeated == [second]


def test_the_identity_of_a_record_is_five_fields() -> None:
    """Tenant by its truth, Id, CreationTime, Operation and RecordType; key order does not matter."""
    base = record(1)
    changed = {
        name: identity(json.dumps(json.loads(base) | {name: "other"}).encode())
        for name in ("Id", "CreationTime", "Operation", "RecordType", "UserId")
    }
    same = identity(base)
    assert [name for name, value in changed.items() if value == same] == ["UserId"]
    assert identity(b'{"Operation":"x"}') is None
    assert identity(b"nonsense") is None


def record(number: int) -> bytes:
    fields = {
        "Id": f"id {number}",
        "CreationTime": "2026-11-17T09:00:00",
        "Operation": "x",
        "RecordType": 6,
        "UserId": "a",
    }
    return json.dumps(fields).encode()


async def collect(caller: Caller) -> list[bytes]:
    """What a simple and correct collector delivers: everything once."""
    known: set[bytes] = set()
    delivered = []
    for content_type in ContentType:
        await caller.start(content_type)
        for named in await caller.list_week(content_type):
            for text in await fetch(caller, named["contentId"]):
                name = identity(text)
                if name is None or name not in known:
                    delivered.append(text)
                if name is not None:
                    known.add(name)
    return delivered


async def fetch(caller: Caller, content_id: str) -> list[bytes]:
    reply = await caller.fetch(content_id)
    return await caller.fetch_records(content_id) if reply.status == 200 else []
