from __future__ import annotations

import asyncio
import json
import time

import pytest

from caller import EXCHANGE, START, Caller, SmallSource, calling, in_loop
from m365watch.common.errors import NeedsOperator
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from m365watch_testing.clock import FakeClock


@in_loop
async def test_the_truth_is_served_to_other_processes() -> None:
    """GET /simulator/truth: NDJSON of the distinct records, counts in headers."""
    async with calling(per_hour=20) as caller:
        url = f"{caller.running.url}/simulator/truth"
        everything = await caller.send("GET", url)
        exchange = await caller.send("GET", f"{url}?content_type=Audit.Exchange")
        copies = await caller.send("GET", f"{url}?copies=all")
        wrong = await caller.send("GET", f"{url}?content_type=nonsense")
        truth = caller.running.tenants[0].truth()
        served = caller.running.tenants[0].served(EXCHANGE)
    assert everything.body.splitlines() == truth.records()
    assert exchange.body.splitlines() == served
    assert everything.headers["X-Records"] == str(truth.record_count)
    assert everything.headers["X-Blobs"] == str(truth.blobs)
    assert len(copies.body.splitlines()) > truth.record_count
    assert wrong.code == "AF20020"


@in_loop
async def test_the_report_is_served_to_other_processes() -> None:
    """GET /simulator/report: the same document as in Python."""
    async with calling() as caller:
        await caller.send("GET", f"{caller.running.url}/nowhere")
        reply = await caller.send("GET", f"{caller.running.url}/simulator/report")
        assert reply.document == caller.running.report
    assert reply.document["requests"] == {"token": 1, "start": 1}
    assert len(reply.document["violations"]) == 1


@in_loop
async def test_tenants_do_not_share_records() -> None:
    """Each tenant of one simulator has blobs, subscriptions and counts of its own."""
    async with calling(tenants=derive_identities(5, 2)) as caller:
        other = Caller(caller.session, caller.running, caller.clock, number=1)
        await other.sign_in()
        assert (await other.get("subscriptions/list")).document == []
        await other.start()
        ours, theirs = await caller.list_week(), await other.list_week()
        assert {named["contentId"] for named in ours}.isdisjoint(named["contentId"] for named in theirs)
        borrowed = await other.fetch(ours[0]["contentId"])
    assert borrowed.code == "AF20050"


@in_loop
async def test_the_configuration_fits_the_simulator() -> None:
    """An input for each tenant, with its credentials and the simulator as its cloud."""
    outputs = {"console": {"type": "console"}}
    async with calling(tenants=derive_identities(5, 2)) as caller:
        document = caller.running.configuration(outputs=outputs, services={"exchange": {}})
        identities = [tenant.identity for tenant in caller.running.tenants]
    assert [each["credentials"]["client_secret"] for each in document["inputs"].values()] == [
        identity.client_secret for identity in identities
    ]
    assert document["inputs"]["office365"]["cloud"] == {
        "login_url": caller.running.url,
        "management_url": caller.running.url,
        "graph_url": f"{caller.running.url}/graph",
    }
    assert document["outputs"] == outputs
    assert json.loads(json.dumps(document)) == document


@in_loop
async def test_the_configuration_collects_everything_unless_told() -> None:
    """All five services, and no word about outputs."""
    async with calling() as caller:
        document = caller.running.configuration()
    assert len(document["inputs"]["office365"]["services"]) == 5
    assert "outputs" not in document


@in_loop
async def test_the_service_takes_the_time_it_is_told_to() -> None:
    """`latency_s` comes before every answer."""
    async with calling(latency_s=0.25) as caller:
        await caller.get("subscriptions/list")
    assert caller.clock.slept_s.count(0.25) == 3


@in_loop
async def test_the_simulator_answers_at_once() -> None:
    """With a second's work after its start, a week of 10,000 records a day notwithstanding."""
    began_s = time.process_time()
    async with calling(source=None, records_per_day=10_000, subscribed=False) as caller:
        assert (await caller.start()).status == 200
        assert time.process_time() - began_s < 2


@in_loop
async def test_history_can_be_made_beforehand() -> None:
    """`precompress`: nothing is left to be made at the first request."""
    async with calling(precompress=True) as caller:
        publication = caller.running.tenants[0].publication
        assert publication.missing_hours(START.replace(day=9), START) == []


@in_loop
async def test_a_port_that_is_taken_is_one_clear_line() -> None:
    """The operator is told which port and what to do."""
    async with calling() as caller:
        port = int(caller.running.url.rpartition(":")[2])
        with pytest.raises(NeedsOperator, match=f"port {port} .*; choose another with --port"):
            async with simulator_running(SimulationSettings(), clock=FakeClock(START), port=port):
                raise AssertionError


@in_loop
async def test_the_simulator_leaves_nothing_behind() -> None:
    """After the block its port is free and its tasks have ended."""
    settings = SimulationSettings(source=lambda _identity, _now: SmallSource())
    async with simulator_running(settings, clock=FakeClock(START)) as running:
        port = int(running.url.rpartition(":")[2])
    assert len(asyncio.all_tasks()) == 1
    async with simulator_running(settings, clock=FakeClock(START), port=port) as running:
        assert running.url.endswith(f":{port}")
