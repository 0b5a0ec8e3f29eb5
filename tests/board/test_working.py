"""A board finds the collector of its state directory on its machine, and the cores that that one may use."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.board.query.cpu_usage import FIND_S, Collector, granted_cores, worked_s
from m365watch.ledger.lock import LOCK_FILE
from m365watch_testing.clock import FakeClock

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


@guarantee(47)
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
    assert 0 < now.cores <= len(os.sched_getaffinity(process.pid))
    assert worked_s(os.getpid(), without=neighbour.pid) < worked_s(os.getpid(), without=0) - 0.2


def test_whatever_a_process_is_called_its_work_is_read(begin: Begin) -> None:
    """Linux cuts a name after 15 bytes, amid a letter with a mark too, and a name may have a bracket."""
    name = "überwachung) é".encode()[:-1]
    named = f"open('/proc/self/comm', 'wb').write({name!r})"
    process = begin("input()", first=f"import time\n{named}\nwhile time.process_time() < 0.1: pass")

    assert 0.05 < worked_s(process.pid, without=0) < 60


@guarantee(47)
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


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("4:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "50000\n"}, 0.5),
        ("4:cpu,cpuacct:/docker/a\n", {"cpu/cpu.cfs_quota_us": "200000\n"}, 2.0),
        ("4:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n"}, math.inf),
        ("4:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "50000\n", "a/cpu.max": "1 2"}, math.inf),
        ("0::/../a\n", {"cpu.max": "50000 100000\n"}, math.inf),
        ("0::/a\n", {"a/cpu.max": "garbage\n"}, math.inf),
        ("0::/a\n", {"a/cpu.max": "0 0\n"}, math.inf),
        ("no line of ours\n", {}, math.inf),
    ],
    ids=[
        *(
            "outer-group",
            "inner-group",
            "container",
            "first-version",
            "first-version-in-a-container",
            "no-quota",
        ),
        *("another-kind", "another-container", "garbage", "zeros", "nothing"),
    ],
)
def test_a_quota_grants_fewer_cores(tmp_path: Path, lines: str, files: dict[str, str], cores: float) -> None:
    """As containers and services have one, in both ways of Linux; what says nothing grants all."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name == "cpu.cfs_quota_us":
            path.with_name("cpu.cfs_period_us").write_text("100000\n")

    assert granted_cores(lines, tmp_path) == cores


@guarantee(47)
def test_a_collector_with_a_quota_has_so_many_cores(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On however large a machine it is; a changed quota is seen within a minute."""
    monkeypatch.setattr("m365watch.board.query.cpu_usage.GROUPS", tmp_path)
    for version in (tmp_path, tmp_path / "cpu"):
        version.mkdir(exist_ok=True)
    begin("input()", first=HOLD.format(str(tmp_path)))

    def grant(cores: float) -> None:
        quota_us = round(cores * 100_000)
        (tmp_path / "cpu.max").write_text(f"{quota_us} 100000\n")
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")

    clock = FakeClock(jumps=True)
    collector = Collector(tmp_path, clock)

    def cores() -> float:
        work = collector.read_work()
        assert work is not None
        return work.cores

    grant(0.25)
    assert cores() == 0.25
    grant(0.5)
    assert cores() == 0.25
    asyncio.run(clock.sleep(60.0))
    assert cores() == 0.5


def test_where_there_is_no_collector_nothing_is_said(tmp_path: Path) -> None:
    """Neither one that never was nor one that has ended."""
    (tmp_path / LOCK_FILE).write_text(f"pid {2**22 + 1} on gone\n")

    assert Collector(tmp_path, FakeClock()).read_work() is None
    assert Collector(tmp_path / "nothing", FakeClock()).read_work() is None
