"""Tenants that come, change and go while a run lasts, and one that stops alone and comes back alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import ConsentMissing, Defect, PermissionMissing
from m365watch.common.model import TenantId
from m365watch.sources.management_api.fetch_attempts import FETCHES_MAX
from m365watch.sources.poll_loop import OPERATOR_WAIT_S
from m365watch_testing.api import Ask
from running import ONE, PERIOD_S, THREE, TWO, Site, feed, run

REVOKED = ConsentMissing("AADSTS700016: the application was not found in the tenant", fix="consent again")
HOURS_S = 3 * 3_600


def test_a_tenant_that_is_added_is_collected_and_the_others_notice_nothing(tmp_path: Path) -> None:
    """Theirs go on in their rhythm: the very same pollers."""

    async def use(site: Site) -> tuple[list[str], int, int]:
        feeds = site.reached(ONE)
        site.publish(TWO, 3)
        async with site.collecting(feeds):
            await asyncio.sleep(PERIOD_S / 2)
            asked = site.apis[ONE].count(Ask.PAGE)
            await site.run.change(feeds | site.reached(TWO))
            await asyncio.sleep(10)
            return site.held(), asked, site.apis[ONE].count(Ask.PAGE)

    held, before, after = run(tmp_path, use)

    assert sorted(held) == ["2-1", "2-2", "2-3"]
    assert before == after > 0


@guarantee(31)
def test_a_tenant_that_is_removed_is_left_alone_and_comes_back_where_it_was(tmp_path: Path) -> None:
    """Not one request more; what came meanwhile is collected afterwards, and nothing twice."""

    async def use(site: Site) -> tuple[int, list[str], list[str], int]:
        feeds = site.reached(ONE, TWO)
        site.publish(ONE)
        site.publish(TWO)
        async with site.collecting(feeds):
            await asyncio.sleep(10)
            await site.run.change({feed(ONE): feeds[feed(ONE)]})
            asked = len(site.apis[TWO].asked)
            await asyncio.sleep(3_600)
            more = len(site.apis[TWO].asked) - asked
            site.publish(TWO, 2)
            before = site.held()
            await site.run.change({feed(ONE): feeds[feed(ONE)]} | site.reached(TWO))
            await asyncio.sleep(10)
            windows = sum(1 for _, window in site.apis[TWO].windows if window.end < window.start)
            return more, before, site.held(), windows

    more, before, held, _ = run(tmp_path, use)

    assert more == 0
    assert sorted(before) == ["1-1", "2-2"]
    assert sorted(held) == ["1-1", "2-2", "2-3", "2-4"]


def test_what_of_a_removed_tenant_was_not_fetched_waits_in_the_ledger(tmp_path: Path) -> None:
    """Known and counted; the blobs that were fetched go to their end."""

    async def use(site: Site) -> tuple[list[str], int, list[str]]:
        feeds = site.reached(ONE, TWO)
        site.publish(TWO, 40)
        gate = site.apis[TWO].hold("blob7")
        async with site.collecting(feeds):
            await asyncio.sleep(10)
            await site.run.change({feed(ONE): feeds[feed(ONE)]})
            await asyncio.sleep(10)
            gate.set()
            await asyncio.sleep(3_600)
            waiting, held = site.progress(TWO).blobs_waiting, site.held()
            await site.run.change(site.reached(ONE, TWO))
            await asyncio.sleep(10)
            return held, waiting, site.held()

    held, waiting, in_the_end = run(tmp_path, use)

    assert waiting == 1
    assert "2-7" not in held
    assert sorted(in_the_end) == sorted(f"2-{number}" for number in range(1, 41))


def test_all_tenants_may_go_and_others_come(tmp_path: Path) -> None:
    """A run without a tenant waits for one."""

    async def use(site: Site) -> list[str]:
        site.publish(THREE)
        async with site.collecting(site.reached(ONE, TWO)):
            await asyncio.sleep(10)
            await site.run.change({})
            await asyncio.sleep(HOURS_S)
            await site.run.change(site.reached(THREE))
            await asyncio.sleep(10)
            return site.held()

    assert run(tmp_path, use) == ["3-1"]


def test_a_tenant_that_changes_is_collected_in_its_new_way(tmp_path: Path) -> None:
    """Its blobs under way are fetched again, once; a removed error is nobody's."""

    async def use(site: Site) -> tuple[list[str], list[str | None], str | None]:
        site.publish(ONE)
        async with site.collecting(site.reached(ONE)):
            await asyncio.sleep(10)
            site.publish(ONE)
            await site.run.change(site.reached(ONE, environment="production"))
            await asyncio.sleep(10)
            environments = [part.environment for one in site.outputs["lake"].batches for part in one.parts]
            return site.held(), environments, site.progress(ONE).last_error

    held, environments, error = run(tmp_path, use)

    assert held == ["1-1", "1-2"]
    assert environments == [None, "production"]
    assert error is None


def test_a_feed_that_goes_takes_its_trouble_along(tmp_path: Path) -> None:
    """Neither the run's end nor `status` speaks of it."""

    async def use(site: Site) -> tuple[int, int, str | None]:
        feeds = site.reached(ONE, TWO)
        site.apis[TWO].fail(Ask.SUBSCRIPTIONS, REVOKED, times=-1)
        async with site.collecting(feeds):
            await asyncio.sleep(10)
            troubles = len(site.run._troubles.present())
            await site.run.change({feed(ONE): feeds[feed(ONE)]})
            return troubles, len(site.run._troubles.present()), site.progress(TWO).last_error

    assert run(tmp_path, use) == (1, 0, None)


