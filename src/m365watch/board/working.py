"""How much the collector and the board have worked, as Linux counts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROCESSES = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TIMES = slice(11, 15)
"""In a process's line behind its name: its own work, and that of children that have ended."""


class Work(NamedTuple):
    """Seconds of work since each process began."""

    collector_s: float
    own_s: float
    cores: int
    """Those that this process may use."""


def read_work(collector: int) -> Work | None:
    """Of the process `collector` and this one, with their children; None where the system does not say."""
    own = os.getpid()
    try:
        return Work(worked_s(collector, without=own), worked_s(own, without=0), len(os.sched_getaffinity(0)))
    except OSError:
        return None


def worked_s(process: int, *, without: int) -> float:
    """What a process and its children have worked, but for that one. Raises: OSError: there is none."""
    times = (_PROCESSES / str(process) / "stat").read_text().rpartition(")")[2].split()[_TIMES]
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
