"""Outputs that keep batches in a queue, or are left out of them: the ledger knows what each is owed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.model import (
    BatchPart,
    BlobRef,
    BlobState,
    ContentType,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    TenantId,
    Window,
)
from m365watch.ledger.limits import IN_EARNEST, LedgerBounds
from m365watch.ledger.reconciliation_store import Adopted
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
OUTPUTS = frozenset({"devo", "lake"})


def opened(
    directory: Path, outputs: frozenset[str] = OUTPUTS, *, merge_count: int = IN_EARNEST.merge_count
) -> SqliteLedger:
    return SqliteLedger(directory, outputs=outputs, now=NOW, bounds=LedgerBounds(merge_count=merge_count))


def due(ledger: SqliteLedger) -> dict[str, set[str]]:
    """The blobs to fetch, by name, with the outputs that lack them."""
    found = ledger.due_blobs(FEED, now=NOW, count_max=100, besides=frozenset())
    return {one.ref.content_id: set(one.missing_outputs) for one in found}


def known(ledger: SqliteLedger, *names: str) -> list[KnownBlob]:
    at = NOW - timedelta(minutes=30)
    refs = [BlobRef(FEED, name, at, at + timedelta(days=7)) for name in names]
    ledger.commit_listing(FEED, Window(at, NOW), refs, complete=True, at=NOW)
    found = ledger.due_blobs(FEED, now=NOW, count_max=100, besides=frozenset())
    return [one for name in names for one in found if one.ref.content_id == name]


def part(one: KnownBlob, letter: str) -> BatchPart:
    return BatchPart(
        blob=one.key,
        feed=FEED,
        received_at=NOW,
        records=[letter.encode()],
        headers=[Header()],
        tables=["t"],
        missing_outputs=one.missing_outputs,
        identities=[letter.encode() * 16],
    )


def states(ledger: SqliteLedger) -> list[BlobState]:
    order = list(BlobState)
    return [order[state] for (state,) in ledger._connection.execute("SELECT state FROM blob ORDER BY key")]


def test_a_queued_batch_is_neither_delivered_nor_fetched_again(tmp_path: Path) -> None:
    """The blob waits, in plain sight, until the output has it."""
    ledger = opened(tmp_path)
    number = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS).number
    ledger.commit_queued(number, "devo")
    between = states(ledger)
    ledger.commit_delivered(number, "lake", Receipt(), at=NOW)
    queued = states(ledger), due(ledger), ledger.feed_progress()[0].blobs_waiting
    ledger.commit_delivered(number, "devo", Receipt(), at=NOW)
    delivered = states(ledger), ledger.feed_progress()[0].blobs_waiting
    ledger.close()

    assert between == [BlobState.WAITING]
    assert queued == ([BlobState.QUEUED], {}, 1)
    assert delivered == ([BlobState.DELIVERED], 0)


@guarantee(14)
def test_a_queued_batch_outlives_a_crash(tmp_path: Path) -> None:
    """Its output takes it from its queue; only for the other one is the blob fetched again."""
    before = opened(tmp_path)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.commit_queued(number, "devo")
    before.close()

    after = opened(tmp_path)
    kept = after.settle_outputs({"lake": 0, "devo": 0}, queued={"devo": [number], "lake": []}, at=NOW)
    owed = due(after)
    after.commit_delivered(number, "devo", Receipt(), at=NOW)
    once_more = due(after)
    after.close()

    assert kept == {"devo": [number], "lake": []}
    assert owed == once_more == {"one": {"lake"}}


def test_a_batch_in_a_queue_counts_even_where_the_crash_came_before_its_commit(tmp_path: Path) -> None:
    """The file is durable first; the ledger owns up to it at the next start."""
    before = opened(tmp_path)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.close()

    after = opened(tmp_path)
    kept = after.settle_outputs({"lake": 0, "devo": 0}, queued={"devo": [number]}, at=NOW)
    owed = due(after)
    after.close()

    assert (kept, owed) == ({"devo": [number]}, {"one": {"lake"}})


def test_a_queue_that_is_gone_is_fetched_again(tmp_path: Path) -> None:
    """Somebody removed the files: the blob is owed to the output as if it had never been queued."""
    before = opened(tmp_path)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.commit_queued(number, "devo")
    before.commit_delivered(number, "lake", Receipt(), at=NOW)
    before.close()

    after = opened(tmp_path)
    kept = after.settle_outputs({"lake": number, "devo": 0}, queued={"devo": []}, at=NOW)
    owed = due(after)
    after.close()

    assert (kept, owed) == ({"devo": []}, {"one": {"devo"}})


def test_what_is_in_a_queue_and_no_longer_waited_for_is_not_delivered_again(tmp_path: Path) -> None:
    """The crash came between the commit and the removal of the file."""
    before = opened(tmp_path)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.commit_queued(number, "devo")
    before.commit_delivered(number, "devo", Receipt(), at=NOW)
    before.commit_delivered(number, "lake", Receipt(), at=NOW)
    before.close()

    after = opened(tmp_path)
    kept = after.settle_outputs({"lake": number, "devo": number}, queued={"devo": [number]}, at=NOW)
    after.close()

    assert kept == {"devo": []}


def test_an_output_that_was_left_out_is_owed_the_blob(tmp_path: Path) -> None:
    """Not before there is room, and then for that output alone."""
    ledger = opened(tmp_path)
    number = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS).number
    ledger.leave_out(number, "devo")
    ledger.commit_delivered(number, "lake", Receipt(), at=NOW)
    left_out = states(ledger), due(ledger)
    recalled = ledger.recall(), due(ledger), ledger.recall()
    again = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS)
    ledger.commit_delivered(again.number, "lake", None, at=NOW)
    ledger.commit_delivered(again.number, "devo", Receipt(), at=NOW)
    end = states(ledger)
    ledger.close()

    assert left_out == ([BlobState.LEFT_OUT], {})
    assert recalled == (True, {"one": {"devo"}}, False)
    assert again.duplicates == {}
    assert end == [BlobState.DELIVERED]


@guarantee(14)
@pytest.mark.parametrize("lake_first", [True, False])
def test_an_output_that_was_left_out_is_owed_the_blob_after_a_crash_too(
    tmp_path: Path, lake_first: bool
) -> None:
    """Whichever came first, and also where the other output was not done yet."""
    before = opened(tmp_path)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    if lake_first:
        before.commit_delivered(number, "lake", Receipt(), at=NOW)
    before.leave_out(number, "devo")
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": number, "devo": 0}, queued={"devo": []}, at=NOW)
    owed = due(after)
    after.close()

    assert owed == {"one": {"devo"}}


def test_a_copy_in_a_queue_and_one_fetched_again_are_told_apart(tmp_path: Path) -> None:
    """A blob of two batches is delivered once each output has it from its own batch, over restarts too."""
    before = opened(tmp_path)
    first = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.commit_queued(first, "devo")
    before.close()
    between = opened(tmp_path)
    between.settle_outputs({"lake": 0, "devo": 0}, queued={"devo": [first]}, at=NOW)
    [one, two] = known(between, "one", "two")
    second = between.open_batch([part(one, "a"), part(two, "b")], OUTPUTS).number
    between.commit_queued(second, "devo")
    between.close()

    after = opened(tmp_path)
    # The first file is gone: what it had is owed, though a later batch with the blob is in the queue.
    kept = after.settle_outputs({"lake": second, "devo": 0}, queued={"devo": [second]}, at=NOW)
    owed = due(after)
    after.commit_delivered(second, "devo", Receipt(), at=NOW)
    end = states(after)
    after.close()

    assert kept == {"devo": [second]}
    assert owed == {"one": {"devo"}}
    assert end == [BlobState.WAITING, BlobState.DELIVERED]


def test_identities_of_queued_batches_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    """An output may be down for days; what its queue has is merged, and known after a restart too."""
    ledger = opened(tmp_path, merge_count=3)
    numbers = []
    for letter in "abcd":
        number = ledger.open_batch([part(known(ledger, letter)[0], letter)], OUTPUTS).number
        ledger.commit_queued(number, "devo")
        ledger.commit_delivered(number, "lake", Receipt(), at=NOW)
        numbers.append(number)
    while ledger.merge_identities():
        pass
    in_memory = len(ledger._identities._recent)
    ledger.close()

    after = opened(tmp_path, merge_count=3)
    kept = after.settle_outputs({"lake": numbers[-1], "devo": 0}, queued={"devo": numbers}, at=NOW)
    found = after.open_batch([part(known(after, "again")[0], "a")], OUTPUTS).duplicates
    after.close()

    assert in_memory < 3
    assert kept == {"devo": numbers}
    assert found == {0: {0}}


@guarantee(1)
def test_what_is_queued_after_another_output_was_recalled_is_not_fetched_for_it_again(tmp_path: Path) -> None:
    """The blob is due for the one that was left out alone; the other one has it on disk."""
    ledger = opened(tmp_path)
    number = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS).number
    ledger.leave_out(number, "lake")
    ledger.recall()
    ledger.commit_queued(number, "devo")
    owed = due(ledger)
    ledger.close()

    assert owed == {"one": {"lake"}}


def test_an_output_that_is_gone_is_owed_nothing_though_another_has_the_blob_queued(tmp_path: Path) -> None:
    """Neither is the blob fetched for nobody, nor given to an output twice."""
    three = frozenset({"devo", "lake", "old"})
    before = opened(tmp_path, three)
    number = before.open_batch([part(known(before, "one")[0], "a")], three).number
    before.commit_queued(number, "devo")
    before.commit_delivered(number, "lake", Receipt(), at=NOW)
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": number, "devo": 0}, queued={"devo": [number]}, at=NOW)
    owed = due(after)
    after.commit_delivered(number, "devo", Receipt(), at=NOW)
    end = states(after)
    after.close()

    assert owed == {}
    assert end == [BlobState.DELIVERED]


def test_a_clock_that_was_ahead_puts_no_blob_off_for_weeks(tmp_path: Path) -> None:
    """Every start makes all of them due, whatever the clock said before."""
    ahead = NOW + timedelta(days=30)
    before = opened(tmp_path)
    known(before, "one")
    before.settle_outputs({}, queued={}, at=ahead)
    found = before.due_blobs(FEED, now=NOW, count_max=10, besides=frozenset())
    before.close()

    assert [one.ref.content_id for one in found] == ["one"]


def test_a_clock_that_is_ahead_forgets_nothing_that_may_still_be_listed(tmp_path: Path) -> None:
    """Else it would be new when it is listed again, and delivered a second time."""
    ledger = opened(tmp_path)
    number = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS).number
    for output in OUTPUTS:
        ledger.commit_delivered(number, output, Receipt(), at=NOW)
    while ledger.evict(now=NOW + timedelta(days=300)):
        pass
    again = known(ledger, "one")
    ledger.close()

    assert again == []


def test_a_clock_that_is_ahead_forgets_nothing_of_what_outputs_hold(tmp_path: Path) -> None:
    """A ledger that was lost knows from them alone what not to deliver again."""
    ledger = opened(tmp_path)
    known(ledger, "one")
    ledger.held.begin()
    ledger.held.add("lake", [b"a" * 16])
    ledger.held.finish(Adopted({"lake": 1}), at=NOW)
    while ledger.evict(now=NOW + timedelta(days=300)):
        pass
    kept = ledger._connection.execute("SELECT count(*) FROM held").fetchone()
    ledger.close()

    assert kept == (1,)


def test_a_blob_whose_batch_all_outputs_have_is_forgotten(tmp_path: Path) -> None:
    """Where one of them may yet refuse a record of it, its name stays."""
    ledger = opened(tmp_path)
    number = ledger.open_batch([part(known(ledger, "one")[0], "a")], OUTPUTS).number
    later = NOW + IN_EARNEST.horizon + timedelta(days=1)
    fresh = BlobRef(FEED, "fresh", later, later + timedelta(days=7))
    left = []
    for output in sorted(OUTPUTS):
        ledger.commit_delivered(number, output, Receipt(), at=NOW)
        ledger.commit_listing(
            FEED, Window(later, later + timedelta(hours=1)), [fresh], complete=True, at=later
        )
        forget(ledger, later)
        left.append(names(ledger))
    ledger.close()

    assert left == [{"one", "fresh"}, {"fresh"}]


@guarantee(10)
@pytest.mark.parametrize("is_merged", [True, False])
def test_what_one_output_never_got_is_no_duplicate_for_it_while_others_know_it(
    tmp_path: Path, is_merged: bool
) -> None:
    """The blob that brought it was lost to the lake, and is older than the horizon; devo has the record.

    An older blob, still waiting, keeps the record known. With that one gone, so is the lost blob's name.
    """
    bounds = LedgerBounds(merge_count=1 if is_merged else IN_EARNEST.merge_count)
    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW, bounds=bounds)
    waiting, lost = known(ledger, "waiting", "lost")
    number = ledger.open_batch([part(lost, "a")], OUTPUTS).number
    ledger.commit_delivered(number, "devo", Receipt(), at=NOW)
    ledger.leave_out(number, "lake")
    ledger.commit_lost(lost.key, "expired", at=NOW)
    while ledger.merge_identities():
        pass
    later = NOW + IN_EARNEST.horizon + timedelta(days=1)
    fresh = BlobRef(FEED, "fresh", later, later + timedelta(days=7))
    ledger.commit_listing(FEED, Window(later, later + timedelta(hours=1)), [fresh], complete=True, at=later)
    forget(ledger, later)
    found = []
    for output in ("devo", "lake"):
        [new] = [one for one in due_at(ledger, later) if one.ref.content_id == "fresh"]
        opened_now = ledger.open_batch([part(new, "a")], OUTPUTS)
        ledger.commit_delivered(opened_now.number, output, Receipt(), at=later)
        found.append((opened_now.outputs, opened_now.duplicates))
    named = names(ledger)
    ledger.commit_lost(waiting.key, "expired", at=later)
    forget(ledger, later)
    left = names(ledger)
    ledger.close()

    assert found == [({0: frozenset({"devo"})}, {0: frozenset({0})}), ({}, {})]
    assert named == {"waiting", "lost", "fresh"}
    assert left == ({"fresh"} if is_merged else {"lost", "fresh"})


def forget(ledger: SqliteLedger, now: datetime) -> None:
    for _ in range(2):
        while ledger.evict(now=now):
            pass


def due_at(ledger: SqliteLedger, now: datetime) -> list[KnownBlob]:
    return ledger.due_blobs(FEED, now=now, count_max=100, besides=frozenset())


def names(ledger: SqliteLedger) -> set[str]:
    return {name for (name,) in ledger._connection.execute("SELECT content_id FROM blob")}


@pytest.mark.parametrize("commits", [True, False])
def test_a_merge_forgets_no_identity_of_a_blob_that_is_on_its_way_again(
    tmp_path: Path, commits: bool
) -> None:
    """Its record is known after a restart, whether the second batch was acknowledged or not."""
    before = opened(tmp_path, merge_count=2)
    number = before.open_batch([part(known(before, "one")[0], "a")], OUTPUTS).number
    before.commit_delivered(number, "lake", Receipt(), at=NOW)
    before.close()
    between = opened(tmp_path, merge_count=2)
    between.settle_outputs({"lake": number, "devo": 0}, queued={}, at=NOW)
    again = between.open_batch([part(known(between, "one")[0], "a")], OUTPUTS).number
    more = between.open_batch([part(one, one.ref.content_id) for one in known(between, "b", "c")], OUTPUTS)
    for output in OUTPUTS:
        between.commit_delivered(more.number, output, Receipt(), at=NOW)
    while between.merge_identities():
        pass
    if commits:
        for output in OUTPUTS:
            between.commit_delivered(again, output, Receipt(), at=NOW)
    between.close()

    after = opened(tmp_path, merge_count=2)
    after.settle_outputs({"lake": more.number, "devo": more.number}, queued={}, at=NOW)
    found = after.open_batch([part(known(after, "copy")[0], "a")], OUTPUTS).duplicates
    after.close()

    assert found == {0: {0}}


def test_a_blob_keeps_when_it_was_listed_and_is_due_whatever_it_says(tmp_path: Path) -> None:
    """A clock that is set back after a listing keeps no blob waiting; a failed round ends the memory."""
    ledger = opened(tmp_path)
    [blob] = known(ledger, "a")
    feed, back = blob.ref.feed, NOW - timedelta(hours=5)
    [early] = ledger.due_blobs(feed, now=back, count_max=9, besides=frozenset())
    ledger.postpone(blob.key, attempts=1, next_try_at=NOW, error="HTTP 500")
    postponed = ledger.due_blobs(feed, now=back, count_max=9, besides=frozenset())
    [late] = ledger.due_blobs(feed, now=NOW, count_max=9, besides=frozenset())
    ledger.close()

    assert early.listed_at == NOW
    assert postponed == []
    assert late.listed_at is None


def test_an_acknowledgement_does_not_write_the_identities_again(tmp_path: Path) -> None:
    """They lie in the batch's row, which is as long before as after it, whoever acknowledges."""
    ledger = opened(tmp_path)
    log = tmp_path / f"{LEDGER_FILE}-wal"
    large = part(known(ledger, "one")[0], "a")
    large.identities = [number.to_bytes(16, "big") for number in range(10_000)]
    number = ledger.open_batch([large], OUTPUTS).number

    grown = []
    for output in sorted(OUTPUTS):
        before = log.stat().st_size
        ledger.commit_delivered(number, output, Receipt(), at=NOW)
        grown.append(log.stat().st_size - before)
    ledger.close()
    again = opened(tmp_path)

    assert max(grown) < 10_000 * 16 / 2
    assert states(again) == [BlobState.DELIVERED]
    kept = again.settle_outputs({"lake": number, "devo": number}, queued={"devo": [], "lake": []}, at=NOW)
    assert kept == {"devo": [], "lake": []}
    again.close()