@guarantee(32)
def test_a_tenant_whose_consent_is_revoked_stops_alone(tmp_path: Path) -> None:
    """It is asked every five minutes and no more often, however much waits; the others go on."""

    async def use(site: Site) -> tuple[int, int, list[str], str | None, int]:
        site.publish(TWO, 3_000)
        site.apis[TWO].page_blobs = 3_000
        site.apis[TWO].fail(Ask.FETCH, REVOKED, times=-1)
        async with site.collecting(site.reached(ONE, TWO)):
            await asyncio.sleep(10)
            site.apis[TWO].fail(Ask.SUBSCRIPTIONS, REVOKED, times=-1)
            site.apis[TWO].fail(Ask.PAGE, REVOKED, times=-1)
            await asyncio.sleep(2 * OPERATOR_WAIT_S)
            asked, fetched = len(site.apis[TWO].asked), site.apis[TWO].count(Ask.FETCH)
            for _ in range(12):
                site.publish(ONE)
                await asyncio.sleep(OPERATOR_WAIT_S)
            more = len(site.apis[TWO].asked) - asked
            return fetched, more, site.held(), site.progress(TWO).error_code, site.progress(TWO).blobs_waiting

    fetched, more, held, code, waiting = run(tmp_path, use)

    assert fetched <= 7 * FETCHES_MAX, "once a minute, until the next poll finds out"
    assert more <= 2 * 13, "one question and one listing every five minutes"
    assert sorted(held) == sorted(f"1-{number}" for number in range(3_001, 3_013))
    assert (code, waiting) == ("consent_missing", 3_000)


@guarantee(32)
def test_a_tenant_whose_consent_is_back_goes_on_alone(tmp_path: Path) -> None:
    """Within five minutes, with all that waited; nobody restarts anything."""

    async def use(site: Site) -> tuple[list[str], list[str], str | None]:
        async with site.collecting(site.reached(ONE)):
            await asyncio.sleep(10)
            for ask in (Ask.SUBSCRIPTIONS, Ask.PAGE, Ask.FETCH):
                site.apis[ONE].fail(ask, REVOKED, times=-1)
            await asyncio.sleep(PERIOD_S)
            site.publish(ONE, 50)
            await asyncio.sleep(HOURS_S)
            before = site.held()
            site.apis[ONE].recover()
            await asyncio.sleep(OPERATOR_WAIT_S + 30)
            return before, site.held(), site.progress(ONE).last_error

    with capture_logs() as lines:
        before, held, error = run(tmp_path, use)

    assert (before, len(held), error) == ([], 50, None)
    told = [line["event"] for line in lines if line["log_level"] == "error"]
    assert told == [str(REVOKED)], "once, and not every five minutes"


def test_a_permission_that_one_feed_lacks_stops_that_feed_alone(tmp_path: Path) -> None:
    """The hold is the feed's: `dlp` may be forbidden where all else is allowed."""

    async def use(site: Site) -> tuple[bool, bool]:
        async with site.collecting(site.reached(ONE, TWO)):
            site.apis[TWO].fail(Ask.PAGE, PermissionMissing("AF10001", fix="grant it"), times=-1)
            await asyncio.sleep(PERIOD_S + 10)
            queues = site.run._fetcher._queues
            open_ = site.run._fetcher._is_open
            return open_(queues[feed(ONE)]), open_(queues[feed(TWO)])

    assert run(tmp_path, use) == (True, False)


def test_another_error_that_needs_a_person_holds_no_blob(tmp_path: Path) -> None:
    """A listing that meets a defect says nothing of the blobs that are known."""

    async def use(site: Site) -> list[str]:
        site.publish(ONE, 3)
        site.apis[ONE].fail(Ask.SUBSCRIPTIONS, Defect("boom", fix="report it"), at=2, times=-1)
        gate = site.apis[ONE].hold("blob1")
        async with site.collecting(site.reached(ONE)):
            await asyncio.sleep(PERIOD_S + 10)
            gate.set()
            await asyncio.sleep(10)
            return site.held()

    assert len(run(tmp_path, use)) == 3


@guarantee(31)
def test_no_blob_is_in_two_states_however_often_tenants_come_and_go(tmp_path: Path) -> None:
    """Every seven seconds, while content comes and outputs are slow: each record arrives once."""

    async def use(site: Site) -> tuple[list[str], dict[TenantId, int], list[int]]:
        feeds = site.reached(ONE, TWO, THREE)
        for api in site.apis.values():
            api.answer_s = 0.7
        async with site.collecting(feeds):
            for turn in range(60):
                site.publish((ONE, TWO, THREE)[turn % 3], 3)
                site.outputs["lake"].hold() if turn % 5 == 0 else site.outputs["lake"].release()
                await asyncio.sleep(7)
                some = (ONE, TWO, THREE)[: turn % 4]
                await site.run.change({feed(one): feeds[feed(one)] for one in some})
                if turn % 3 == 0:
                    feeds |= site.reached((ONE, TWO, THREE)[turn % 2])
            site.outputs["lake"].release()
            await site.run.change(feeds)
            await asyncio.sleep(2 * PERIOD_S)
            waiting = {one: site.progress(one).blobs_waiting for one in (ONE, TWO, THREE)}
            rows = site.ledger._connection.execute("SELECT DISTINCT state FROM blob").fetchall()
            return site.held(), waiting, [row[0] for row in rows]

    held, waiting, states = run(tmp_path, use)

    assert len(held) == len(set(held)) == 180
    assert waiting == {ONE: 0, TWO: 0, THREE: 0}
    assert states == [1]
