"""Notified content becomes known by the listing alone: once, early, and never at polling's cost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

from promises import guarantee

from m365watch.common.errors import Throttled
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.registry.ports import FeedSource
from m365watch.sources.management_api.webhook.notification_worker import (
    PENDING_MAX,
    WINDOWS_MAX,
    NotificationDesk,
    known_contents,
    plan_looks,
)
from m365watch.sources.management_api.webhook.payloads import Notifications, Notified
from m365watch_testing.api import Ask, FakeApi
from m365watch_testing.clock import START
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE = ContentType.EXCHANGE
FEED = Feed(TENANT, EXCHANGE)


class House:
    """A ledger, a tenant that answers as scripted, and a desk."""

    def __init__(self, folder: Path, *, start_before_s: float | None = None) -> None:
        self.clock = LoopClock()
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.api = FakeApi(TENANT, self.clock)
        self.woken: list[Feed] = []
        start_at = None if start_before_s is None else self.clock.now() - timedelta(seconds=start_before_s)
        self.desk = NotificationDesk(
            {FEED: FeedSource(self.api, start_at)},
            ledger=self.ledger,
            calls=CallsInLine(),
            known=partial(known_contents, folder / LEDGER_FILE),
            clock=self.clock,
            on_listed=self.woken.append,
        )

    def publish(self, name: str, *, age_s: float = 60.0, listed_after_s: float = 0.0) -> BlobRef:
        created_at = self.clock.now() - timedelta(seconds=age_s)
        listed_at = self.clock.now() + timedelta(seconds=listed_after_s)
        return self.api.publish(EXCHANGE, name, created_at=created_at, listed_at=listed_at)

    def tell(self, *refs: BlobRef, content_type: ContentType = EXCHANGE) -> None:
        notified = tuple(Notified(content_type, ref.content_id, ref.created_at, True) for ref in refs)
        self.desk.take(Notifications(TENANT, notified, 0, 0))

    def due(self) -> list[BlobRef]:
        return [
            one.ref
            for one in self.ledger.due_blobs(FEED, now=self.clock.now(), count_max=99, besides=frozenset())
        ]


@contextlib.asynccontextmanager
async def working(house: House) -> AsyncIterator[House]:
    task = asyncio.create_task(house.desk.run())
    try:
        yield house
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@guarantee(7)
def test_notified_content_is_known_as_a_poll_would_know_it(tmp_path: Path) -> None:
    """One narrow listing; the poll that comes later finds nothing new, and coverage is polling's alone."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            ref, neighbour = house.publish("a"), house.publish("b", age_s=59.5)
            far = house.publish("c", age_s=600)
            house.tell(ref)
            await house.clock.sleep(2)

            assert set(house.due()) == {ref, neighbour}
            assert house.woken == [FEED]
            [(_, window)] = house.api.windows
            assert window.end - window.start == timedelta(seconds=1)
            assert house.ledger.coverage(FEED) == []
            now = house.clock.now()
            polled = Window(START - timedelta(hours=1), now.replace(microsecond=0))
            new = house.ledger.commit_listing(FEED, polled, [ref, neighbour, far], complete=True, at=now)
            assert new == 1

    run_jumping(main())


def test_what_is_known_already_costs_no_request(tmp_path: Path) -> None:
    """A notification that comes twice, or later than the poll."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            ref = house.publish("a")
            house.ledger.commit_listing(FEED, Window(START, START), [ref], complete=False, at=START)
            house.tell(ref)
            house.tell(ref)
            await house.clock.sleep(60)

            assert house.api.asked == []
            assert house.desk.figures.known == 1

    run_jumping(main())


def test_a_burst_is_one_look_and_a_scattered_one_few(tmp_path: Path) -> None:
    """Content of a few minutes is looked for together; more than so many looks are left to polling."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            refs = [house.publish(f"a{number}", age_s=60.0 + number) for number in range(40)]
            house.tell(*refs)
            await house.clock.sleep(2)
            assert len(house.api.windows) == 1
            assert set(house.due()) == set(refs)

            house.tell(*[house.publish(f"b{number}", age_s=3_600.0 * number) for number in range(1, 40)])
            await house.clock.sleep(2)
            assert len(house.api.windows) == 1 + WINDOWS_MAX

    run_jumping(main())


