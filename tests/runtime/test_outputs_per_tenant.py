"""Outputs that get the records of some tenants alone: each where it belongs, once, over restarts too."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import BatchPart, BlobRef, Header, KnownBlob, Receipt, Window
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch_testing.clock import START
from running import ONE, PERIOD_S, THREE, TWO, Site, feed, run

BOTH = ("a", "b")
DOWN = OutputUnavailable("no connection", where="output a")
A_ALONE, B_ALONE = frozenset({"b"}), frozenset({"a"})
"""What is excluded."""


def test_each_tenants_records_go_where_its_settings_say(tmp_path: Path) -> None:
    """To one output, to the other, or to all where nothing is said; every blob ends as delivered."""

    async def use(site: Site) -> tuple[list[str], list[str], list[int]]:
        site.excluded = {ONE: A_ALONE, TWO: B_ALONE}
        for tenant in (ONE, TWO, THREE):
            site.publish(tenant, 5)
        async with site.collecting(site.reached(ONE, TWO, THREE)):
            await asyncio.sleep(10)
            states = site.ledger._connection.execute("SELECT DISTINCT state FROM blob").fetchall()
            return site.held("a"), site.held("b"), [row[0] for row in states]

    a, b, states = run(tmp_path, use, outputs=BOTH)

    assert {one[0] for one in a} == {"1", "3"}
    assert {one[0] for one in b} == {"2", "3"}
    assert (len(a), len(set(a)), len(b), len(set(b))) == (10, 10, 10, 10)
    assert states == [1]


def test_an_output_that_is_away_holds_up_its_own_tenants_alone(tmp_path: Path) -> None:
    """The others' blobs are delivered; what it lacks waits for it, and is owed to nobody else."""

    async def use(site: Site) -> tuple[int, int, list[str], list[str]]:
        site.excluded = {ONE: A_ALONE, TWO: B_ALONE}
        async with site.collecting(site.reached(ONE, TWO)):
            site.outputs["a"].fail(DOWN, times=1_000)
            site.publish(ONE, 5)
            site.publish(TWO, 5)
            await asyncio.sleep(PERIOD_S + 60)
            return (
                site.progress(ONE).blobs_waiting,
                site.progress(TWO).blobs_waiting,
                site.held("b"),
                [one.name for one in site.ledger.output_progress()],
            )

    waiting_one, waiting_two, b, lacking = run(tmp_path, use, outputs=BOTH)

    assert (waiting_one, waiting_two, len(b)) == (5, 0, 5)
    assert lacking == ["a"]


@guarantee(32)
@pytest.mark.parametrize("down", ["a", "b"])
def test_a_restart_goes_on_with_what_each_output_lacks(tmp_path: Path, down: str) -> None:
    """From its queue on disk or by fetching again: nothing is missing, nothing twice, nothing astray."""

    async def use(site: Site) -> tuple[list[str], list[str], int]:
        site.excluded = {ONE: A_ALONE, TWO: B_ALONE}
        feeds = site.reached(ONE, TWO, THREE)
        for turn in range(4):
            async with site.collecting(feeds):
                if turn < 3:
                    site.outputs[down].fail(DOWN, times=1_000)
                for tenant in (ONE, TWO, THREE):
                    site.publish(tenant, 4)
                await asyncio.sleep(PERIOD_S + 30)
                waiting = sum(site.progress(one).blobs_waiting for one in (ONE, TWO, THREE))
        return site.held("a"), site.held("b"), waiting

    a, b, waiting = run(tmp_path, use, outputs=BOTH)

    assert sorted(a) == sorted(set(a))
    assert sorted(b) == sorted(set(b))
    assert ({one[0] for one in a}, {one[0] for one in b}) == ({"1", "3"}, {"2", "3"})
    assert (len(a), len(b), waiting) == (32, 32, 0)


def test_a_blob_that_has_grown_brings_all_of_it_to_its_tenants_only_output(tmp_path: Path) -> None:
    """No other output has its records, as it would seem by the number of outputs."""
    ledger = opened(tmp_path, BOTH, excluded=A_ALONE)
    know_a_blob(ledger)

    first = part(due(ledger), b"1")
    batch = ledger.open_batch([first], frozenset(BOTH)).number
    ledger.commit_delivered(batch, "b", None, at=START)
    ledger.leave_out(batch, "a")
    ledger.recall()
    again = ledger.open_batch([part(due(ledger), b"1", b"2")], frozenset(BOTH))
    ledger.commit_delivered(again.number, "b", None, at=START)
    ledger.commit_delivered(again.number, "a", Receipt(), at=START)
    left = ledger.due_blobs(feed(ONE), now=START, count_max=9, besides=frozenset())
    ledger.close()

    assert first.missing_outputs == {"a"}
    assert (again.duplicates, again.has_rests, left) == ({}, False, [])


