"""What a process needs to live on the same day as the tests, where `tools/days.py` shifts their clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

AHEAD_S = "PYTHON_TESTS_CLOCK_AHEAD_S"
_NAMES = (AHEAD_S, "PYTHONPATH", "TZ")
DAY = {name: os.environ[name] for name in _NAMES if name in os.environ} if _NAMES[0] in os.environ else {}
"""For an environment that is made from nothing; empty on an ordinary run."""


def now() -> datetime:
    """The time on that day, as the collector's processes have it."""
    return datetime.now(UTC) + timedelta(seconds=ahead_s())


def ahead_s() -> float:
    """How far the clock of that day is ahead of the machine's."""
    return float(os.environ.get(AHEAD_S, "0"))


def python_path(folder: Path) -> str:
    """`PYTHONPATH` with the folder first, that does not lose the day."""
    return os.pathsep.join([str(folder), *([DAY["PYTHONPATH"]] if DAY else [])])
