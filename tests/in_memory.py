"""Where the files of tests lie: in memory, where the machine has plenty of that.

Ledgers, queues and files are flushed to the disk many times in a test. Nearly all of the time of such tests
was spent on waiting for it: here a process dies, and never the machine.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

FREE_BYTES_MIN = 6 << 30
"""Several times what a whole run has at once, so that nobody else is short of memory."""
_MEMORY = Path("/dev/shm")


def lay_files_in_memory(memory: Path = _MEMORY, *, free_bytes_min: int = FREE_BYTES_MIN) -> bool:
    """Have temporary files of this process and of its children made there; whether that is so now.

    Not where somebody has named a place, where there is too little room, or where programs may not be run.
    """
    if "TMPDIR" in os.environ or not memory.is_dir() or not os.access(memory, os.W_OK):
        return False
    place = os.statvfs(memory)
    free_bytes = min(place.f_bavail * place.f_frsize, _available_bytes())
    if place.f_flag & os.ST_NOEXEC or free_bytes < free_bytes_min:
        return False
    os.environ["TMPDIR"] = str(memory)
    tempfile.tempdir = None
    return True


def _available_bytes() -> int:
    """How much memory the system could give; files in memory may be allowed to be more than there is."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^MemAvailable: +(\d+) kB$", told, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
