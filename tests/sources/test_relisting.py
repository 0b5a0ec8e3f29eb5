"""When the week is listed again: once a day, each tenant at its own time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import TenantId, Window
from m365watch.sources.management_api.feed_poller import (
    CATCH_UP,
    LIVE,
    in_background,
    relisting_due_at,
    share_of_day,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TENANTS = [TenantId(f"{number:08d}-0000-4000-8000-000000000001") for number in range(500)]
tenants = st.uuids().map(lambda guid: TenantId(str(guid)))
instants = st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2027, 1, 1)).map(  # noqa: DTZ001 - the next line adds the zone
    lambda at: at.replace(tzinfo=UTC)
)


@guarantee(2)
@given(tenants, instants)
def test_the_next_relisting_comes_within_a_day(tenant: TenantId, relisted_at: datetime) -> None:
    """Never at once, never later than 24 h, and from then on every 24 h."""
    due_at = relisting_due_at(tenant, relisted_at)

    assert timedelta(0) < due_at - relisted_at <= DAY
    assert relisting_due_at(tenant, due_at) == due_at + DAY


def test_tenants_are_spread_over_the_day() -> None:
    """Of 500 tenants no hour has more than a tenth, and none is left without any."""
    hours = Counter(relisting_due_at(tenant, NOW).hour for tenant in TENANTS)

    assert len(hours) == 24
    assert max(hours.values()) < 50


@given(tenants, instants, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30)))
def test_what_was_due_while_nothing_ran_is_spread_too(
    tenant: TenantId, relisted_at: datetime, off: timedelta
) -> None:
    """After a start 500 tenants do not begin at once, and all have begun after an hour."""
    started_at = relisted_at + off
    due_at = relisting_due_at(tenant, relisted_at, started_at=started_at)
    plain = relisting_due_at(tenant, relisted_at)

    assert due_at == (plain if plain >= started_at else started_at + share_of_day(tenant) * CATCH_UP)


def test_all_but_the_youngest_hours_are_background() -> None:
    """Windows are cut where live requests begin to have precedence, and cover the same."""
    windows = [
        Window(NOW - 26 * timedelta(hours=1), NOW - timedelta(hours=2)),
        Window(NOW - 3 * DAY, NOW - 2 * DAY),
    ]

    cut = in_background(windows, NOW)

    assert cut == [
        Window(NOW - LIVE, windows[0].end),
        Window(windows[0].start, NOW - LIVE),
        windows[1],
    ]
