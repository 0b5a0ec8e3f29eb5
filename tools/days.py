"""Tests, the demo and the packs' weeks on other days: what passes today has to pass on any day.

A run starts at the day's instant, and its clock goes on from there, in all Python processes that it starts.
The machine's own stay monotonic clocks, the times of files, DuckDB's now(), TLS (which is why the days are
ahead of today, never behind it) and the browser.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parents[1]
HOOK = Path(__file__).with_name("shifted_clock")
"""A folder whose sitecustomize shifts the clock of every Python that has it on its path."""
BEFORE = timedelta(seconds=5)
"""How long before a zone's clocks change a run starts: the demo, too, is still at work then."""
EXAMPLES = """\
days: all, or joined by commas names of these and UTC times such as 2026-12-03T08:30
  {}

  ./dev days all test -n 4
  ./dev days year-end,auckland test -n 4 tests/board
  ./dev days 2026-12-03T08:30 demo
"""


@dataclass(frozen=True, slots=True)
class Day:
    """An instant at which a run starts, and the time zone of its machine."""

    starts_at: datetime
    zone: str = "UTC"

    def __str__(self) -> str:
        """The instant in that zone."""
        return f"{self.starts_at.astimezone(ZoneInfo(self.zone)):%A, %d %B %Y, %H:%M:%S} {self.zone}"

    def environment(self) -> dict[str, str]:
        """What a process is started with to live on that day, and all that it starts."""
        ahead_s = (self.starts_at - _now()).total_seconds()
        return {"PYTHONPATH": str(HOOK), "PYTHON_TESTS_CLOCK_AHEAD_S": str(ahead_s), "TZ": self.zone}


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the machine's own


def _next(at: str, holds: Callable[[datetime], bool] = lambda _: True) -> Day:
    """The first of the days from tomorrow on that `holds`, at that time."""
    day = datetime.combine(_now().date(), time.fromisoformat(at), UTC) + timedelta(days=1)
    while not holds(day):
        day += timedelta(days=1)
    return Day(day)


def _weekday(number: int, at: str) -> Day:
    return _next(at, lambda day: day.weekday() == number)


def _date(month: int, day: int, at: str) -> Day:
    return _next(at, lambda one: (one.month, one.day) == (month, day))


def _change(zone: str, *, forward: bool) -> Day:
    """Just before the zone's clocks are put forward next, or back."""
    place, step = ZoneInfo(zone), timedelta(minutes=30)

    def offset(at: datetime) -> timedelta:
        return at.astimezone(place).utcoffset() or timedelta(0)

    at = _next("00:00").starts_at
    while offset(at) == offset(at + step) or (offset(at) < offset(at + step)) is not forward:
        at += step
    return Day(at + step - BEFORE, zone)


DAYS: dict[str, Callable[[], Day]] = {
    "monday": lambda: _weekday(0, "12:00"),
    "tuesday": lambda: _weekday(1, "09:00"),
    "wednesday": lambda: _weekday(2, "23:59:55"),
    "thursday": lambda: _weekday(3, "00:01"),
    "friday": lambda: _weekday(4, "15:30"),
    "saturday": lambda: _weekday(5, "10:00"),
    "sunday": lambda: _weekday(6, "18:00"),
    "month-end": lambda: _next("23:59:55", lambda day: day.month < (day + timedelta(days=1)).month),
    "year-end": lambda: _date(12, 31, "23:59:55"),
    "new-year": lambda: _date(1, 1, "00:01"),
    "february-end": lambda: _date(2, 28, "18:00"),
    "leap-day": lambda: _date(2, 29, "07:30"),
    "to-summer": lambda: _change("Europe/Berlin", forward=True),
    "from-summer": lambda: _change("Europe/Berlin", forward=False),
    "auckland": lambda: _change("Pacific/Auckland", forward=False),
    "st-johns": lambda: _change("America/St_Johns", forward=True),
}
"""The next of each weekday, the ends of a month, of February and of a year, and where clocks change."""
COMMANDS = {
    "test": ["-m", "pytest", "-q"],
    "demo": ["-m", "m365watch.cli.main", "demo", "--no-board"],
    "weeks": ["tests/detection/packs/weeks.py", "--to-now"],
}


def day_of(text: str) -> Day:
    """The day of that name, or at that UTC time. Raises: ValueError."""
    if text in DAYS:
        return DAYS[text]()
    return Day(datetime.fromisoformat(text).replace(tzinfo=UTC))


def main() -> int:
    """Run the command on each of the days; 1 where it failed on any."""
    parser = argparse.ArgumentParser(
        prog="./dev days",
        usage="%(prog)s DAYS {test,demo,weeks} [ARGUMENTS]",
        description="Run tests, the demo or the packs' weeks on other days.",
        epilog=EXAMPLES.format("\n  ".join(f"{name:14}{day()}" for name, day in DAYS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("days", metavar="DAYS", help="all, names or UTC times; see below")
    parser.add_argument("command", choices=COMMANDS, help="what to run")
    more = parser.add_argument("arguments", metavar="ARGUMENTS", nargs=argparse.REMAINDER, help="of its own")
    more.required = False
    chosen = parser.parse_args()
    names = [name for part in chosen.days.split(",") if (name := part.strip())]
    days = {}
    for name in DAYS if names == ["all"] else names:
        try:
            days[name] = day_of(name)
        except ValueError:
            parser.error(f"no such day: {name} (a time is YYYY-MM-DDTHH:MM; --help has the names)")
    if not days:
        parser.error("name a day, or all")
    failed = []
    for name, day in days.items():
        print(f"== {name}: {day}", flush=True)  # noqa: T201
        command = [sys.executable, *COMMANDS[chosen.command], *chosen.arguments]
        if subprocess.run(command, cwd=ROOT, env=os.environ | day.environment(), check=False).returncode:
            failed.append(name)
    print(f"== passed on {len(days) - len(failed)} of {len(days)} days;", "failed:", *failed or ["none"])  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
