"""What a changed configuration leaves as it was: tokens, budgets, and whole tenants."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import Session
from m365watch.http.transport import RawAnswer
from m365watch.sources.factory import KeptAnnouncements, Reach
from m365watch.sources.management_api.request_budget import LimitedBudget
from m365watch.sources.page_spool import KeptPages
from m365watch_testing.loop import LoopClock, run_jumping
from running import Even

ONE, TWO = (f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2))
EXCHANGE, SHAREPOINT = (
    Feed(TenantId(ONE), content_type) for content_type in (ContentType.EXCHANGE, ContentType.SHAREPOINT)
)
OTHER = Feed(TenantId(TWO), ContentType.EXCHANGE)


class Silent:
    """A transport that nobody should use."""

    async def exchange(self, *_: object, **__: object) -> RawAnswer:
        raise AssertionError("a request")

    async def close(self) -> None:
        """Nothing is open."""


def tenants(*ids: str, **changes: object) -> tuple[TenantSettings, ...]:
    credentials = {"tenant_id": list(ids), "client_id": TWO, "client_secret": "secret-of-ours"}
    document = {"inputs": {"office365": {"credentials": credentials} | changes}}
    return parse_settings(document, path=Path("/etc/m365.json"), environment={}).tenants


def reach() -> Reach:
    return Reach(
        Session(Silent(), body_bytes_max=1),
        clock=LoopClock(),
        random=Even(),
        on_request=lambda _: None,
        pages=KeptPages(Path("/nowhere")),
        announced=KeptAnnouncements(KeptPages(Path("/nowhere")), lambda _: None),
    )


@guarantee(31)
def test_what_keeps_its_settings_is_the_very_same() -> None:
    """A tenant that comes beside it, or goes, is no reason to ask for a new token."""

    async def main() -> None:
        one = reach()
        first = one.feeds(tenants(ONE))
        second = one.feeds(tenants(ONE, TWO))
        third = one.feeds(tenants(ONE))

        assert [second[feed] is known and third[feed] is known for feed, known in first.items()] == [True] * 5
        assert OTHER in second
        assert OTHER not in third

    run_jumping(main())


def test_a_service_that_changes_leaves_the_tenants_token_and_its_other_services_alone() -> None:
    """It is only polled otherwise."""

    async def main() -> None:
        one = reach()
        first = one.feeds(tenants(ONE))
        services = dict.fromkeys(("azure_active_directory", "exchange", "sharepoint", "general_audit", "dlp"))
        period = {"request_period_in_seconds": "600"}
        second = one.feeds(tenants(ONE, services=services | {"exchange": period}))

        assert second[SHAREPOINT] is first[SHAREPOINT]
        assert second[EXCHANGE] is not first[EXCHANGE]
        assert second[EXCHANGE].access is first[EXCHANGE].access

    run_jumping(main())


def test_other_credentials_are_another_way_to_all_feeds_of_the_tenant() -> None:
    """None of them goes on with the token of the old ones."""

    async def main() -> None:
        one = reach()
        first = one.feeds(tenants(ONE))
        [tenant] = tenants(ONE)
        second = one.feeds([replace(tenant, client_id=ONE)])

        assert all(second[feed].access is not first[feed].access for feed in first)
        assert len({id(reached.access) for reached in second.values()}) == 1

    run_jumping(main())


@guarantee(31)
def test_a_limit_that_changes_forgets_no_request() -> None:
    """The service counts over any minute, whoever read his configuration again in it."""

    async def main() -> float:
        clock = LoopClock()
        budget = LimitedBudget(2, clock, limits={"feed": 1})
        for _ in range(2):
            await budget.admit("other")
            budget.settle()
        budget.change_all(2, limits={"feed": 1, "third": 5})
        await asyncio.wait_for(budget.admit("other"), 600)
        return clock.monotonic_s()

    assert run_jumping(main()) >= 60


@pytest.mark.parametrize(("before", "after", "at_once"), [(2, 5, 5), (5, 3, 3), (2, None, 6)])
def test_a_limit_that_changes_holds_from_then_on(before: int, after: int | None, at_once: int) -> None:
    """Higher or lower, or none any more: so many requests of one minute, with those made before."""

    async def main() -> list[float]:
        clock = LoopClock()
        budget = LimitedBudget(before, clock, limits={})
        admitted = []
        for number in range(6):
            if number == 2:
                budget.change_all(after, limits={})
            await asyncio.wait_for(budget.admit("feed"), 600)
            admitted.append(clock.monotonic_s())
            budget.settle()
        return admitted

    admitted = run_jumping(main())
    assert [at_s < 60 for at_s in admitted] == [place < at_once for place in range(6)]


def test_a_limit_of_a_feed_that_changes_holds_from_then_on() -> None:
    """Its own limit as well as the tenant's."""

    async def main() -> list[float]:
        clock = LoopClock()
        budget = LimitedBudget(None, clock, limits={"feed": 1})
        admitted = []
        for number in range(4):
            if number == 1:
                budget.change_all(None, limits={"feed": 3})
            await asyncio.wait_for(budget.admit("feed"), 600)
            admitted.append(clock.monotonic_s())
            budget.settle()
        return admitted

    assert [at_s < 60 for at_s in run_jumping(main())] == [True, True, True, False]


def test_a_limit_of_a_feed_that_changes_forgets_no_request_either() -> None:
    """It stays with its feed; one that is taken away bounds nothing more."""

    async def main() -> tuple[float, float]:
        clock = LoopClock()
        budget = LimitedBudget(None, clock, limits={"feed": 1})
        await budget.admit("feed")
        budget.settle()
        budget.change_all(None, limits={"feed": 1})
        await budget.admit("feed")
        budget.settle()
        waited_s = clock.monotonic_s()
        budget.change_all(None, limits={})
        await budget.admit("feed")
        return waited_s, clock.monotonic_s()

    waited_s, free_s = run_jumping(main())
    assert waited_s >= 60
    assert free_s == waited_s
