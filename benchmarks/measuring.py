"""What a command costs, it and every process that it starts: wall time, CPU time, memory."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from m365watch.common.clock import SystemClock

_LOOK_EVERY_S = 0.05
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Command:
    """A command in a process of its own."""

    arguments: Sequence[str]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What is added to this process's own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command took, from its first instruction to its last."""

    wall_s: float
    cpu_s: float
    """User and system time, of its children too."""
    peak_bytes: int
    """The largest of what the system says of the largest process, and of all that were seen at once."""
    system_s: float = 0.0
    """Of the CPU time what the system took, which is more where it has to get memory for files first."""


def run_measured(command: Command) -> Cost:
    """The cost of a run of `command`, which has to succeed; it speaks only if it fails.

    Raises: CommandFailed.
    """
    os.sync()  # What the run before it left to be written is not this one's burden.
    clock = SystemClock()
    started_s = clock.monotonic_s()
    process = subprocess.Popen(
        command.arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | dict(command.environment),
    )
    if process.stdin is None or process.stderr is None:
        raise CommandFailed
    process.stdin.write(command.stdin)
    process.stdin.close()
    watch = _MemoryWatch(process.pid)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = clock.monotonic_s() - started_s
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    seen_bytes = watch.stop()
    if process.returncode:
        raise CommandFailed(f"exit code {process.returncode}: {errors.decode(errors='replace').strip()}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(wall_s, cpu_s, max(usage.ru_maxrss * 1024, seen_bytes), system_s=usage.ru_stime)


class CommandFailed(Exception):
    """A contender did not do what it was told; there is no figure for it."""


class _MemoryWatch:
    """Looks 20 times a second at the memory of a process and of all that descend from it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self._peak_bytes = max(self._peak_bytes, family_bytes(self._pid))


def family_bytes(pid: int) -> int:
    """What a process and its descendants hold: of each its own pages, and files of the one with most.

    A child has its parent's libraries, page by page. Counted for both, a lake with its upkeep beside it held
    767 MB, where the system's account of shared pages (Pss) said 618, and this 612.
    """
    family = list(_family(pid))
    own = sum(resident - mapped for resident, mapped in family)
    return (own + max((mapped for _, mapped in family), default=0)) * _PAGE_BYTES


def _family(pid: int) -> Iterator[tuple[int, int]]:
    """Of each the resident pages, and those of them that are a file's; none of one that is gone."""
    place = Path(f"/proc/{pid}")
    try:
        resident, mapped = map(int, (place / "statm").read_text().split()[1:3])
        children = " ".join(path.read_text() for path in place.glob("task/*/children")).split()
    except OSError:
        return
    yield resident, mapped
    for child in children:
        yield from _family(int(child))
