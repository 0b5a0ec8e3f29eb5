"""How much the collector and the board have worked, as Linux counts it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from m365watch.common.clock import Clock
from m365watch.ledger.lock import LOCK_FILE, pid_holding

_PROCESSES = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
"""Where Linux has the limits of groups of processes, as of a container or a service."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""In a process's line behind its name: its own work, and that of children that have ended."""
FIND_S = 0.25
"""Between two looks who the collector is: one takes a millisecond or two."""
CORES_S = 60.0
"""Between two looks how many cores it may use."""


class Work(NamedTuple):
    """Seconds of work since each process began."""

    collector: int
    """Its pid: another one's work is not to be compared."""
    collector_s: float
    own_s: float
    cores: float
    """Those that the collector may use."""


class Collector:
    """Whoever holds the ledger's lock, as far as it is a process of this machine that this one may see."""

    def __init__(self, state: Path, clock: Clock, *, found: Callable[[], None] | None = None) -> None:
        """`state` is the state directory. `found` is called once, when a collector is first seen."""
        self._lock = state / LOCK_FILE
        self._clock = clock
        self._found = found
        self._process: int | None = None
        self._find_at_s = self._cores_at_s = -math.inf
        self._cores = 0.0

    def read_work(self) -> Work | None:
        """Its work and this process's, with their children; None where nobody collects or nothing is said."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._find_at_s:
            self._find_at_s = now_s + FIND_S
            self._find()
        if self._process is None:
            return None
        own = os.getpid()
        try:
            if now_s >= self._cores_at_s:
                self._cores_at_s = now_s + CORES_S
                self._cores = cores_of(self._process)
            collector_s = worked_s(self._process, without=own)
            return Work(self._process, collector_s, worked_s(own, without=0), self._cores)
        except OSError:
            return None

    def _find(self) -> None:
        process = pid_holding(self._lock)
        if process == self._process:
            return
        self._process, self._cores_at_s = process, -math.inf
        if self._found is not None:
            self._found()
            self._found = None


def cores_of(process: int) -> float:
    """How many cores a process may use, which may be part of one. Raises: OSError: there is none."""
    groups = (_PROCESSES / str(process) / "cgroup").read_text()
    return min(len(os.sched_getaffinity(process)), granted_cores(groups, GROUPS))


def granted_cores(lines: str, folder: Path) -> float:
    """What the quotas in `folder` leave to a process of the groups in `lines`; without any, endlessly many.

    Source: cgroups(7), and the kernel's "Control Group v2" (cpu.max) and "CFS Bandwidth Control".
    """
    granted = math.inf
    for line in lines.splitlines():
        _, _, named = line.partition(":")
        kinds, _, group = named.partition(":")
        inner = PurePosixPath(group.lstrip("/"))
        if ".." in inner.parts:  # it is beside this process's own container, whose limits are not its
            continue
        if not kinds:
            root, read = folder, _quota
        elif "cpu" in kinds.split(","):
            root, read = folder / "cpu", _first_quota
        else:
            continue
        # A container may see its own group as the root, and be told the name that this has outside.
        for level in (inner, *inner.parents):
            with suppress(OSError, ValueError, ZeroDivisionError):
                granted = min(granted, read(root / level))
    return granted


def _quota(group: Path) -> float:
    return _cores_in((group / "cpu.max").read_text())


def _first_quota(group: Path) -> float:
    """The same in the first version of control groups, which says -1 for none."""
    return _cores_in(" ".join((group / f"cpu.cfs_{one}_us").read_text() for one in ("quota", "period")))


def _cores_in(text: str) -> float:
    """Raises: ValueError: it is no quota and its period."""
    quota_us, period_us = map(int, text.split())
    return quota_us / period_us if quota_us > 0 else math.inf


def worked_s(process: int, *, without: int) -> float:
    """What a process and its children have worked, but for that one. Raises: OSError: there is none."""
    line = (_PROCESSES / str(process) / "stat").read_bytes()  # its name is bytes, cut anywhere
    times = line.rpartition(b")")[2].split()[_TIMES]
    found = sum(map(int, times)) / _TICKS_PER_S
    for child in _children_of(process):
        if child != without:
            with suppress(OSError):  # it has ended meanwhile
                found += worked_s(child, without=without)
    return found


def _children_of(process: int) -> Iterator[int]:
    """None where the kernel does not list them: then their work counts once they have ended."""
    for path in (_PROCESSES / str(process) / "task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, path.read_text().split())
