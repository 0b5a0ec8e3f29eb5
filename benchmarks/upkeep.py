"""What the upkeep of a lake costs: a lake is made and looked after, each verb in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from benchmarks.measuring import Command, run_measured
from benchmarks.outcome import Line, Outcome

RECORDS = 2_000_000
VERBS = ("compact", "check", "erase", "retain", "vacuum")
DAYS = 10
BATCH_RECORDS = 5_000
PERSON = "user7@contoso.example"


def fill(lake: Path, records: int) -> None:
    """Records of forty persons, two tables and ten days, in batches, about 900 bytes each."""
    from m365watch.common.clock import SystemClock
    from m365watch.lake.writer.table_writer import AuditWriter
    from m365watch_testing.batches import make_batch, make_part

    writer = AuditWriter(lake, app_id="m365watch/lake/benchmark")
    first = SystemClock().now() - timedelta(days=DAYS - 1)
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
    from m365watch.common.clock import SystemClock
    from m365watch.config.models.retention import Retention, TableRetention
    from m365watch.lake.delta.table_files import silently
    from m365watch.lake.erasure.erasure_journal import Asked
    from m365watch.lake.erasure.record_erasure import Erasure
    from m365watch.lake.maintenance.compaction import compact
    from m365watch.lake.maintenance.integrity_check import check_lake
    from m365watch.lake.maintenance.retention import retain
    from m365watch.lake.maintenance.vacuum import vacuum

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
        tables = {"cloud.office365.management.exchange": TableRetention(days=5)}
        retain(lake, Retention(days=8, tables=tables), clock=clock, progress=silently)
    else:
        vacuum(lake, keep_hours=0, dry_run=False, clock=clock, progress=silently)


def show_upkeep(*, records: int, console: Console) -> Outcome:
    """Make a lake, and call this program once for each verb."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="m365watch-bench-") as folder:
        lake = Path(folder) / "lake"
        fill(lake, records)
        for verb in VERBS:
            cost = run_measured(Command([sys.executable, "-m", "benchmarks.upkeep", verb, str(lake)]))
            speed = f"{records / cost.wall_s:,.0f} records/s"
            cpu_us, peak_mb = cost.cpu_s * 1e6 / records, cost.peak_bytes / 1e6
            lines.append(Line(verb, speed, cpu_us=cpu_us, peak_mb=peak_mb))
            console.print(f"{verb:8} {cost.wall_s:6.1f} s {cpu_us:6.1f} µs a record {peak_mb:5.0f} MB")
    return Outcome(tuple(lines), passed=True, report={"records": records})


if __name__ == "__main__":
    look_after(sys.argv[1], Path(sys.argv[2]))
