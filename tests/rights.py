"""What root may beyond everybody else, given up: files of others are then closed to it as their modes say."""

from __future__ import annotations

import ctypes
import os
import sys

_DROP_FROM_BOUNDS = 24
_RIGHTS = 41
_VERSION_3 = 0x20080522


def why_kept() -> str:
    """Why this process cannot give them up for a child; empty where it can."""
    if sys.platform != "linux":
        return "only Linux tells root's rights apart"
    return "" if os.geteuid() == 0 else "only root has rights to give up"


def give_up_rights() -> None:
    """For good, in this process and in whatever it starts; it stays the user that it was."""
    system = ctypes.CDLL(None, use_errno=True)
    for right in range(_RIGHTS):
        # An older kernel knows fewer.
        system.prctl(_DROP_FROM_BOUNDS, right, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    if system.capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "root's rights stay")
