"""The look at service health, with a ledger on disk that fails or is left at any of its calls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest
from promises import guarantee

from m365watch.common.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    LedgerUnavailable,
    Throttled,
    Unavailable,
)
from m365watch.common.model import BlobRef, ContentType, Feed, GraphContent, TenantId, Window
from m365watch.ledger.queries import ledger_for_reading, wanted_bodies
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.sources.feed_errors import Trouble, Troubles
from m365watch.sources.page_spool import KeptPages
from m365watch.sources.poll_loop import OPERATOR_WAIT_S, PollMeans, PollSettings
from m365watch.sources.pull_cycles import PullCycles
from m365watch.sources.service_health import health_poller as health
from m365watch.sources.service_health.health_poller import HealthApi, HealthMeans, HealthPoller, cut
from m365watch.sources.service_health.service_health_client import Kind
from m365watch_testing.clock import START
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

P = ParamSpec("P")
T = TypeVar("T")
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
FEED = Feed(TENANT, GraphContent.SERVICE_HEALTH)


class Crash(BaseException):
    """The process is gone."""


@dataclass(slots=True)
class Graph:
    """Announcements as they are set; a kind may fail."""

    listed: dict[Kind, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    failures: dict[Kind, CollectorError] = field(default_factory=dict)
    asked: list[tuple[Kind, datetime | None]] = field(default_factory=list)

    async def pages(self, kind: Kind, *, since: datetime | None = None) -> AsyncIterator[list[bytes]]:
        self.asked.append((kind, since))
        if kind in self.failures:
            raise self.failures[kind]
        for one in self.listed[kind].values():
            yield [json.dumps(one).encode()]

    def say(self, kind: Kind, name: str, **fields: Any) -> None:
        self.listed[kind][name] = {"id": name, **fields}


class CrashingCalls:
    """Every call is made; before or after the one with a certain number, `failure` is raised."""

    def __init__(self, *, at: int, before: bool = True, failure: BaseException | None = None) -> None:
        self.at, self.before, self.made = at, before, 0
        self.failure = failure or Crash()

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.made += 1
        if self.made == self.at and self.before:
            raise self.failure
        result = verb(*args, **kwargs)
        if self.made == self.at:
            raise self.failure
        return result


class House:
    """A ledger and kept bodies that stay from life to life."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = LoopClock()
        self.graph = Graph()
        self.pages = KeptPages(folder / "announced")
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.told: list[Trouble] = []
        self.woken: list[Feed] = []

    def sweep(self) -> None:
        with ledger_for_reading(self.folder / LEDGER_FILE) as connection:
            self.pages.sweep(TENANT, wanted=wanted_bodies(connection, TENANT, prefix=health.PREFIX))

    def poller(self, calls: LedgerCalls | None = None, *, period_s: float = 300.0) -> HealthPoller:
        calls = calls or CallsInLine()
        return HealthPoller(
            FEED,
            HealthMeans(self.graph, frozenset(Kind), self.pages, self.sweep),
            settings=PollSettings(None, timedelta(), period_s),
            means=PollMeans(
                ledger=self.ledger,
                calls=calls,
                troubles=Troubles(self.ledger, CallsInLine(), self.clock, self.told.append),
                cycles=PullCycles(self.clock),
                clock=self.clock,
                random=Even(),
                on_listed=self.woken.append,
            ),
        )

    def known(self) -> Counter[tuple[str, str]]:
        """Id and time of every record in a body of a blob that the ledger knows."""
        due = self.ledger.due_blobs(FEED, now=self.clock.now(), count_max=1000, besides=frozenset())
        records = [one for blob in due for one in json.loads(self.pages.body(blob.ref))]
        return Counter((one["Id"], one["CreationTime"]) for one in records)


class Even:
    """Chance without surprises."""

    def random(self) -> float:
        return 0.5


async def once(poller: HealthPoller) -> None:
    await poller.run(once=True, stop=asyncio.Event())


