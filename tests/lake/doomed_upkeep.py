"""Upkeep in a process of its own that ends itself with SIGKILL at an exact moment.

Called as `doomed_upkeep.py VERB LAKE MOMENT`: the moment counts what upkeep asks its two ports, the clock and
the progress. It asks the clock between writing files and committing them, and tells progress between files.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path

from keeping_lake import ANNA, FixedClock, Retention, TableRetention
from m365watch.lake.delta.table_files import hold_lake
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.retention import retain
from m365watch.lake.maintenance.vacuum import vacuum

RETENTION = Retention(days=2, tables={"cloud.office365.management.exchange": TableRetention(days=1)})
ASKED = Asked(names=(ANNA,))
KILLED = -signal.SIGKILL


class Doom(FixedClock):
    """Both ports; the process ends when they have been asked so often."""

    def __init__(self, moment: int) -> None:
        super().__init__()
        self.left = moment

    def now(self) -> datetime:
        self.tick()
        return super().now()

    def __call__(self, what: str, done: int, total: int) -> None:
        del what, done, total
        self.tick()

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def work(verb: str, lake: Path, doom: Doom) -> None:
    """Do the verb as its command does."""
    with hold_lake(lake, clock=doom, acknowledged={}):
        if verb == "retain":
            retain(lake, RETENTION, clock=doom, progress=doom)
        elif verb == "compact":
            compact(lake, clock=doom, progress=doom)
        elif verb == "vacuum":
            vacuum(lake, keep_hours=0, dry_run=False, clock=doom, progress=doom)
        else:
            Erasure(lake, ASKED, clock=doom, progress=doom).run()


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), Doom(int(sys.argv[3])))
