"""Tenants have names where there are several: nobody knows them by their ids."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asking import ask, board_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import alerts
from m365watch.board.pages.health.health_cells import feed_words, names_of
from m365watch.board.pages.health.hourly_completeness import rows_of
from m365watch.board.query.completion import list_values
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import distinct, name_tenants
from m365watch.board.query.filter_values import meant
from m365watch.board.widgets.widget_types import Queue
from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.health.completeness.hour_status import FeedHours, HourStanding, HourState

KINDS = ("Audit.Exchange", "DLP.All")
SECOND = TenantId("99999999-9999-4999-8999-999999999999")


@pytest.fixture
def two(sources: Sources) -> Sources:
    """A second tenant, of which nothing has arrived yet."""
    [first] = sources.settings.tenants
    second = replace(first, tenant_id=SECOND, input_name="alderbrook")
    return replace(sources, settings=replace(sources.settings, tenants=(first, second)))


def first_of(sources: Sources) -> TenantId:
    return sources.settings.tenants[0].tenant_id


def test_a_tenant_is_called_by_its_peoples_domain_or_by_its_input(two: Sources) -> None:
    """A feed says whose it is in words of which the end, and not the beginning, may be cut off."""
    feeds = [Feed(tenant, ContentType.EXCHANGE) for tenant in (first_of(two), SECOND)]
    named = asyncio.run(names_of(view_of(), two, feeds))

    assert named[SECOND] == "alderbrook"
    assert "." in named[first_of(two)]
    assert feed_words(feeds[1], named=named) == "alderbrook / Exchange"


def test_two_tenants_of_one_domain_are_told_apart_by_their_beginnings(two: Sources) -> None:
    """The end is what a narrow column cuts off."""
    alike = dict.fromkeys((str(first_of(two)), str(SECOND)), "ostwind.example")

    names = distinct(alike, {str(first_of(two)): "office365", str(SECOND): "office365_2"})

    assert names[SECOND] == "office365_2 (ostwind.example)"
    assert names[first_of(two)] == "office365 (ostwind.example)"


def test_a_tenant_is_found_by_what_it_is_called(two: Sources) -> None:
    """The bar offers its name beside its id, and takes a part of it."""
    view = view_of("range=30d")
    offered = asyncio.run(list_values(view, two, "tenant", "ALDER"))

    assert [(one.text, one.says.partition(",")[0]) for one in offered] == [(SECOND, "alderbrook")]
    assert asyncio.run(meant(view, two, "tenant", "alder")) == SECOND
    assert asyncio.run(meant(view, two, "tenant", "nobody")) == "nobody"


def test_hours_stand_under_their_tenant(two: Sources) -> None:
    """A row has room for one name, and the feed's is the one that differs from row to row."""
    tenants = (first_of(two), SECOND)
    quiet = [HourStanding(HourState.WHOLE, 1, 0)] * 2
    found = [FeedHours(Feed(one, ContentType(kind)), quiet) for kind in KINDS for one in tenants]

    rows = rows_of(view_of(), found, range(2), step_h=1, named={SECOND: "alderbrook"})

    assert [one.group for one in rows] == [first_of(two)] * 2 + ["alderbrook"] * 2
    assert [one.name for one in rows] == [*KINDS, *KINDS]
    assert rows[2].label == "alderbrook / Exchange"


def test_one_tenant_need_not_be_named(sources: Sources) -> None:
    """Then its feeds are called as Microsoft calls them."""
    feed = Feed(first_of(sources), ContentType.EXCHANGE)
    named = asyncio.run(names_of(view_of(), sources, [feed]))

    assert feed_words(feed, named=named) == "Audit.Exchange"


def test_nobody_learns_the_name_of_a_tenant_that_they_may_not_see(two: Sources) -> None:
    """Neither from the configuration nor from records."""
    stranger = Access("bob", Role.VIEWER, tenants=frozenset({str(SECOND)}))

    assert asyncio.run(name_tenants(view_of("", stranger), two)) == {SECOND: "alderbrook"}


def test_alerts_and_filters_say_whose_they_are(two: Sources) -> None:
    """The queue has the tenant beside the title, and a filter for it is not called by its id."""
    shape = asyncio.run(alerts.queue(view_of("range=30d&severity=informational"), two))
    page = asyncio.run(ask(board_of(two), f"/alerts?tenant={first_of(two)}")).text

    assert isinstance(shape, Queue)
    names = {one.tenant.text for one in shape.rows if one.tenant is not None}
    assert len(names) == 1
    assert f"<span>Tenant</span> {names.pop()}<" in page
