"""How the tests are collected: without a look for garbage, and in a fresh checkout by one process first.

The first that imports a module writes its bytecode, and notes what Hypothesis reads in those of ours.
Processes that begin at the same time would each do all of it.
"""

from __future__ import annotations

import fcntl
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOTED_LAST = Path(".hypothesis/constants")
"""Below the checkout; made at the end of its first collection."""
_LOCKED = "pyproject.toml"


@contextmanager
def without_looking_for_garbage() -> Iterator[None]:
    """Make modules and thousands of tests, which stay, and never look for garbage among them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def first_alone(root: Path) -> Iterator[None]:
    """Of the workers in a checkout `root` that is fresh, let one go first, and the others wait for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    with (root / _LOCKED).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / NOTED_LAST).exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield
