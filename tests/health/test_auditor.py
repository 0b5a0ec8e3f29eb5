"""Audits over a scripted tenant: what they list, what they compare, what they mend."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
import structlog
from promises import guarantee

from m365watch.common.errors import AccessRefused, LedgerUnusable, Unavailable, WindowRefused
from m365watch.common.model import BlobRef, BlobState, ContentType, Feed, TenantId, Window
from m365watch.health.completeness.audit_requests import (
    ANSWER_KEPT_S,
    leave_answer,
    leave_request,
    order_of,
    take_answer,
    take_request,
    withdraw_request,
)
from m365watch.health.completeness.audit_scheduler import audit_feeds
from m365watch.health.completeness.auditor import (
    UNANSWERED_S,
    Auditor,
    AuditOrder,
    DailyAudit,
    plan_audit,
)
from m365watch.health.completeness.feed_audit import Counts, FeedAudit
from m365watch.ledger.blob_states import Absent, read_states
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.registry.ports import FeedSource
from m365watch_testing.api import Ask, FakeApi
from m365watch_testing.clock import START
from m365watch_testing.loop import LoopClock, run_jumping

Result = TypeVar("Result")
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE = ContentType.EXCHANGE
FEED = Feed(TENANT, EXCHANGE)
CUT_ID = "{first}$20261117080500000000001$audit_exchange$Audit_Exchange$emea0001"


class Bench:
    """A ledger and a tenant, as they differ."""

    def __init__(self, folder: Path) -> None:
        self.clock = LoopClock()
        self.api = FakeApi(TENANT, self.clock)
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        self.committed: list[BlobRef] = []

    def publish(self, content_id: str, *, age_h: float, known: bool) -> BlobRef:
        ref = self.api.publish(EXCHANGE, content_id, created_at=self.clock.now() - timedelta(hours=age_h))
        if known:
            self.know([ref])
        return ref

    def know(self, refs: Sequence[BlobRef]) -> None:
        now = self.clock.now()
        self.ledger.commit_listing(FEED, Window(now - timedelta(hours=1), now), refs, complete=False, at=now)

    def listed(self, *, until_h: float) -> None:
        """A listing that ended so many hours ago."""
        end = self.clock.now() - timedelta(hours=until_h)
        window = Window(end - timedelta(hours=24), end)
        self.ledger.commit_listing(FEED, window, [], complete=True, at=end)

    async def audit(self, *, repair: bool = False, days: int = 7) -> FeedAudit:
        auditor = Auditor(compare=self.compare, commit=self.commit if repair else None, clock=self.clock)
        order = AuditOrder(days, repair, "a1")
        return await auditor.audit(FEED, FeedSource(self.api, None), order=order, on_window=self.look_on)

    async def compare(self, feed: Feed, refs: Sequence[BlobRef]) -> Sequence[BlobState | Absent]:
        return read_states(self.ledger.path, feed, refs)

    async def commit(self, _feed: Feed, _window: Window, refs: Sequence[BlobRef]) -> None:
        self.committed += refs
        self.know(refs)

    async def look_on(self) -> None:
        """Nobody looks on."""


def run(folder: Path, use: Callable[[Bench], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        bench = Bench(folder)
        try:
            return await use(bench)
        finally:
            bench.ledger.close()

    return run_jumping(main())


@guarantee(6)
def test_what_the_ledger_does_not_know_is_missing(tmp_path: Path) -> None:
    """On whatever page and day; what it knows and has not delivered waits."""

    async def use(bench: Bench) -> tuple[FeedAudit, list[BlobRef]]:
        gone = [bench.publish(f"gone{age}", age_h=age, known=False) for age in (1, 30, 160)]
        for age in (2, 29, 31, 32, 159):
            bench.publish(f"kept{age}", age_h=age, known=True)
        return await bench.audit(), gone

    audit, gone = run(tmp_path, use)

    assert audit.total == Counts(listed=8, waiting=5, missing=3)
    assert set(audit.missing) == set(gone)
    assert (audit.repaired, audit.remaining, audit.error) == (0, 3, None)
    assert audit.span.start == START - timedelta(days=7) + timedelta(seconds=60)


def test_what_is_newer_than_the_last_listing_is_not_missing(tmp_path: Path) -> None:
    """No listing could have shown it; what one should have is missing. A repair fetches both."""

    async def use(bench: Bench) -> tuple[FeedAudit, FeedAudit, list[BlobRef], BlobRef]:
        bench.listed(until_h=2)
        bench.publish("newer", age_h=1, known=False)
        bench.publish("as new as the end", age_h=2, known=False)
        before = await bench.audit()
        gone = bench.publish("gone", age_h=2.001, known=False)
        return before, await bench.audit(repair=True), bench.committed, gone

    before, after, committed, gone = run(tmp_path, use)

    assert before.total == Counts(listed=2, newer=2)
    assert before.is_proven
    assert after.total == Counts(listed=3, newer=2, missing=1)
    assert (after.missing, after.repaired, len(committed)) == ((gone,), 1, 3)


def test_of_a_feed_that_was_never_listed_nothing_is_too_new(tmp_path: Path) -> None:
    """A ledger that has collected nothing proves nothing."""

    async def use(bench: Bench) -> FeedAudit:
        bench.publish("gone", age_h=0.1, known=False)
        return await bench.audit()

    assert run(tmp_path, use).total == Counts(listed=1, missing=1)


def test_a_repair_makes_the_missing_known_and_nothing_else(tmp_path: Path) -> None:
    """The next audit finds nothing missing."""

    async def use(bench: Bench) -> tuple[FeedAudit, FeedAudit, list[BlobRef]]:
        bench.publish("kept", age_h=3, known=True)
        bench.publish("gone", age_h=4, known=False)
        return await bench.audit(repair=True), await bench.audit(), bench.committed

    first, second, committed = run(tmp_path, use)

    assert (first.total.missing, first.repaired, first.remaining) == (1, 1, 0)
    assert [one.content_id for one in committed] == ["gone"]
    assert second.total == Counts(listed=2, waiting=2)


def test_the_rest_of_a_known_blob_is_not_missing(tmp_path: Path) -> None:
    """A window that starts inside a blob names its rest as another one; its records are the whole one's."""

    async def use(bench: Bench) -> FeedAudit:
        bench.publish(CUT_ID.format(first="20261117075500000000001"), age_h=65 / 60, known=True)
        bench.publish(CUT_ID.format(first="20261117080000000000009"), age_h=1, known=False)
        bench.publish(
            "20261117080001000000002$x$audit_exchange$Audit_Exchange$emea0001", age_h=1, known=False
        )
        return await bench.audit()

    assert run(tmp_path, use).total == Counts(listed=3, waiting=2, missing=1)


