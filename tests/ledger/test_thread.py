"""The ledger's one thread: in order, patient with a full disk, honest about everything else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from m365watch.common.errors import LedgerUnavailable, LedgerUnusable
from m365watch.ledger.writer_thread import LedgerThread, settled_later
from m365watch_testing.clock import FakeClock

Result = TypeVar("Result")

FULL = LedgerUnavailable("the disk is full", where="ledger.sqlite")


class FullDisk:
    """Fails so often and then works; counts how often it was tried."""

    def __init__(self, failures: int, error: Exception = FULL) -> None:
        self.failures = failures
        self.error = error
        self.tries = 0

    def add(self, left: int, *, right: int) -> int:
        self.tries += 1
        if self.tries <= self.failures:
            raise self.error
        return left + right


def run(
    use: Callable[[LedgerThread, FakeClock], Awaitable[Result]], *, patience_s: float | None = None
) -> Result:
    async def main() -> Result:
        clock = FakeClock(jumps=True)
        calls = LedgerThread(clock, patience_s=patience_s)
        try:
            return await use(calls, clock)
        finally:
            calls.close()

    return asyncio.run(main())


def test_a_verb_is_done_with_its_arguments() -> None:
    """What it returns comes back."""

    async def use(calls: LedgerThread, clock: FakeClock) -> int:
        return await calls(FullDisk(0).add, 2, right=3)

    assert run(use) == 5


def test_verbs_are_done_one_after_the_other_in_one_thread() -> None:
    """Never in the loop's thread, which would wait for the disk; in the order in which they were called."""
    done: list[tuple[int, int]] = []

    def verb(number: int) -> None:
        done.append((number, threading.get_ident()))

    async def use(calls: LedgerThread, clock: FakeClock) -> None:
        await asyncio.gather(*(calls(verb, number) for number in range(50)))

    run(use)

    assert [number for number, _ in done] == list(range(50))
    assert len({thread for _, thread in done} | {threading.get_ident()}) == 2


def test_the_loop_goes_on_while_a_verb_is_being_done() -> None:
    """A disk that is slow holds up the ledger alone."""
    go_on = threading.Event()

    async def use(calls: LedgerThread, clock: FakeClock) -> bool:
        verb = asyncio.create_task(calls(go_on.wait, 5))
        await asyncio.sleep(0)
        go_on.set()
        return await verb

    assert run(use)


def test_a_verb_is_repeated_while_the_ledger_cannot_be_written() -> None:
    """It did nothing, so it is the same verb again; said once, for however long it takes."""
    disk = FullDisk(100)

    async def use(calls: LedgerThread, clock: FakeClock) -> tuple[int, float]:
        return await calls(disk.add, 2, right=3), clock.monotonic_s()

    with capture_logs() as lines:
        result, waited_s = run(use)

    assert (result, disk.tries, waited_s) == (5, 101, 200.0)
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", str(FULL))]


def test_calls_that_meet_one_full_disk_say_so_once() -> None:
    """A collector has many calls under way and one disk; one that only reads says nothing about it."""
    disks = [FullDisk(3) for _ in range(5)]

    async def use(calls: LedgerThread, _: FakeClock) -> list[int]:
        works = FullDisk(0)
        return await asyncio.gather(*(calls(disk.add, 2, right=3) for disk in (*disks, works)))

    with capture_logs() as lines:
        assert run(use) == [5] * 6

    assert [line["event"] for line in lines] == [str(FULL)]


def test_one_full_disk_is_told_once_however_many_meet_it() -> None:
    """And once more when it is full again after it had been written."""
    disks = [FullDisk(3) for _ in range(5)]
    later = FullDisk(2)

    async def use(calls: LedgerThread, clock: FakeClock) -> None:
        await asyncio.gather(*(calls(disk.add, 2, right=3) for disk in disks))
        await calls(later.add, 2, right=3)

    with capture_logs() as lines:
        run(use)

    assert len(lines) == 2


def test_patience_ends() -> None:
    """`--once` does not try for ever."""
    disk = FullDisk(1_000)

    async def use(calls: LedgerThread, clock: FakeClock) -> float:
        with pytest.raises(LedgerUnavailable):
            await calls(disk.add, 2, right=3)
        return clock.monotonic_s()

    assert run(use, patience_s=15.0) == 16.0
    assert disk.tries == 9


def test_a_full_disk_that_is_emptied_in_time_costs_patience_only() -> None:
    """One try before the end."""

    async def use(calls: LedgerThread, clock: FakeClock) -> int:
        return await calls(FullDisk(8).add, 2, right=3)

    assert run(use, patience_s=15.0) == 5


@pytest.mark.parametrize("error", [LedgerUnusable("corrupt", fix="restore it"), KeyError("defect")])
def test_any_other_failure_goes_up_at_once(error: Exception) -> None:
    """Repeating would not help, and would hide it."""
    disk = FullDisk(1, error)

    async def use(calls: LedgerThread, clock: FakeClock) -> int:
        with pytest.raises(type(error)):
            await calls(disk.add, 2, right=3)
        return disk.tries

    assert run(use) == 1


def test_a_caller_may_go_on_before_its_verb_is_durable() -> None:
    """A listing is: what a power cut takes away of it is listed again. Others wait for the disk."""
    syncs: list[str] = []

    async def use(calls: LedgerThread, _clock: FakeClock) -> list[int]:
        calls.settle_with(lambda: syncs.append("sync"))
        disk = FullDisk(0)
        sums = [await calls(settled_later(disk.add), 1, right=2)]
        syncs.append("next")
        sums.append(await calls(disk.add, 3, right=4))
        return sums

    assert run(use) == [3, 7]
    assert syncs == ["next", "sync"]