@guarantee(7)
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 14))
def test_a_crash_at_any_call_leaves_each_change_known_once(tmp_path: Path, at: int, before: bool) -> None:
    """State, bodies and ledger agree after the next look, wherever the process ended."""

    async def main() -> None:
        house = House(tmp_path)
        for number in range(3):
            house.graph.say(
                Kind.POSTS, f"MC{number}", lastModifiedDateTime=f"2026-11-0{number + 1}T00:00:00Z"
            )
        house.graph.say(Kind.OVERVIEWS, "Exchange", service="Exchange Online", status="serviceOperational")
        crashed = 0
        for number in range(3):
            try:
                await once(house.poller(CrashingCalls(at=at, before=before)))
            except Crash:
                crashed += 1
            await house.clock.sleep(60)
            house.graph.say(Kind.OVERVIEWS, "Exchange", service="Exchange Online", status=f"serviceX{number}")
        await once(house.poller())

        found = house.known()
        assert {name for name, _ in found} == {"MC0", "MC1", "MC2", "Exchange"}
        assert [pair for pair, count in found.items() if count > 1] == []
        assert [count for (name, _), count in found.items() if name != "Exchange"] == [1, 1, 1]
        assert crashed or at > 4

    run_jumping(main())


def test_states_that_are_seen_within_a_second_are_told_apart(tmp_path: Path) -> None:
    """By the time at which they were seen, in the order in which they were."""

    async def main() -> None:
        house = House(tmp_path)
        for status in ("serviceOperational", "serviceDegradation", "serviceOperational"):
            house.graph.say(Kind.OVERVIEWS, "Exchange", service="Exchange Online", status=status)
            await once(house.poller())

        times = sorted(time for _, time in house.known())
        assert len(times) == 3
        assert house.clock.now() - START < timedelta(seconds=1)
        assert datetime.fromisoformat(times[0]) == START.replace(tzinfo=None)

    run_jumping(main())


def test_a_disk_that_is_full_for_a_while_repeats_nothing(tmp_path: Path) -> None:
    """The next look goes on from what the ledger has."""

    async def main() -> None:
        house = House(tmp_path)
        house.graph.say(Kind.POSTS, "MC1", lastModifiedDateTime="2026-11-01T00:00:00Z")
        for at in range(2, 8):
            full = CrashingCalls(at=at, failure=LedgerUnavailable("the disk is full"))
            with pytest.raises(LedgerUnavailable):
                await once(house.poller(full))
            house.graph.say(Kind.POSTS, f"MC{at}", lastModifiedDateTime="2026-11-02T00:00:00Z")
        await once(house.poller())

        assert set(house.known().values()) == {1}
        assert len(house.known()) == 7

    run_jumping(main())


def test_bodies_go_once_their_blobs_are_final(tmp_path: Path) -> None:
    """What is delivered or lost leaves the disk; what the ledger does not know yet stays."""

    async def main() -> None:
        house = House(tmp_path)
        house.graph.say(Kind.POSTS, "MC1", lastModifiedDateTime="2026-11-01T00:00:00Z")
        await once(house.poller())
        [blob] = house.ledger.due_blobs(FEED, now=house.clock.now(), count_max=9, besides=frozenset())
        api = HealthApi(TENANT, house.graph, house.pages, asks=Kind)
        assert json.loads(await api.fetch_blob(blob.ref))[0]["Id"] == "MC1"

        house.ledger.commit_lost(blob.key, "a test", at=house.clock.now())
        await once(house.poller())
        with pytest.raises(ContentLost, match="no longer kept"):
            await api.fetch_blob(blob.ref)

    asyncio.run(main())


