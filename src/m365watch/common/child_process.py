"""What a child process is given, and what other processes of its user see of one.

Source: prctl(2), core(5).
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4
_INHERITED = ("LANG", "LC_", "PYTHON", "TMPDIR", "TZ")
"""How the names of variables begin that no secret is in."""


def bare_environment() -> dict[str, str]:
    """Enough for a child to find the package and to read names and times alike, and no secret."""
    package_root = Path(__file__).parents[2]
    inherited = {name: value for name, value in os.environ.items() if name.startswith(_INHERITED)}
    return inherited | {
        "PYTHONPATH": os.pathsep.join([str(package_root), *filter(None, sys.path)]),
        "PATH": os.defpath,
    }


def forbid_dumps() -> None:
    """Leave no core dump of this process, and keep others of its user from reading its memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        prctl(_PR_SET_DUMPABLE, 0)


def prctl(option: int, *values: int) -> None:
    """Change this process. Raises: OSError: the kernel refuses it."""
    given = [ctypes.c_ulong(one) for one in (*values, 0, 0, 0, 0)[:4]]
    checked(libc().prctl(option, *given))


def libc() -> ctypes.CDLL:
    """The C library, for `checked`."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """The result of a call of `libc`. Raises: OSError: it failed."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
