"""A board finds the collector of its state directory on its machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from m365watch.board.working import FIND_S, Collector, worked_s
from m365watch.ledger.lock import LOCK_FILE
from m365watch.testing.clock import FakeClock

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so")

BUSY = "sum(sum(range(1_000_000)) for _ in range(100))"
"""Some seconds, lest anything of it is left over."""
HOLD = f"""
from pathlib import Path
from m365watch.ledger.lock import LedgerLock
LedgerLock(Path({{!r}}) / {LOCK_FILE!r}).acquire()
"""

Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins Python programs, each of which says a line between two parts, and ends them."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(program: str, *, first: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{first}\nprint(flush=True); {program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        begun.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for one in begun:
        one.kill()
        one.communicate()


def test_only_the_collector_counts(begin: Begin, tmp_path: Path) -> None:
    """With its children; neither a neighbour nor a process of the board's own is one."""
    collector = Collector(tmp_path, FakeClock())
    process = begin("input()", first=HOLD.format(str(tmp_path)))
    neighbour = begin(BUSY)
    begins = f"subprocess.Popen([sys.executable, '-c', {BUSY!r}], stdout=subprocess.DEVNULL)"
    parent = begin(f"import subprocess, sys; {begins}; input()")
    before = collector.read_work()
    while worked_s(neighbour.pid, without=0) < 0.3 or worked_s(parent.pid, without=0) < 0.3:
        pass
    now = collector.read_work()

    assert before is not None
    assert now is not None
    assert now.collector == process.pid
    assert now.collector_s - before.collector_s < 0.05
    assert now.own_s - before.own_s >= 0.5  # they are children of this process: as SQL is of the board's
    assert now.cores == len(os.sched_getaffinity(process.pid))
    assert worked_s(os.getpid(), without=neighbour.pid) < worked_s(os.getpid(), without=0) - 0.2


def test_a_collector_is_followed_that_ends_starts_and_is_another_one(begin: Begin, tmp_path: Path) -> None:
    """Whoever began it, and when; of nobody's work nothing is said."""
    clock, seen = FakeClock(jumps=True), list[str]()
    collector = Collector(tmp_path, clock, found=lambda: seen.append("found"))

    def look() -> int | None:
        asyncio.run(clock.sleep(FIND_S))
        work = collector.read_work()
        return work and work.collector

    assert look() is None
    assert seen == []
    first = begin("input()", first=HOLD.format(str(tmp_path)))
    assert look() == first.pid
    first.kill()
    first.wait()
    assert collector.read_work() is None
    assert look() is None
    second = begin("input()", first=HOLD.format(str(tmp_path)))
    assert look() == second.pid
    assert seen == ["found"]  # whoever has given way does so for good


def test_where_there_is_no_collector_nothing_is_said(tmp_path: Path) -> None:
    """Neither one that never was nor one that has ended."""
    (tmp_path / LOCK_FILE).write_text(f"pid {2**22 + 1} on gone\n")

    assert Collector(tmp_path, FakeClock()).read_work() is None
    assert Collector(tmp_path / "nothing", FakeClock()).read_work() is None