@guarantee(7)
def test_what_the_listing_does_not_show_yet_is_looked_for_again_and_then_left(tmp_path: Path) -> None:
    """A few seconds later it may be there; what never comes, because nobody has it, is no loss."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            late = house.publish("late", listed_after_s=4)
            house.tell(late)
            await house.clock.sleep(8)
            assert house.due() == [late]

            made_up = BlobRef(FEED, "made-up", house.clock.now(), house.clock.now())
            house.tell(made_up)
            await house.clock.sleep(120)
            assert house.desk.figures.left == 1
            assert house.due() == [late]
            assert house.ledger.feed_progress()[0].blobs_lost == 0

    run_jumping(main())


def test_what_cannot_be_listed_is_not_asked_for(tmp_path: Path) -> None:
    """A notification from the future, from long ago, or of a service that is not collected."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            now = house.clock.now()
            for age in (timedelta(days=8), timedelta(days=-1), timedelta(days=40_000)):
                house.tell(BlobRef(FEED, f"x{age}", now - age if age.days < 40_000 else START, now))
            house.tell(house.publish("a"), content_type=ContentType.DLP)
            house.desk.take(Notifications(TenantId("other"), (Notified(EXCHANGE, "y", now, True),), 0, 0))
            await house.clock.sleep(60)

            assert {window.start for _, window in house.api.windows} == {START}

    run_jumping(main())


def test_a_service_that_throttles_is_left_alone_until_the_next_notification(tmp_path: Path) -> None:
    """Polling has patience; a notification has none."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            house.api.fail(Ask.PAGE, Throttled("slower", after_s=30))
            first, second = house.publish("a"), house.publish("b", age_s=30)
            house.tell(first)
            await house.clock.sleep(60)
            assert house.api.count(Ask.PAGE) == 1
            house.tell(second)
            await house.clock.sleep(2)
            assert house.due() == [second]

    run_jumping(main())


def test_content_before_the_start_time_is_not_collected(tmp_path: Path) -> None:
    """As polling leaves it out."""

    async def main() -> None:
        async with working(House(tmp_path, start_before_s=50.0)) as house:
            house.tell(house.publish("old", age_s=60), house.publish("new", age_s=40))
            await house.clock.sleep(2)
            assert [ref.content_id for ref in house.due()] == ["new"]

    run_jumping(main())


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """The rest is left to polling, and counted."""

    async def main() -> None:
        house = House(tmp_path)
        house.tell(*[house.publish(f"a{number}") for number in range(PENDING_MAX + 5)])
        assert house.desk.figures.left == 5
        async with working(house):
            await house.clock.sleep(2)
            assert len(house.api.windows) == 1

    run_jumping(main())


def test_looks_are_whole_seconds_newest_first_and_none_is_long() -> None:
    """However the notified content lies."""
    notified = [
        Notified(EXCHANGE, f"{number}", START - timedelta(seconds=47 * number, milliseconds=3), True)
        for number in range(500)
    ]
    looks = plan_looks(notified, now=START)

    assert looks == sorted(looks, reverse=True)
    assert all(look.start.microsecond == look.end.microsecond == 0 for look in looks)
    assert all(look.end - look.start <= timedelta(hours=1) for look in looks)
    assert all(any(look.start <= one.near < look.end for look in looks) for one in notified)
    [around] = plan_looks([Notified(EXCHANGE, "x", START, False)], now=START)
    assert around == Window(START - timedelta(minutes=10), START + timedelta(seconds=1))


def test_feeds_that_come_and_go_are_looked_for_from_then_on(tmp_path: Path) -> None:
    """A changed configuration needs no restart of the receiver."""

    async def main() -> None:
        async with working(House(tmp_path)) as house:
            ref = house.publish("a")
            house.desk.change({})
            house.tell(ref)
            await house.clock.sleep(60)
            assert house.api.asked == []
            house.desk.change({FEED: FeedSource(house.api, None)})
            house.tell(ref)
            await house.clock.sleep(2)
            assert house.due() == [ref]

    run_jumping(main())
