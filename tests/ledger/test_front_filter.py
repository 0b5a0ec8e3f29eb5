"""The filter before the store: a look-up may be in vain, and is never wrongly saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import (
    BatchPart,
    BlobKey,
    BlobRef,
    ContentType,
    Feed,
    Header,
    Receipt,
    TenantId,
    Window,
)
from m365watch.ledger.bloom_filter import FilterSizes, FrontFilter
from m365watch.ledger.identity_pages import StoredIdentities
from m365watch.ledger.ledger_database import open_ledger
from m365watch.ledger.limits import IN_EARNEST, LedgerBounds
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.storage.database import Database, connect

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
LAKE = frozenset({"lake"})
UNIVERSE = [bytes([number]) * 16 for number in range(60)]
NUMBERS = st.frozensets(st.integers(0, len(UNIVERSE) - 1), max_size=12)
STEPS = st.lists(
    st.tuples(st.sampled_from(["insert", "fail", "evict"]), NUMBERS) | st.just(("fill", frozenset[int]())),
    max_size=40,
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Database]:
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as one:
        yield one


def identities(count: int, *, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(16) for _ in range(count)]


def insert(connection: Database, some: list[bytes], *, page_count: int = 4) -> StoredIdentities:
    """The table, with `some` in it."""
    stored = StoredIdentities(connection, page_count=page_count)
    with connection.transaction():
        stored.add([one + bytes(6) for one in sorted(some)])
    return stored


def drop(connection: Database, some: list[bytes]) -> None:
    """Take `some` out of the table, whose pages are then others."""
    # As many pages are read as a thousand of one identity each would be.
    kept = [one for one in StoredIdentities(connection, page_count=1).read(b"", 1_000)[0] if one not in some]
    connection.execute("DELETE FROM identity_page")
    insert(connection, kept, page_count=3)


def fill(front: FrontFilter) -> int:
    """The number of steps that it took until nothing was left to do."""
    steps = 0
    while front.fill_step():
        steps += 1
    return steps


@guarantee(10)
@given(STEPS, st.integers(1, 30), st.integers(1, 20))
def test_nothing_in_the_table_is_ever_called_new(
    steps: list[tuple[str, frozenset[int]]], size: int, step_count: int
) -> None:
    """Whatever is added, given up, evicted or read again in between, and however full the filter is."""
    with closing(connect(None)) as connection:
        connection.execute("CREATE TABLE identity_page (first BLOB PRIMARY KEY, rows BLOB NOT NULL)")
        table = insert(connection, UNIVERSE[:7])
        front = FrontFilter(table, size=size, bounds=LedgerBounds(filter_step_count=step_count))
        stored = set(UNIVERSE[:7])
        for kind, numbers in steps:
            some = [UNIVERSE[number] for number in sorted(numbers)]
            if kind == "fill":
                front.fill_step()
            elif kind == "evict":
                drop(connection, some)
                stored -= set(some)
            else:
                front.add(some)
            if kind == "insert":
                insert(connection, some)
                stored |= set(some)

            assert stored <= set(front.may_be_known(UNIVERSE))


def test_until_the_table_has_been_read_everything_may_be_known(connection: Database) -> None:
    """A start waits for nothing: the filter is filled by and by, in bounded steps."""
    stored = insert(connection, identities(100, seed=1), page_count=5)
    front = FrontFilter(stored, size=1_000, bounds=LedgerBounds(filter_step_count=30))
    new = identities(50, seed=2)

    assert [front.fill_step() for _ in range(2)] == [True] * 2
    assert front.may_be_known(new) == new
    assert fill(front) == 1
    assert len(front.may_be_known(new)) < 10


@guarantee(10)
def test_what_is_added_behind_the_place_that_is_read_is_known_when_all_is_read(
    connection: Database,
) -> None:
    """The table is read in its order, once: nothing but the adding itself tells the filter of it."""
    stored = insert(connection, identities(100, seed=1), page_count=5)
    front = FrontFilter(stored, size=1_000, bounds=LedgerBounds(filter_step_count=30))
    some = [bytes([0, number]) * 8 for number in range(20)]

    front.fill_step()
    front.add(some)
    insert(connection, some)
    fill(front)

    assert front.answers
    assert front.may_be_known(some) == some


@pytest.mark.parametrize("size", [100, 20_000])
def test_few_new_identities_are_looked_up_in_vain_even_when_the_table_outgrows_the_filter(
    connection: Database, size: int
) -> None:
    """One in a hundred where there is room; a full filter is made anew with more."""
    front = FrontFilter(StoredIdentities(connection), size=size)
    fill(front)
    for seed in range(10):
        some = identities(2_000, seed=seed)
        front.add(some)
        insert(connection, some)
        fill(front)

    assert len(front.may_be_known(identities(10_000, seed=99))) < 300


def test_a_filter_that_nobody_asked_for_is_made_once_it_pays(connection: Database) -> None:
    """It has to be read from the table, which a short run on a large ledger would do in vain."""
    front = FrontFilter(insert(connection, identities(1_000, seed=1)), size=None)
    new = identities(300, seed=2)

    assert not front.fill_step()
    assert len(front.may_be_known(new[:200])) == 200
    assert not front.fill_step()
    front.may_be_known(new)
    assert front.fill_step()
    assert len(front.may_be_known(new)) < 30


def test_an_empty_table_costs_nothing_to_read(connection: Database) -> None:
    """So a first backfill has its filter from the start."""
    front = FrontFilter(StoredIdentities(connection), size=None)

    assert front.fill_step()
    assert front.may_be_known(identities(100, seed=1)) == []


def test_what_was_evicted_is_left_behind_by_the_next_filter(connection: Database) -> None:
    """The filter follows the table and does not fill up over the years."""
    old, new = identities(3_000, seed=1), identities(3_000, seed=2)
    front = FrontFilter(StoredIdentities(connection), size=3_000)
    fill(front)
    front.add(old)
    insert(connection, old)
    connection.execute("DELETE FROM identity_page")

    assert fill(front) == 1
    front.add(new)
    assert len(front.may_be_known(old)) < 150


def part(blob: BlobKey, some: list[bytes]) -> BatchPart:
    return BatchPart(
        blob=blob,
        feed=FEED,
        received_at=NOW,
        records=[b"{}"] * len(some),
        headers=[Header()] * len(some),
        tables=["t"] * len(some),
        missing_outputs=LAKE,
        identities=list(some),
    )


def opened(directory: Path, sizes: FilterSizes | None) -> SqliteLedger:
    return SqliteLedger(directory, outputs=LAKE, now=NOW, front_filter=sizes)


def filled_ledger(directory: Path, sizes: FilterSizes | None, some: list[bytes]) -> SqliteLedger:
    """A ledger that knows `some`, brought by its first blob, and three blobs more."""
    ledger = opened(directory, sizes)
    while ledger.merge_identities():
        pass
    blobs = [BlobRef(FEED, f"content${number}", NOW, NOW + timedelta(days=7)) for number in range(4)]
    ledger.commit_listing(FEED, Window(NOW - timedelta(hours=1), NOW), blobs, complete=True, at=NOW)
    number = ledger.open_batch([part(BlobKey(1), some)], LAKE).number
    ledger.commit_delivered(number, "lake", Receipt(), at=NOW)
    while ledger.merge_identities():
        pass
    return ledger


@guarantee(10)
@pytest.mark.parametrize("restarted", [False, True])
def test_with_and_without_a_filter_the_same_records_are_duplicates(tmp_path: Path, restarted: bool) -> None:
    """Also just after a start, while the filter is empty, and after it has been filled again."""
    known, new = identities(IN_EARNEST.merge_count_min, seed=1), identities(100, seed=2)
    mixed = [*new[:50], *known[:40], *new[40:]]
    answers = []
    for sizes in (None, FilterSizes(50, None), FilterSizes(100_000, 1), FilterSizes(None, 50_000)):
        folder = tmp_path / str(sizes)
        ledger = filled_ledger(folder, sizes, known)
        if restarted:
            ledger.close()
            ledger = opened(folder, sizes)
            ledger.settle_outputs({}, queued={}, at=NOW)
        first = ledger.open_batch([part(BlobKey(2), mixed)], LAKE).duplicates
        while ledger.merge_identities():
            pass
        second = ledger.open_batch([part(BlobKey(3), [*mixed, *known[50:60]])], LAKE).duplicates
        answers.append((first, second))
        ledger.close()

    assert (
        answers
        == [
            ({0: frozenset(range(50, 100))}, {0: frozenset(range(160))}),
        ]
        * 4
    )


def test_new_identities_are_not_looked_up_in_the_table(tmp_path: Path) -> None:
    """That is all the filter is for; and the buffer says when identities go to the table."""
    ledger = filled_ledger(tmp_path, FilterSizes(100_000, 1), identities(IN_EARNEST.merge_count_min, seed=1))
    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)

    ledger.open_batch([part(BlobKey(2), identities(10, seed=3))], LAKE)

    looks = [one for one in statements if "identity_page" in one]
    stored = StoredIdentities(ledger._connection).count()
    ledger.close()
    assert (stored, looks) == (IN_EARNEST.merge_count_min, [])


@pytest.mark.parametrize(
    ("sizes", "again"), [(None, 40), (FilterSizes(None, 100), 100)], ids=["by itself", "as it is told"]
)
def test_the_first_merge_waits_for_more_than_the_next_ones(
    tmp_path: Path, sizes: FilterSizes | None, again: int
) -> None:
    """A short run does without; a long one takes no more memory than that. A configured number stands."""
    bounds = LedgerBounds(merge_count=100, merge_count_min=1, merge_again_share=0.4, merge_share=1.0)
    ledger = SqliteLedger(tmp_path, outputs=LAKE, now=NOW, front_filter=sizes, bounds=bounds)
    blobs = [BlobRef(FEED, f"content${number}", NOW, NOW + timedelta(days=7)) for number in range(400)]
    ledger.commit_listing(FEED, Window(NOW - timedelta(hours=1), NOW), blobs, complete=True, at=NOW)
    table, held, merged_at = StoredIdentities(ledger._connection), 0, []
    for number in range(1, 401):
        opened_batch = ledger.open_batch([part(BlobKey(number), identities(1, seed=number))], LAKE)
        ledger.commit_delivered(opened_batch.number, "lake", Receipt(), at=NOW)
        while ledger.merge_identities():
            pass
        if table.count() > held:
            held = table.count()
            merged_at.append(number)
    ledger.close()

    assert merged_at[:3] == [100, 100 + again, 100 + 2 * again]


def test_identities_that_an_output_still_lacks_leave_nothing_to_merge(tmp_path: Path) -> None:
    """However many they are: upkeep ends, and looks for them seldom while an output is down."""
    both = frozenset({"lake", "files"})
    ledger = SqliteLedger(tmp_path, outputs=both, now=NOW, front_filter=FilterSizes(None, 1))
    while ledger.merge_identities():
        pass
    blobs = [BlobRef(FEED, "content$1", NOW, NOW + timedelta(days=7))]
    ledger.commit_listing(FEED, Window(NOW - timedelta(hours=1), NOW), blobs, complete=True, at=NOW)
    one = replace(part(BlobKey(1), identities(IN_EARNEST.merge_count_min, seed=1)), missing_outputs=both)
    number = ledger.open_batch([one], both).number
    ledger.commit_delivered(number, "lake", Receipt(), at=NOW)

    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)
    assert not any(ledger.merge_identities() for _ in range(10))
    assert len([one for one in statements if "FROM batch" in one]) == 1

    ledger.commit_delivered(number, "files", Receipt(), at=NOW)
    merged = [ledger.merge_identities() for _ in range(100)]
    ledger.close()
    assert merged.count(True) == 2
