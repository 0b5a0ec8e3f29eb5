"""Giving way: what a process does so that no other one waits for it, neither for a core nor for a disk.

Niceness alone says how a core is shared in the long run. Who wakes up still waits until the nice process
has had its slice, 3 to 10 ms on a kernel that does not interrupt them, and one `fsync` wakes several in turn.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

NICENESS = 19
SLICE_NS = 100_000
"""The shortest that Linux grants (6.12 and later; those before take no notice of it)."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The call's number by machine: neither Python nor the C library has a name for it everywhere."""
_ATTRIBUTES = "=IIQiIQQQ"
"""Size, policy, flags, niceness, priority, runtime, deadline, period."""


def open_autogroup() -> TextIO | None:
    """The file of the niceness of this process's session; None where that is not its own, as of a terminal.

    Open it before `forbid_dumps`, which leaves the files in /proc to root.
    """
    if sys.platform == "linux" and os.getsid(0) == os.getpid():
        with suppress(OSError):
            return open("/proc/self/autogroup", "w", encoding="utf-8")  # noqa: PTH123 - kept open
    return None


def give_way(autogroup: TextIO | None = None) -> None:
    """Let every other process go first, from now on and with all threads, as far as the system knows how.

    What it reads from a disk gives way as well: Linux takes that from how a thread is scheduled.
    """
    if sys.platform != "linux":
        os.nice(NICENESS)
        return
    given: set[int] = set()
    # Those that one which had not given way began meanwhile have not, either.
    while more := {int(one.name) for one in Path("/proc/self/task").iterdir()} - given:
        for thread in more:
            _give_way_in(thread)
        given |= more
    if autogroup is not None:
        # Linux shares cores among sessions first, and looks who is nice within each.
        with suppress(OSError):
            autogroup.write(f"{NICENESS}")
            autogroup.flush()


def _give_way_in(thread: int) -> None:
    # The slice first: it stays when the policy becomes one that cannot be given any.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
    _shorten_slice(thread)
    with suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def _shorten_slice(thread: int) -> None:
    call = _SCHED_SETATTR.get(platform.machine())
    if call is None:
        return
    size = struct.calcsize(_ATTRIBUTES)
    wanted = struct.pack(_ATTRIBUTES, size, os.SCHED_OTHER, 0, NICENESS, 0, SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(call, thread, wanted, 0)  # refused, it is as it was
