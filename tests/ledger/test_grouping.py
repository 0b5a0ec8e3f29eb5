"""Work that waits becomes durable together: answered after the sync, each with its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait

import pytest
from patience import PATIENCE_S

from m365watch.ledger.writer_thread import GROUP_MAX, GroupedThread, SettledLater


class Disk:
    """Counts its syncs, and can be made to wait with one, or to fail."""

    def __init__(self) -> None:
        self.syncs = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: OSError | None = None

    def settle(self) -> None:
        assert self.may_go_on.wait(PATIENCE_S)
        self.syncs += 1
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def thread() -> Iterator[GroupedThread]:
    thread = GroupedThread(name="grouped")
    yield thread
    thread.shutdown()


def test_nothing_is_answered_before_it_is_durable(thread: GroupedThread) -> None:
    """A caller that goes on may tell Microsoft's content from what it has to fetch again."""
    disk, done = Disk(), threading.Event()
    thread.settle = disk.settle
    disk.may_go_on.clear()

    future = thread.submit(done.set)

    assert done.wait(PATIENCE_S)
    assert not future.done()
    disk.may_go_on.set()
    future.result(PATIENCE_S)
    assert disk.syncs == 1


def test_what_waits_meanwhile_takes_one_sync(thread: GroupedThread) -> None:
    """A slow disk makes groups larger and not the wait longer."""
    disk = Disk()
    thread.settle = disk.settle
    disk.may_go_on.clear()
    first = thread.submit(int)

    others = [thread.submit(int, number) for number in range(GROUP_MAX)]
    disk.may_go_on.set()

    assert [future.result(PATIENCE_S) for future in (first, *others)] == [0, *range(GROUP_MAX)]
    assert 2 <= disk.syncs <= 3


def test_a_group_has_its_bound(thread: GroupedThread) -> None:
    """The first of many does not wait for all of them."""
    disk = Disk()
    thread.settle = disk.settle
    disk.may_go_on.clear()
    futures = [thread.submit(int) for _ in range(3 * GROUP_MAX)]
    disk.may_go_on.set()

    assert not wait(futures, PATIENCE_S).not_done
    assert disk.syncs >= 3


def test_one_that_fails_fails_alone(thread: GroupedThread) -> None:
    """Its error is its caller's; what is done beside it is answered."""

    def fail() -> int:
        raise KeyError("nothing")

    bad, good = thread.submit(fail), thread.submit(int, 7)

    assert isinstance(bad.exception(PATIENCE_S), KeyError)
    assert good.result(PATIENCE_S) == 7


def test_what_cannot_be_made_durable_has_failed(thread: GroupedThread) -> None:
    """Whoever was told that it is safe would forget it."""
    disk = Disk()
    disk.failure = OSError(5, "Input/output error")
    thread.settle = disk.settle

    assert thread.submit(int).exception(PATIENCE_S) is disk.failure


def test_what_is_cancelled_before_its_turn_is_not_done(thread: GroupedThread) -> None:
    """As a pool of one thread has it."""
    go_on, done = threading.Event(), threading.Event()
    thread.submit(go_on.wait, PATIENCE_S)
    # The first may have begun or not; a second group waits behind it in either case.
    waiting = [thread.submit(int) for _ in range(GROUP_MAX)]
    late = thread.submit(done.set)

    assert late.cancel()
    go_on.set()
    wait(waiting, PATIENCE_S)
    thread.submit(int).result(PATIENCE_S)
    assert not done.is_set()


def test_a_thread_that_was_shut_down_takes_nothing_more() -> None:
    """And has done what it was given before."""
    thread = GroupedThread(name="grouped")
    given = thread.submit(int, 3)

    thread.shutdown()

    assert given.result(0) == 3
    with pytest.raises(RuntimeError, match="has ended"):
        thread.submit(int)


def test_what_may_be_durable_later_takes_no_sync_of_its_own(thread: GroupedThread) -> None:
    """It is durable with the next work that may not: a sync brings all that came before it."""
    disk = Disk()
    thread.settle = disk.settle

    for number in range(3):
        assert thread.submit(SettledLater(int, number)).result(PATIENCE_S) == number
    before = disk.syncs
    thread.submit(int).result(PATIENCE_S)

    assert (before, disk.syncs) == (0, 1)