def test_a_kind_that_fails_holds_no_other_up(tmp_path: Path) -> None:
    """Posts arrive without a permission for issues, whose overviews would be told without them."""

    async def main() -> None:
        house = House(tmp_path)
        house.graph.say(Kind.POSTS, "MC1", lastModifiedDateTime="2026-11-01T00:00:00Z")
        house.graph.say(Kind.OVERVIEWS, "Exchange", service="Exchange Online", status="serviceOperational")
        house.graph.failures[Kind.ISSUES] = AccessRefused("a role is missing", fix="grant it", where="here")
        poller = house.poller()
        await once(poller)

        assert [name for name, _ in house.known()] == ["MC1"]
        assert not poller.caught_up
        [told] = house.told
        assert told.code == "access_refused"
        assert told.text.endswith("; grant it")
        assert Kind.OVERVIEWS not in [kind for kind, _ in house.graph.asked]

    run_jumping(main())


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (Throttled("slower", after_s=40.0), 40.0),
        (Unavailable("HTTP 503"), 0.5),
        (BadAnswer("no page"), 0.5),
        (AccessRefused("no", fix="grant it"), OPERATOR_WAIT_S),
    ],
)
def test_a_failure_pauses_as_long_as_it_asks_for(
    tmp_path: Path, error: CollectorError, pause_s: float
) -> None:
    """And the next look makes up for it."""

    async def main() -> None:
        house = House(tmp_path)
        house.graph.failures[Kind.POSTS] = error
        stop, poller = asyncio.Event(), house.poller()
        running = asyncio.create_task(poller.run(once=False, stop=stop))
        began_s = house.clock.monotonic_s()
        await house.clock.sleep(0.1)
        house.graph.failures.clear()
        while not poller.caught_up:
            await house.clock.sleep(0.1)
        assert house.clock.monotonic_s() - began_s == pytest.approx(pause_s, abs=0.3)
        stop.set()
        await running

    run_jumping(main())


def test_all_is_read_again_once_a_day(tmp_path: Path) -> None:
    """In between what was modified from an hour before the latest on; a clock set back reads all, too."""

    async def main() -> None:
        house = House(tmp_path)
        house.graph.say(Kind.POSTS, "MC1", lastModifiedDateTime="2026-11-01T02:00:00Z")
        stop, poller = asyncio.Event(), house.poller(period_s=3_600.0)
        running = asyncio.create_task(poller.run(once=False, stop=stop))
        await house.clock.sleep(25 * 3_600.0 + 60)
        stop.set()
        await running

        posts = [since for kind, since in house.graph.asked if kind is Kind.POSTS]
        assert [place for place, since in enumerate(posts) if since is None] == [0, 24]
        assert {f"{since:%d %H:%M}" for since in posts if since} == {"01 01:00"}
        assert {since for kind, since in house.graph.asked if kind is Kind.OVERVIEWS} == {None}
        [span] = house.ledger.coverage(FEED)
        assert span.end > span.start + timedelta(hours=24)

    run_jumping(main())


def test_there_is_nothing_to_subscribe_to_or_list(tmp_path: Path) -> None:
    """But asking whether the service may be read at all fails as a look would."""

    async def main() -> None:
        house = House(tmp_path)
        api = HealthApi(TENANT, house.graph, house.pages, asks=Kind)
        assert await api.enabled_subscriptions() == frozenset()
        await api.start_subscription(ContentType.EXCHANGE)
        now = house.clock.now()
        assert [page async for page in api.list_content(ContentType.EXCHANGE, Window(now, now))] == [[]]
        house.graph.failures[Kind.POSTS] = AccessRefused("no", fix="grant it")
        with pytest.raises(AccessRefused):
            await api.enabled_subscriptions()
        with pytest.raises(ContentLost):
            await api.fetch_blob(BlobRef(FEED, "announced:1:1", now, now))

    asyncio.run(main())


def test_blobs_are_cut_by_count_and_by_size() -> None:
    """No record is lost, and the order stays."""
    many = [b"%d" % number for number in range(450)]
    large = [b"x" * (3 << 20)] * 4

    assert [len(lot) for lot in cut(many)] == [200, 200, 50]
    assert [one for lot in cut(many) for one in lot] == many
    assert [len(lot) for lot in cut(large)] == [2, 2]
    assert cut([]) == []