def test_the_daily_audit_counts_what_is_missing_before_it_is_known(tmp_path: Path) -> None:
    """And begins anew each day; a rest of a known blob is nothing to warn of."""

    async def use(bench: Bench) -> tuple[list[int], list[FeedAudit]]:
        known = bench.publish(CUT_ID.format(first="20261117075500000000001"), age_h=65 / 60, known=True)
        rest = bench.publish(CUT_ID.format(first="20261117080000000000009"), age_h=1, known=False)
        gone = bench.publish("gone", age_h=1, known=False)
        kept: list[FeedAudit] = []

        async def keep(audit: FeedAudit) -> None:
            kept.append(audit)

        daily = DailyAudit(FEED, compare=bench.compare, keep=keep, clock=bench.clock)
        window = Window(START - timedelta(hours=2), START)
        missing = []
        for _ in range(2):
            daily.begin(window)
            missing.append(await daily.look([known, rest, gone]))
            bench.know([known, rest, gone])
            await daily.end([window], {})
        return missing, kept

    missing, kept = run(tmp_path, use)

    assert missing == [1, 0]
    assert [one.total for one in kept] == [
        Counts(listed=3, waiting=2, missing=1),
        Counts(listed=3, waiting=3),
    ]
    assert [(one.repaired, one.remaining, one.is_proven) for one in kept] == [(1, 0, True), (0, 0, True)]


def test_what_passes_is_tried_again_and_what_does_not_is_told(tmp_path: Path) -> None:
    """A broken page costs a pause; a refusal ends the feed's audit, which then proves nothing."""

    async def use(bench: Bench) -> tuple[FeedAudit, FeedAudit]:
        bench.publish("kept", age_h=3, known=True)
        bench.api.fail(Ask.PAGE, Unavailable("HTTP 503"), times=2)
        passed = await bench.audit()
        bench.api.fail(Ask.PAGE, AccessRefused("AF10001", fix="grant it"), times=-1)
        return passed, await bench.audit()

    passed, refused = run(tmp_path, use)

    assert passed.is_proven
    assert passed.total.listed == 1
    assert not refused.is_proven
    assert refused.fix == "grant it"


def test_a_service_that_never_answers_is_given_up_soon(tmp_path: Path) -> None:
    """It is told at once how long it is tried, once for all feeds, and no further feed waits for it."""

    async def use(bench: Bench) -> tuple[list[str | None], float, int]:
        bench.api.fail(Ask.SUBSCRIPTIONS, Unavailable("no connection"), times=-1)
        auditor = Auditor(compare=bench.compare, commit=None, clock=bench.clock)
        began_s = bench.clock.monotonic_s()
        audits = [
            await auditor.audit(
                FEED, FeedSource(bench.api, None), order=AuditOrder(), on_window=bench.look_on
            )
            for _ in range(5)
        ]
        calls = len([one for one in bench.api.asked if one.ask is Ask.PAGE])
        return [one.error for one in audits], bench.clock.monotonic_s() - began_s, calls

    with structlog.testing.capture_logs() as lines:
        errors, took_s, calls = run(tmp_path, use)

    assert errors == ["no connection"] * 5
    assert UNANSWERED_S <= took_s < UNANSWERED_S * 2 + 5
    assert calls == 0
    assert [line["event"] for line in lines] == ["no connection; it is tried for 30 s"]