@guarantee(32)
def test_after_a_crash_a_blob_is_fetched_for_none_but_its_tenants_outputs(tmp_path: Path) -> None:
    """Where one has it queued, the other of its two lacks it, and the third does not come in."""
    three = ("a", "b", "c")
    before = opened(tmp_path, three, excluded=frozenset({"c"}))
    know_a_blob(before)
    number = before.open_batch([part(due(before), b"1")], frozenset(three)).number
    before.commit_queued(number, "a")
    before.close()

    after = opened(tmp_path, three, excluded=frozenset({"c"}))
    after.settle_outputs(dict.fromkeys(three, 0), queued={"a": [number]}, at=START)
    lacking = due(after).missing_outputs
    after.close()

    assert lacking == {"b"}


def opened(folder: Path, outputs: tuple[str, ...], *, excluded: frozenset[str]) -> SqliteLedger:
    ledger = SqliteLedger(folder, outputs=frozenset(outputs), now=START)
    ledger.routes.exclude({ONE: excluded})
    return ledger


def know_a_blob(ledger: SqliteLedger) -> None:
    ref = BlobRef(feed(ONE), "blob", START, START + timedelta(days=7))
    window = Window(START, START + timedelta(hours=1))
    ledger.commit_listing(feed(ONE), window, [ref], complete=True, at=START)


def due(ledger: SqliteLedger) -> KnownBlob:
    [known] = ledger.due_blobs(feed(ONE), now=START, count_max=9, besides=frozenset())
    return known


def part(known: KnownBlob, *names: bytes) -> BatchPart:
    return BatchPart(
        blob=known.key,
        feed=known.ref.feed,
        received_at=START,
        records=list(names),
        headers=[Header()] * len(names),
        tables=["table"] * len(names),
        missing_outputs=known.missing_outputs,
        identities=[name * 16 for name in names],
    )


def test_an_output_that_is_added_to_a_tenant_gets_what_comes_from_then_on(tmp_path: Path) -> None:
    """And one that is taken away still gets what it was to have, and nothing more."""

    async def use(site: Site) -> tuple[list[str], list[str]]:
        site.excluded = {ONE: A_ALONE}
        async with site.collecting(site.reached(ONE)):
            site.publish(ONE)
            await asyncio.sleep(PERIOD_S + 10)
            site.ledger.routes.exclude({})
            site.publish(ONE)
            await asyncio.sleep(PERIOD_S)
            site.ledger.routes.exclude({ONE: B_ALONE})
            site.publish(ONE)
            await asyncio.sleep(PERIOD_S)
            return site.held("a"), site.held("b")

    a, b = run(tmp_path, use, outputs=BOTH)

    assert a == ["1-1", "1-2"]
    assert b == ["1-2", "1-3"]


def test_a_duplicate_is_one_at_the_tenants_own_output(tmp_path: Path) -> None:
    """Known records do not come again because another output never had them."""

    async def use(site: Site) -> tuple[list[str], list[str], int]:
        site.excluded = {ONE: A_ALONE}
        async with site.collecting(site.reached(ONE)):
            site.publish(ONE, again="same")
            await asyncio.sleep(PERIOD_S + 10)
            site.publish(ONE, again="same")
            await asyncio.sleep(PERIOD_S)
            return site.held("a"), site.held("b"), site.progress(ONE).records_duplicate

    assert run(tmp_path, use, outputs=BOTH) == (["same"], [], 1)


def test_a_duplicate_of_what_is_under_way_waits_for_nobody_else(tmp_path: Path) -> None:
    """While its first copy is held up at the tenant's output, the other output is not asked for it."""

    async def use(site: Site) -> tuple[list[str], list[str], int]:
        site.excluded = {ONE: A_ALONE}
        async with site.collecting(site.reached(ONE)):
            site.outputs["a"].fail(DOWN, times=8)
            site.publish(ONE, again="same")
            site.publish(ONE, again="same")
            await asyncio.sleep(PERIOD_S)
            site.publish(ONE, again="same")
            await asyncio.sleep(2 * PERIOD_S)
            return site.held("a"), site.held("b"), site.progress(ONE).blobs_waiting

    assert run(tmp_path, use, outputs=BOTH) == (["same"], [], 0)
