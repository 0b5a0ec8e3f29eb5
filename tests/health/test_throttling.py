"""Throttled answers are counted by tenant and hour, and remembered for 15 days."""

from __future__ import annotations

from datetime import timedelta

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.sources.pull_cycles import PullCycles
from m365watch.sources.throttling import HOUR_S, HOURS_KEPT, TENANTS_MAX, ThrottlingBook
from m365watch_testing.clock import START, FakeClock

TENANT = TenantId("11111111-1111-4111-8111-111111111111")
NOW_H = int(START.timestamp()) // HOUR_S


def test_answers_are_counted_by_the_hour() -> None:
    """The tenant of the feed on whose behalf the request was made has it, in the hour of the answer."""
    cycles = PullCycles(FakeClock())
    feed = Feed(TENANT, ContentType.EXCHANGE)

    cycles.count_throttled(str(feed))
    cycles.count_throttled(f"{TENANT}/subscriptions")

    assert cycles.throttling.by_tenant == {TENANT: {NOW_H: 2}}
    assert cycles.throttling.is_changed


def test_what_is_remembered_is_added_to() -> None:
    """The next run goes on counting; what cannot be read is nothing."""
    book = ThrottlingBook()
    book.note(TENANT, START)

    again = ThrottlingBook.of_body(book.body())
    again.note(TENANT, START + timedelta(minutes=1))
    again.add("[]")

    assert again.by_tenant == {TENANT: {NOW_H: 2}}
    assert not ThrottlingBook.of_body("no JSON").by_tenant


def test_old_hours_and_many_tenants_are_left_out() -> None:
    """The book stays small however long a collector runs, and however many tenants it has."""
    book = ThrottlingBook()
    book.note(TENANT, START - timedelta(hours=HOURS_KEPT))
    book.note(TENANT, START - timedelta(hours=HOURS_KEPT - 1))
    book.note(TENANT, START)
    for number in range(TENANTS_MAX + 5):
        book.note(f"tenant-{number}", START)

    assert sorted(book.by_tenant[TENANT]) == [NOW_H - HOURS_KEPT + 1, NOW_H]
    assert len(book.by_tenant) == TENANTS_MAX
