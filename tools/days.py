"""Tests, the demo and the packs' weeks on other days: what passes today has to pass on any day.

    ./dev days all test -n 4
    ./dev days auckland,2026-12-03T08:30 demo

A run starts at the day's instant, and its clock goes on from there, in all processes that it starts.
Monotonic clocks, the times of files and DuckDB's now() stay the machine's own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOOK = Path(__file__).with_name("shifted_clock")
"""A folder whose sitecustomize shifts the clock of every Python that has it on its path."""


@dataclass(frozen=True, slots=True)
class Day:
    """An instant at which a run starts, and the time zone of its machine."""

    starts_at: datetime
    zone: str = "UTC"

    def environment(self) -> dict[str, str]:
        """What a process is started with to live on that day, and all that it starts."""
        ahead_s = (self.starts_at - datetime.now(UTC)).total_seconds()  # noqa: TID251 - the machine's own
        return {"PYTHONPATH": str(HOOK), "PYTHON_TESTS_CLOCK_AHEAD_S": str(ahead_s), "TZ": self.zone}


def _at(text: str, zone: str = "UTC") -> Day:
    return Day(datetime.fromisoformat(text).replace(tzinfo=UTC), zone)


DAYS = {
    "monday": _at("2027-05-31T12:00"),
    "tuesday": _at("2026-12-15T09:00"),
    "wednesday": _at("2027-06-30T23:59"),
    "year-end": _at("2026-12-31T23:59"),
    "new-year": _at("2027-01-01T00:01"),
    "saturday": _at("2027-07-31T10:00"),
    "february-end": _at("2027-02-28T18:00"),
    "leap-day": _at("2028-02-29T07:30"),
    "to-summer": _at("2027-03-28T00:55", "Europe/Berlin"),
    "from-summer": _at("2027-10-31T00:55", "Europe/Berlin"),
    "auckland": _at("2027-04-03T13:55", "Pacific/Auckland"),
    "st-johns": _at("2027-03-14T05:25", "America/St_Johns"),
}
"""Each weekday, the ends of months, of February and of a year, midnight, and clocks that are changed."""
COMMANDS = {
    "test": ["-m", "pytest", "-q"],
    "demo": ["-m", "m365watch.cli.main", "demo", "--no-board"],
    "weeks": ["tests/detection/packs/weeks.py", "--to-now"],
}


def main() -> int:
    """Run the command on each of the days; 1 where it failed on any."""
    parser = argparse.ArgumentParser(prog="./dev days", description="Run tests or the demo on other days.")
    parser.add_argument("days", help=f"all, or UTC times and names, joined by commas: {', '.join(DAYS)}")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command")
    chosen = parser.parse_args()
    try:
        names = list(DAYS) if chosen.days == "all" else chosen.days.split(",")
        days = {name: DAYS.get(name) or _at(name) for name in names}
    except ValueError as error:
        parser.error(f"no such day: {error} (a time is YYYY-MM-DDTHH:MM; names: {', '.join(DAYS)})")
    failed = []
    for name, day in days.items():
        print(f"== {name}: {day.starts_at:%A, %d %B %Y, %H:%M} UTC, {day.zone}", flush=True)  # noqa: T201
        command = [sys.executable, *COMMANDS[chosen.command], *chosen.arguments]
        if subprocess.run(command, cwd=ROOT, env=os.environ | day.environment(), check=False).returncode:
            failed.append(name)
    print(f"== passed on {len(days) - len(failed)} of {len(days)} days;", "failed:", *failed or ["none"])  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
