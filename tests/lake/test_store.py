"""What the lake asks of any place of a table."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from m365watch.lake.store import LocalStore, Store

COMMIT = "_delta_log/00000000000000000001.json"
PART = "day=2026-12-03/one.parquet"


def local_store(directory: Path) -> Store:
    """In a folder of a disk."""
    (directory / "_delta_log").mkdir()
    return LocalStore(directory)


@pytest.fixture(params=[local_store])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each kind of store in turn, still empty."""
    make: Callable[[Path], Store] = request.param
    return make(tmp_path)


def write(store: Store, name: str, content: bytes) -> None:
    """A file of records, as a writer brings it there."""
    store.path(name).parent.mkdir(exist_ok=True)
    store.path(name).write_bytes(content)
    store.put(name)


def test_the_first_put_wins(store: Store) -> None:
    """The second is told, and changes nothing; neither leaves anything else."""
    assert (store.get(COMMIT), store.has(COMMIT)) == (None, False)
    assert store.put_if_absent(COMMIT, b"first")
    assert not store.put_if_absent(COMMIT, b"second")
    assert (store.get(COMMIT), store.has(COMMIT)) == (b"first", True)
    assert [file.name for file in store.list_after("_delta_log/")] == [COMMIT]


def test_of_puts_at_once_one_wins(store: Store) -> None:
    """What is there is whole, and is that one's."""
    won: list[bytes] = []
    ready = threading.Barrier(8)

    def put(number: int) -> None:
        content = b"%d" % number * 50_000
        ready.wait()
        if store.put_if_absent(COMMIT, content):
            won.append(content)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.get(COMMIT)]


def test_files_are_listed_by_name(store: Store) -> None:
    """Those of a prefix, in whatever folder, with what is known of them, and those alone that come later."""
    write(store, PART, b"12345")
    write(store, "day=2026-12-01/two.parquet", b"")
    store.put_if_absent(COMMIT, b"")

    older, newer = store.list_after("day=")
    assert (older.name, newer.name) == ("day=2026-12-01/two.parquet", PART)
    assert (older.size_bytes, newer.size_bytes) == (0, 5)
    assert newer.modified_ms == pytest.approx(store.path(PART).stat().st_mtime * 1000)
    assert list(store.list_after("day=", older.name)) == [newer]
    assert list(store.list_after("_delta_log/", COMMIT)) == []


def test_a_file_that_is_gone_may_be_deleted_again(store: Store) -> None:
    """Two processes may both have found it stale."""
    write(store, PART, b"12345")
    store.delete(PART)
    store.delete(PART)
    assert list(store.list_after("day=")) == []


def test_own_files_have_to_be_there_and_others_need_not(store: Store) -> None:
    """A commit that vanished before its sync is not acknowledged; one found may be cleared away meanwhile."""
    store.sync([COMMIT])
    with pytest.raises(FileNotFoundError):
        store.sync([COMMIT], is_own=True)
    store.put_if_absent(COMMIT, b"there")
    store.sync([COMMIT], is_own=True)
    store.sync([COMMIT])
    assert store.get(COMMIT) == b"there"


def test_a_file_that_did_not_come_to_the_disk_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux takes it for written from then on: it is to be written anew."""
    store = local_store(tmp_path)

    def fail(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write(store, PART, b"12345")
    assert not store.has(PART)
