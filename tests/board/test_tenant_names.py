"""Tenants have names where there are several: nobody knows them by their ids."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from asking import ask, board_of, view_of
from m365watch.board.access import Access, Role
from m365watch.board.pages import alerts
from m365watch.board.pages.health_words import feed_words, names_of
from m365watch.board.shapes import Queue
from m365watch.board.sources import Sources
from m365watch.board.tenant_names import name_tenants
from m365watch.model import ContentType, Feed, TenantId

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