def test_a_service_that_has_answered_is_waited_for(tmp_path: Path) -> None:
    """Nothing for 20 s and then all of it: that is a proof."""

    async def use(bench: Bench) -> FeedAudit:
        bench.publish("kept", age_h=3, known=True)
        bench.api.fail(Ask.SUBSCRIPTIONS, Unavailable("no connection"), times=3)
        return await bench.audit()

    assert run(tmp_path, use).is_proven


def test_a_ledger_that_cannot_be_read_ends_the_audit(tmp_path: Path) -> None:
    """It is no error of one feed's listing, and there is no result."""

    async def use(bench: Bench) -> None:
        async def compare(_feed: Feed, _refs: Sequence[BlobRef]) -> Sequence[BlobState | Absent]:
            raise LedgerUnusable("the ledger cannot be read", fix="start `m365watch run` again")

        async def nothing(_: object) -> None:
            """Nobody listens."""

        bench.publish("kept", age_h=3, known=True)
        auditor = Auditor(compare=compare, commit=None, clock=bench.clock)
        feeds = {Feed(TENANT, kind): FeedSource(bench.api, None) for kind in (EXCHANGE, ContentType.DLP)}
        await audit_feeds(auditor, feeds, order=AuditOrder(), keep=nothing, on_progress=nothing)

    with pytest.raises(LedgerUnusable, match="cannot be read"):
        run(tmp_path, use)


def test_an_edge_that_the_service_refuses_gives_way(tmp_path: Path) -> None:
    """The oldest window starts later instead, and the rest is proven."""

    async def use(bench: Bench) -> FeedAudit:
        bench.api.served = timedelta(days=7) - timedelta(minutes=30)
        bench.publish("kept", age_h=160, known=True)
        return await bench.audit()

    audit = run(tmp_path, use)

    assert audit.is_proven
    assert audit.total == Counts(listed=1, waiting=1)


def test_a_window_that_stays_refused_is_told(tmp_path: Path) -> None:
    """The pages of one window expire again and again: that is no proof."""

    async def use(bench: Bench) -> FeedAudit:
        bench.api.fail(Ask.PAGE, WindowRefused("AF20031"), times=-1)
        return await bench.audit()

    assert not run(tmp_path, use).is_proven


@pytest.mark.parametrize(("days", "hours"), [(1, 24), (3, 72), (7, 168)])
def test_an_audit_covers_the_days_that_are_asked_for(days: int, hours: int) -> None:
    """Without a hole, each window at most 24 h."""
    windows = sorted(plan_audit(START, start_at=None, days=days))

    assert all(before.end == after.start for before, after in pairwise(windows))
    assert all(one.end - one.start <= timedelta(hours=24) for one in windows)
    covered = windows[-1].end - windows[0].start
    assert timedelta(hours=hours) - timedelta(seconds=60) <= covered <= timedelta(hours=hours)


def test_each_request_is_taken_once(tmp_path: Path) -> None:
    """As it was left, the first one first, and none in place of another; afterwards they are gone."""
    orders = [AuditOrder(3, repair=True, number="0f1e"), AuditOrder(7, repair=False, number="0a0b")]
    for place, order in enumerate(orders):
        leave_request(tmp_path, order)
        os.utime(tmp_path / f"audit-{order.number}.request", (place, place))

    assert [take_request(tmp_path) for _ in orders] == orders
    assert take_request(tmp_path) is None
    assert not withdraw_request(tmp_path, orders[0])
    assert list(tmp_path.iterdir()) == []


def test_each_request_has_an_answer_of_its_own(tmp_path: Path) -> None:
    """It is taken once; one that nobody takes goes once it is old."""
    orders = [AuditOrder(7, repair=False, number=number) for number in ("a1", "b2", "c3")]
    for order in orders:
        audit = FeedAudit(FEED, START, Window(START, START), remaining=len(str(order.number)), asked="x")
        leave_answer(tmp_path, order, [audit])
        if order.number == "a1":
            long_ago = (tmp_path / "audit-a1.answer").stat().st_mtime - ANSWER_KEPT_S - 1
            os.utime(tmp_path / "audit-a1.answer", (long_ago, long_ago))

    assert [one is None for one in (take_answer(tmp_path, order) for order in orders)] == [True, False, False]
    assert take_answer(tmp_path, orders[2]) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"number": "a1", "days": 70, "repair": true}',
        b'{"number": "../a", "days": 7, "repair": true}',
        b'{"number": "a1", "days": true, "repair": true}',
        b'{"number": "a1", "days": 7, "repair": 1}',
        b'{"number": "' + b"a" * 2000,
    ],
)
def test_a_request_without_sense_is_thrown_away(tmp_path: Path, body: bytes) -> None:
    """Whatever stands in the file, the collector goes on."""
    (tmp_path / "audit-a1.request").write_bytes(body)

    assert order_of(body) is None
    assert take_request(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
