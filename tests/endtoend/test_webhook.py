"""Webhook mode against the simulated service: early by notification, whole by polling, each record once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest
from ports import kept_port
from promises import guarantee

from hurry import PATIENCE_HURRIED_S, HurriedClock, run_hurried
from m365watch.common.model import ContentType
from m365watch.runtime.collector import Collector
from m365watch_simulator.service.scenario import Scenario, load_scenario
from m365watch_simulator.service.server import RunningSimulator, SimulationSettings, simulator_running
from m365watch_simulator.service.truth import Truth
from place import FILES, Place

AUTH_ID = "an-auth-id-that-nobody-guesses"
PERIOD_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant whose content comes out while the collector runs, and a collector that polls once an hour."""

    place: Place
    running: RunningSimulator
    clock: HurriedClock
    port: int

    def document(self, *, period_s: float = PERIOD_S, address: str = "") -> dict[str, Any]:
        services = {name: {"request_period_in_seconds": int(period_s)} for name in ("exchange", "sharepoint")}
        document = self.running.configuration(outputs={"files": FILES}, services=services)
        document["globals"]["webhook"] = {
            "address": address or f"http://127.0.0.1:{self.port}/told",
            "listen": f"127.0.0.1:{self.port}",
            "auth_id": AUTH_ID,
        }
        return document

    @asynccontextmanager
    async def collecting(self, **document: Any) -> AsyncIterator[Collector]:
        """A collector that has caught up, and runs until the block ends."""
        collector, stop = self.place.collector(self.document(**document), self.clock), asyncio.Event()
        running = asyncio.create_task(collector.run(once=False, stop=stop))
        try:
            await until(lambda: collector.progress().caught_up)
            yield collector
        finally:
            stop.set()
            assert (await running).problems == ()

    def truth(self) -> Truth:
        return self.running.tenants[0].truth(ContentType.EXCHANGE, ContentType.SHAREPOINT)

    async def assert_whole_after_a_poll(self) -> None:
        """A run that polls alone finds what is missing; nothing was delivered twice or altered."""
        published = self.truth()
        await asyncio.sleep(2)
        collector = self.place.collector(self.document(), self.clock)
        assert (await collector.run(once=True, stop=asyncio.Event())).exit_code == 0
        held = self.place.holdings()["files"]
        now = self.truth().judge(held)

        assert published.judge(held).missing == []
        assert (now.repeated, now.altered) == ([], [])
        assert self.running.report["violations"] == []

    @property
    def requests(self) -> dict[str, int]:
        requests: dict[str, int] = self.running.report["requests"]
        return requests


@asynccontextmanager
async def scene_in(folder: Path, scenario: Scenario | None = None) -> AsyncIterator[Scene]:
    clock = HurriedClock()
    settings = SimulationSettings(
        seed=3,
        days=0.015,
        records_per_day=20_000,
        blob_records=4,
        scenario=scenario,
    )
    with kept_port() as port:
        async with simulator_running(settings, clock=clock) as running:
            yield Scene(Place(folder), running, clock, port)


def hurried(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """`test` run to its end in a loop whose waits are short."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_hurried(test(*args, **kwargs))

    return run


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_HURRIED_S):
        while not holds():
            await asyncio.sleep(0.2)


def delivered(collector: Collector) -> int:
    return sum(row.records_delivered for row in collector.progress().feeds)


def has_delivered(collector: Collector, count: int) -> bool:
    return delivered(collector) >= count


@pytest.mark.slow
@hurried
async def test_content_arrives_within_seconds_of_its_notification(tmp_path: Path) -> None:
    """All that came out has arrived before the next poll, which is an hour away; and once."""
    async with scene_in(tmp_path) as scene:
        async with scene.collecting() as collector:
            had, polls = delivered(collector), scene.requests["subscriptions"]
            # What came out while the first listing was made is the next poll's.
            not_yet = scene.truth().record_count - had
            for _ in range(3):
                await asyncio.sleep(20)
                wanted = scene.truth().record_count - not_yet
                await until(partial(has_delivered, collector, wanted))
            assert delivered(collector) >= had + 4
            assert scene.requests["subscriptions"] == polls
        assert scene.requests["webhook validation"] == 2
        assert scene.requests["webhook notification"] >= 3
        await scene.assert_whole_after_a_poll()


@guarantee(7)
@pytest.mark.slow
@hurried
async def test_what_becomes_of_notifications_changes_nothing_in_the_end(tmp_path: Path) -> None:
    """Lost, doubled, late: polling makes up for it, and nothing arrives twice."""
    async with scene_in(tmp_path, load_scenario("notifications-astray")) as scene:
        async with scene.collecting(period_s=20) as collector:
            had = delivered(collector)
            await until(lambda: delivered(collector) >= had + 12 and len(scene.running.report["faults"]) == 3)
        await scene.assert_whole_after_a_poll()


@guarantee(7)
@pytest.mark.slow
@hurried
async def test_a_port_that_is_taken_leaves_polling_alone(tmp_path: Path) -> None:
    """One line, no webhook at Microsoft, and every record all the same."""
    async with scene_in(tmp_path) as scene:
        with socket.create_server(("127.0.0.1", scene.port)):
            async with scene.collecting(period_s=20) as collector:
                assert delivered(collector)
        assert scene.running.tenants[0].subscriptions.webhook(ContentType.EXCHANGE) is None
        assert "webhook validation" not in scene.requests
        await scene.assert_whole_after_a_poll()


@guarantee(7)
@pytest.mark.slow
@hurried
async def test_a_webhook_that_microsoft_cannot_reach_leaves_polling_alone(tmp_path: Path) -> None:
    """AF20021: the subscription is started without; `once` never asks for a webhook."""
    async with scene_in(tmp_path) as scene:
        with kept_port() as nobody:
            async with scene.collecting(period_s=20, address=f"http://127.0.0.1:{nobody}") as collector:
                assert delivered(collector)
        assert scene.requests["webhook validation"] == 2
        assert scene.running.tenants[0].subscriptions.webhook(ContentType.EXCHANGE) is None
        await scene.assert_whole_after_a_poll()
