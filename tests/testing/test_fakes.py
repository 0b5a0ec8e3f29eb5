"""The fakes keep the promises of the ports that they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import pytest

from m365watch.common.errors import ContentLost, NotSubscribed, Unavailable, WindowRefused
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.registry.outputs import Output
from m365watch_testing.api import Ask, FakeApi
from m365watch_testing.batches import make_record
from m365watch_testing.clock import START
from m365watch_testing.loop import Deadlock, LoopClock, run_jumping
from m365watch_testing.output_contract import OutputContract
from m365watch_testing.outputs import FakeDisk, FakeOutput

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE = ContentType.EXCHANGE
WINDOW = Window(START - timedelta(hours=1), START)


class FakePlace:
    """A fake disk under the contract of all outputs."""

    exactly_once = True
    keeps_order = True

    def __init__(self, *, can_undo: bool) -> None:
        self.can_undo = can_undo
        self.disk = FakeDisk()

    def make(self) -> FakeOutput:
        output = FakeOutput("fake", self.disk, can_undo=self.can_undo)
        output.refuses = {make_record(7, note="refused"): "refused"}
        return output

    async def kill(self, output: Output) -> None:
        self.disk.crash()

    def records_in(self) -> list[bytes]:
        return self.disk.records

    def refusable_record(self) -> bytes | None:
        return make_record(7, note="refused")

    def filled(self) -> AbstractContextManager[None] | None:
        return self._full()

    @contextmanager
    def _full(self) -> Iterator[None]:
        self.disk.is_full = True
        yield
        self.disk.is_full = False


class TestFakeOutput(OutputContract):
    @pytest.fixture(params=[True, False], ids=["undoes", "owns up"])
    def place(self, request: pytest.FixtureRequest) -> FakePlace:
        return FakePlace(can_undo=request.param)


def test_a_loop_whose_tasks_all_wait_is_a_deadlock() -> None:
    """A test that would hang fails instead."""

    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_jumping(wait_for_ever())


def test_time_jumps_from_timer_to_timer() -> None:
    """A week passes at once, and in the order of the timers."""

    async def sleep_in_turns() -> list[float]:
        clock = LoopClock()
        woken = []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(clock.monotonic_s())

        await asyncio.gather(*(sleep(seconds) for seconds in (604_800.0, 1.0, 3_600.0)))
        assert clock.now() - START == timedelta(days=7)
        return woken

    assert run_jumping(sleep_in_turns()) == [1.0, 3_600.0, 604_800.0]


def test_a_listing_shows_what_was_created_in_its_window_and_has_come_out() -> None:
    """Half-open, page by page; what comes out late is not there before."""

    async def main() -> list[list[str]]:
        api = FakeApi(TENANT, LoopClock(), page_blobs=2)
        for name, before in (("start", 60), ("middle", 30), ("last", 1), ("end", 0)):
            api.publish(EXCHANGE, name, created_at=START - timedelta(minutes=before))
        late = START + timedelta(minutes=1)
        api.publish(EXCHANGE, "late", created_at=WINDOW.start, listed_at=late)
        return [[blob.content_id for blob in page] async for page in api.list_content(EXCHANGE, WINDOW)]

    assert run_jumping(main()) == [["start", "middle"], ["last"]]


def test_a_listing_is_refused_as_the_service_refuses_it() -> None:
    """Without a subscription, over 24 h, or from before what is served."""

    async def main() -> None:
        api = FakeApi(TENANT, LoopClock())
        for window in (
            Window(START - timedelta(hours=25), START),
            Window(START - timedelta(days=8), START - timedelta(days=7, hours=1)),
            Window(START, START),
        ):
            with pytest.raises(WindowRefused):
                await anext(api.list_content(EXCHANGE, window))
        api.enabled.clear()
        with pytest.raises(NotSubscribed):
            await anext(api.list_content(EXCHANGE, WINDOW))
        await api.start_subscription(EXCHANGE)
        assert await anext(api.list_content(EXCHANGE, WINDOW)) == []

    run_jumping(main())


def test_a_scripted_failure_meets_its_call() -> None:
    """The nth of its kind and subject, so many times, and no other."""

    async def main() -> list[str]:
        api = FakeApi(TENANT, LoopClock())
        one, two = (api.publish(EXCHANGE, name, created_at=START) for name in ("one", "two"))
        api.fail(Ask.FETCH, Unavailable("HTTP 503"), about="one", at=2, times=2)
        met = []
        for ref in (one, two, one, two, one, one):
            try:
                await api.fetch_blob(ref)
            except Unavailable:
                met.append("failed")
            else:
                met.append("brought")
        with pytest.raises(ContentLost):
            await api.fetch_blob(BlobRef(Feed(TENANT, EXCHANGE), "never", START, START))
        return met

    assert run_jumping(main()) == ["brought", "brought", "failed", "brought", "failed", "brought"]
