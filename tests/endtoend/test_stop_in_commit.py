"""SIGTERM in the middle of the ledger's commits, with real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

from commands import Ended, ended, scene_in, start
from m365watch.ledger.backup import check_ledger
from m365watch.ledger.sqlite_ledger import LEDGER_FILE

ROUNDS = 3


def wait_for_write(log: Path, *, writes: int) -> bool:
    """Return the moment that the ledger's log was written for the so many-th time: its sync comes next."""
    ends_s = time.monotonic() + PATIENCE_S
    seen, last = 0, None
    while time.monotonic() < ends_s:
        try:
            found = log.stat()
        except FileNotFoundError:
            continue
        if (found.st_mtime_ns, found.st_size) != last:
            last = (found.st_mtime_ns, found.st_size)
            seen += 1
            if seen > writes:
                return True
    return False


@guarantee(20)
@pytest.mark.slow
def test_a_stop_during_a_commit_leaves_a_whole_ledger(tmp_path: Path) -> None:
    """Each time it ends in order, the ledger is sound, and in the end each record is there once."""
    path = tmp_path / "state" / LEDGER_FILE

    async def stop_again_and_again() -> list[Ended]:
        async with scene_in(tmp_path, latency_s=0.02, records_per_day=120) as scene:
            found = []
            for round_ in range(ROUNDS):
                process = await start("run", "--config", str(scene.file), "--quiet")
                log = Path(f"{path}-wal")
                # The first writes are of its start; later ones of listings, batches and deliveries.
                assert await asyncio.to_thread(wait_for_write, log, writes=9 + 5 * round_)
                process.send_signal(signal.SIGTERM)
                found.append(await ended(process))
                assert check_ledger(path, on_step=lambda: None).problems == []
            found.append(await scene.run_once())
            scene.check_complete()
            return found

    *stopped, last = [run.exit_code for run in asyncio.run(stop_again_and_again())]
    # A stop that meets the start, before anything was begun, shows as the signal's own code.
    assert set(stopped) <= {0, 128 + signal.SIGTERM}
    assert last == 0
