"""What the upkeep of a lake costs: `python -m benchmarks.upkeep [RECORDS]` makes a lake and looks after it.

Each verb runs in a process of its own; its time and its peak memory are printed, one line each.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

RECORDS = 2_000_000
DAYS = 10
BATCH_RECORDS = 5_000
PERSON = "user7@contoso.example"


def fill(lake: Path, records: int) -> None:
    """Records of forty persons, two tables and ten days, in batches, about 900 bytes each."""
    from m365watch.lake.writer import AuditWriter
    from m365watch.testing.batches import make_batch, make_part

    writer = AuditWriter(lake, app_id="m365watch/lake/benchmark")
    first = datetime.now(UTC) - timedelta(days=DAYS - 1)
    for number, start in enumerate(range(0, records, BATCH_RECORDS), start=1):
        day = (first + timedelta(days=start * DAYS // records)).date()
        rows = [a_record(n, day.isoformat()) for n in range(start, start + BATCH_RECORDS)]
        writer.append(make_batch(number, [make_part(rows, outputs=["lake"], blob=number)]))


def a_record(n: int, day: str) -> bytes:
    """The n-th record."""
    fields = {
        "CreationTime": f"{day}T08:{n // 60 % 60:02}:{n % 60:02}",
        "Id": f"{n:032x}",
        "Operation": "FileAccessed",
        "RecordType": 6,
        "Workload": ("Exchange", "SharePoint")[n % 2],
        "UserId": f"user{n % 40}@contoso.example",
        "ObjectId": f"https://contoso.example/sites/{n}",
        "AppAccessContext": {"UniqueTokenId": f"{n * 7919:064x}"},
        "UserAgent": "x" * 500,
    }
    return json.dumps(fields).encode()


def look_after(verb: str, lake: Path) -> None:
    """One verb, as its command does it."""
    from m365watch.clock import SystemClock
    from m365watch.config.settings import RetentionSettings, TableRetention
    from m365watch.lake.checking import check_lake
    from m365watch.lake.erasing_note import Asked
    from m365watch.lake.erasure import Erasure
    from m365watch.lake.files import silently
    from m365watch.lake.merging import compact
    from m365watch.lake.retention import retain
    from m365watch.lake.vacuuming import vacuum

    clock = SystemClock()
    if verb == "compact":
        compact(lake, clock=clock, progress=silently)
    elif verb == "check":
        check_lake(lake, reads_all=True, progress=silently)
    elif verb == "erase":
        erasure = Erasure(lake, Asked(names=(PERSON,)), clock=clock, progress=silently)
        erasure.run()
        erasure.close()
    elif verb == "retain":
        table = TableRetention("cloud.office365.management.exchange", days=5)
        retain(lake, RetentionSettings(days=8, tables=(table,)), clock=clock, progress=silently)
    else:
        vacuum(lake, keep_hours=0, dry_run=False, progress=silently)


def main() -> None:
    """Without a verb: make the lake, and call this program once for each verb."""
    if len(sys.argv) == 3:
        look_after(sys.argv[1], Path(sys.argv[2]))
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime
        sys.stdout.write(json.dumps({"cpu_s": cpu_s, "peak_mb": round(used.ru_maxrss * 1024 / 1e6)}) + "\n")
        return
    records = int(sys.argv[1]) if len(sys.argv) == 2 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        fill(lake, records)
        for verb in ("compact", "check", "erase", "retain", "vacuum"):
            began_s = time.monotonic()
            command = [sys.executable, "-m", "benchmarks.upkeep", verb, str(lake)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            took_s = time.monotonic() - began_s
            cpu_us = told["cpu_s"] * 1e6 / records
            sys.stdout.write(f"{verb:8} {took_s:6.1f} s {cpu_us:6.1f} us/record {told['peak_mb']:5} MB\n")


if __name__ == "__main__":
    main()
