"""The pages of identities: they know what was put in, and nothing else, however they are cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m365watch.ledger.identity_pages import PAGE_COUNT, ROW_BYTES, StoredIdentities
from m365watch.ledger.ledger_database import open_ledger
from m365watch.storage.database import Database, connect

CREATE = "CREATE TABLE identity_page (first BLOB PRIMARY KEY, rows BLOB NOT NULL)"
LOTS = st.lists(st.integers(0, 400), min_size=1, max_size=300, unique=True)
STEPS = st.lists(
    st.tuples(st.just("add"), LOTS, st.integers(0, 9))
    | st.tuples(st.just("evict"), st.just([0]), st.integers(0, 9)),
    max_size=30,
)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[StoredIdentities]:
    with closing(open_ledger(tmp_path / "ledger.sqlite")) as one, one.transaction():
        yield StoredIdentities(one)


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")


def owner(number: int) -> bytes:
    return number.to_bytes(6, "big")


def rows(numbers: list[int] | range, by: int = 1) -> list[bytes]:
    return [identity(one) + owner(by) for one in sorted(numbers)]


def pages_of(connection: Database) -> list[list[bytes]]:
    found = connection.execute("SELECT first, rows FROM identity_page ORDER BY first").fetchall()
    assert all(page.startswith(first) and len(page) % ROW_BYTES == 0 for first, page in found)
    return [[page[at : at + 16] for at in range(0, len(page), ROW_BYTES)] for _, page in found]


@given(STEPS, st.lists(st.integers(0, 400), max_size=100, unique=True), st.integers(1, 400))
def test_what_was_put_in_is_known_with_its_first_owner_and_nothing_else_is(
    steps: list[tuple[str, list[int], int]], sought: list[int], count: int
) -> None:
    """Whatever is added and evicted; the pages stay in order, apart from each other, and within bounds."""
    with closing(connect(None)) as connection:
        connection.execute(CREATE)
        table = StoredIdentities(connection, page_count=9)
        known: dict[bytes, bytes] = {}
        for kind, numbers, by in steps:
            if kind == "add":
                table.add(rows(numbers, by))
                known = {identity(one): owner(by) for one in numbers} | known
            else:
                while table.evict(owner(by), count=9)[1]:
                    pass
                known = {one: its for one, its in known.items() if its >= owner(by)}
        pages = pages_of(connection)
        flat = [one for page in pages for one in page]
        asked = [identity(one) for one in sorted(sought)]

        assert flat == sorted(known)
        assert all(len(page) <= 9 for page in pages)
        assert table.owners(asked) == {one: known[one] for one in asked if one in known}
        assert table.owners(asked[:3]) == {one: known[one] for one in asked[:3] if one in known}
        assert table.count() == len(known)
        assert _read_all(table, count) == flat


def _read_all(table: StoredIdentities, count: int) -> list[bytes]:
    found, read_to = table.read(b"", count)
    while read_to is not None:
        more, read_to = table.read(read_to, count)
        found += more
    return found


def test_what_is_read_in_steps_is_whole_though_pages_are_cut_anew_in_between(
    stored: StoredIdentities,
) -> None:
    """What an eviction draws together lies partly before the place where the reading goes on."""
    stored.add(rows(range(0, 3_000, 2)))
    stored.add(rows(range(1, 3_000, 2), by=9))
    found, read_to = stored.read(b"", 700)
    while stored.evict(owner(5), count=10_000)[1]:
        pass
    while read_to is not None:
        more, read_to = stored.read(read_to, 700)
        found += more

    assert {identity(one) for one in range(1, 3_000, 2)} <= set(found)


@pytest.mark.parametrize("backwards", [False, True])
def test_what_comes_in_order_of_time_fills_the_pages(stored: StoredIdentities, backwards: bool) -> None:
    """From the oldest to the newest, or as a backfill does it."""
    steps = [range(start, start + 5_000) for start in range(0, 50_000, 5_000)]
    for numbers in reversed(steps) if backwards else steps:
        stored.add(rows(numbers))

    assert stored.count() == 50_000
    [(pages,)] = stored._connection.execute("SELECT count(*) FROM identity_page").fetchall()
    assert pages <= 50_000 / PAGE_COUNT * 1.05


def test_what_comes_late_leaves_the_pages_half_full_at_least(stored: StoredIdentities) -> None:
    """One here and one there, between what is known."""
    chance = random.Random(1)
    stored.add(rows(range(0, 40_000, 4)))
    for _ in range(200):
        stored.add(rows(sorted(chance.sample(range(40_000), 50))))

    [(pages,)] = stored._connection.execute("SELECT count(*) FROM identity_page").fetchall()
    assert pages <= stored.count() / (PAGE_COUNT / 2)
