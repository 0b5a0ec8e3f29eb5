"""Where the ledger and the queues of a simulated collector are while a seed runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from m365watch_testing.simulation.seeds import Verdict, simulate_seed

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a name of its own is made in it.


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory that is removed, in memory where the machine has that: nothing waits for a disk."""
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="m365watch-seed-", dir=place) as directory:
        yield Path(directory)


def judge_seed(seed: int) -> Verdict:
    """The verdict on `seed`; other processes may be asked for it."""
    with scratch() as directory:
        return simulate_seed(seed, directory)
