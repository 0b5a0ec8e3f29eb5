"""`./dev soak`: a day of collecting in minutes, and whether anything grows that should not.

A collector in a process of its own collects into files and the lake at once from a tenant that publishes
all day, while much goes wrong. It is killed and stopped a few times, and looked at every second. In the end
every record must be in each output once, and what the longest-lived process held must have been flat.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from deltalake import DeltaTable
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.day import MORNING, PAIR_BYTES, DayClock
from benchmarks.figures import Judgement, show_judgements
from benchmarks.service import DIGEST_BYTES, digest
from m365watch.common.errors import LedgerUnusable
from m365watch.ledger.queries import feed_progress, ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch_simulator.feed.copies import identity

RECORDS = 2_000_000
MINUTES = 5.0
"""Of real time for the day."""
ENDS = ((0.5, signal.SIGKILL), (1.0, signal.SIGTERM), (1.5, signal.SIGKILL), (22.0, signal.SIGTERM))
"""From which hours of the day on the collector is ended, and how; it is started again at once."""
POLL_S = 1
"""A poller waits in real seconds: with the 5 minutes of a day, as often as once in 5 of its minutes."""
GROWTH_MAX = 1.1
"""The median of the last quarter over that of the second; the first is the one in which caches fill.

Handles and threads too: connections come and go with the pauses that the service asks for.
"""
WAL_MB_MAX = 64.0
_LOOK_S = 1.0
_END_WITHIN_S = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look found."""

    hour: float
    """Of the day's 24."""
    process: int
    """The collectors of the day are counted from 1."""
    memory_mb: float
    """Resident, of the collector alone: the lake's upkeep is a process of its own."""
    handles: int
    threads: int
    ledger_mb: float
    wal_mb: float
    queue_mb: float
    """Batches that wait on disk for an output."""
    lag_s: float
    """The largest of all feeds, in the day's seconds."""
    records: int
    """Delivered so far, as the ledger knows."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How an output compares with the truth."""

    output: str
    records: int
    distinct: int
    missing: int
    altered: int


@dataclass(slots=True)
class Report:
    """Everything, as --json prints it."""

    minutes: float
    python: str = field(default_factory=platform.python_version)
    machine: str = field(default_factory=platform.platform)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    load_before: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    served: dict[str, int] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


class SoakFailed(Exception):
    """A process did not do what it was told."""


class Soak:
    """One tenant, and the collectors of one day in one folder."""

    def __init__(self, folder: Path, *, records: int, minutes: float, console: Console) -> None:
        """Start the tenant; the day begins when it is ready."""
        self.report = Report(minutes)
        self._folder, self._minutes, self._console = folder, minutes, console
        self._tenant = subprocess.Popen(
            [*_command("serve", minutes), "--records", str(records), "--truth", str(folder / "truth")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._hear()
        self._begun_s = float(ready["begun_s"])
        self._clock = DayClock(minutes, begun_s=self._begun_s)
        outputs = {
            "files": {"type": "files", "config": {"directory": "out"}},
            "lake": {"type": "lake", "config": {"directory": "lake"}},
        }
        source = ready["input"]
        source["services"] = {key: {"request_period_in_seconds": POLL_S} for key in source["services"]}
        path = folder / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"inputs": {"office365": source}, "outputs": outputs}))

    def live_through_day(self) -> None:
        """Collect until the day is over, ending collectors as planned, and looking every second."""
        ends = list(ENDS)
        number, collector = 1, self._start()
        next_s = time.monotonic()
        while (hour := self._hour) < 24 or not self._has_delivered(number):
            if time.monotonic() - self._begun_s > 60 * self._minutes + _END_WITHIN_S:
                raise SoakFailed(f"collector {number} delivered nothing")
            if ends and hour >= ends[0][0] and self._has_delivered(number):
                self._end(collector, ends.pop(0)[1])
                number, collector = number + 1, self._start()
            if collector.poll() is not None:
                raise SoakFailed(f"collector {number} ended by itself with {collector.returncode}")
            with suppress(OSError, LedgerUnusable, sqlite3.Error):  # It may have begun just now.
                self.report.samples.append(self._look(collector.pid, number))
                self._show_progress()
            next_s += _LOOK_S
            time.sleep(max(0.0, next_s - time.monotonic()))
        self._end(collector, signal.SIGTERM)

    def _has_delivered(self, number: int) -> bool:
        """Whether that collector got further than its start."""
        known = {one.records for one in self.report.samples if one.process == number}
        return len(known) > 1

    def finish(self) -> None:
        """Collect what is left, stop the tenant, and compare both outputs with what it served."""
        last = self._start("--once")
        if last.wait():
            raise SoakFailed(f"the last run ended with {last.returncode}")
        self._ask_truth()
        truth = self._folder / "truth"
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as judging:
            found = judging.map(judge_output, ("files", "lake"), (self._folder,) * 2, (truth,) * 2)
            self.report.kept = list(found)
        self.report.judgements = judge(self.report)

    def close(self) -> None:
        """End the tenant."""
        self._tenant.kill()
        self._tenant.wait()

    @property
    def _hour(self) -> float:
        return (self._clock.now() - MORNING).total_seconds() / 3600

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [*_command("collect", self._minutes), "--config", str(self._folder / "config.json")]
        with (self._folder / "stderr").open("ab") as lines:
            return subprocess.Popen([*command, "--begun-s", str(self._begun_s), *options], stderr=lines)

    def _end(self, collector: subprocess.Popen[bytes], number: signal.Signals) -> None:
        collector.send_signal(number)
        code = collector.wait(_END_WITHIN_S)
        self.report.ends.append(f"{number.name} at {self._hour:.1f} h: exit code {code}")
        if code != (-number if number is signal.SIGKILL else 0):
            raise SoakFailed(f"a collector that got {number.name} ended with {code}")

    def _hear(self) -> dict[str, Any]:
        line = self._tenant.stdout.readline() if self._tenant.stdout else ""
        if not line:
            raise SoakFailed("the tenant ended")
        return dict(json.loads(line))

    def _ask_truth(self) -> None:
        if self._tenant.stdin is None:  # pragma: no cover - it is a pipe
            raise SoakFailed
        self._tenant.stdin.write("truth\n")
        self._tenant.stdin.flush()
        self.report.served = self._hear()

    def _look(self, pid: int, number: int) -> Sample:
        state, place = self._folder / "state", Path(f"/proc/{pid}")
        ledger = state / LEDGER_FILE
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        now = self._clock.now()
        with ledger_for_reading(ledger) as connection:
            feeds = feed_progress(connection, now)
        return Sample(
            hour=round(self._hour, 2),
            process=number,
            memory_mb=round(int((place / "statm").read_text().split()[1]) * _PAGE_BYTES / 1e6, 1),
            handles=len(list((place / "fd").iterdir())),
            threads=int(status["Threads"]),
            ledger_mb=_size_mb([ledger]),
            wal_mb=_size_mb([ledger.with_name(ledger.name + "-wal")]),
            queue_mb=_size_mb((state / "queues").glob("*/*")),
            lag_s=round(max((feed.lag_s(now) or 0.0 for feed in feeds), default=0.0)),
            records=sum(feed.records_delivered for feed in feeds),
        )

    def _show_progress(self) -> None:
        one = self.report.samples[-1]
        if not len(self.report.samples) % 20:
            self._console.print(
                f"{one.hour:4.1f} h: {one.records:,} records, {one.memory_mb:.0f} MB, {one.handles} handles"
            )


def _command(verb: str, minutes: float) -> list[str]:
    return [sys.executable, "-m", "benchmarks.day", verb, "--minutes", str(minutes)]


def _size_mb(paths: Iterable[Path]) -> float:
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return round(total / 1e6, 1)


def judge_output(output: str, folder: Path, truth: Path) -> Kept:
    """Compare what an output holds with the truth, text by text."""
    packed = truth.read_bytes()
    pairs = {packed[at : at + PAIR_BYTES] for at in range(0, len(packed), PAIR_BYTES)}
    held: set[bytes] = set()
    records = altered = 0
    for record in _in_files(folder / "out") if output == "files" else _in_lake(folder / "lake" / "audit"):
        name = identity(record) or digest(record)
        records += 1
        altered += name + digest(record) not in pairs
        held.add(name)
    missing = {pair[:DIGEST_BYTES] for pair in pairs} - held
    return Kept(output, records, len(held), len(missing), altered)


def _in_files(directory: Path) -> Iterator[bytes]:
    for path in directory.rglob("*.ndjson"):
        with path.open("rb") as lines:
            for line in lines:
                yield line.removesuffix(b"\n")


def _in_lake(table: Path) -> Iterator[bytes]:
    rows = DeltaTable(str(table)).to_pyarrow_dataset().to_batches(columns=["raw"], batch_size=10_000)
    for batch in rows:
        for raw in batch["raw"].to_pylist():
            yield raw.encode() if isinstance(raw, str) else raw


def quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The looks at the process that lived longest, in four parts of its life."""
    lives = {one.process: [other for other in samples if other.process == one.process] for one in samples}
    longest = max(lives.values(), key=len, default=[])
    count = len(longest)
    return [longest[count * part // 4 : count * (part + 1) // 4] for part in range(4)]


def judge(report: Report) -> list[Judgement]:
    """Every rule beside what was seen."""
    _, second, _, last = quarters(report.samples)
    if not (second and last):
        raise SoakFailed("the day was too short to be judged")
    wal_mb = max(one.wal_mb for one in report.samples)
    judgements = [
        *(_flat(name, second, last) for name in ("memory_mb", "handles", "threads")),
        Judgement("the ledger's WAL, MB", f"at most {WAL_MB_MAX:g}", wal_mb, passed=wal_mb <= WAL_MB_MAX),
    ]
    for kept in report.kept:
        wrong = kept.missing + kept.altered + kept.records - kept.distinct
        what = f"{kept.output}: missing, twice, altered"
        judgements.append(Judgement(what, "0", wrong, passed=wrong == 0))
    return judgements


def _flat(name: str, second: Sequence[Sample], last: Sequence[Sample]) -> Judgement:
    growth = median(getattr(one, name) for one in last) / median(getattr(one, name) for one in second)
    what = f"{name.removesuffix('_mb')}, last quarter to second"
    return Judgement(what, f"at most {GROWTH_MAX}", growth, passed=growth <= GROWTH_MAX)


def show(report: Report, console: Console) -> None:
    """The day in quarters of its longest process, the ends of the others, and the verdict."""
    served = report.served
    console.print(
        f"{served['distinct']:,} records, served {served['served']:,} times in {served['blobs']:,} blobs; "
        f"24 h in {report.minutes:g} minutes\n{report.cores} cores, load {report.load_before} before\n"
        + "\n".join(report.ends)
    )
    table = Table(box=MARKDOWN, title="The longest life, medians of its quarters", title_justify="left")
    columns = {"memory_mb": "MB", "handles": "handles", "threads": "threads", "ledger_mb": "ledger MB"}
    columns |= {"wal_mb": "WAL MB", "queue_mb": "queue MB", "lag_s": "lag s"}
    for title in ("quarter", *columns.values()):
        table.add_column(title, justify="right")
    for number, part in enumerate(quarters(report.samples), start=1):
        medians = (median(getattr(one, name) for one in part) for name in columns)
        table.add_row(str(number), *(f"{value:,.0f}" for value in medians))
    console.print(table)
    show_judgements(report.judgements, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 flat and complete, 1 not."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help="published in the day and before it")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of real time for the day")
    parser.add_argument("--json", action="store_true", help="everything as JSON on stdout, tables on stderr")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json)
    with tempfile.TemporaryDirectory(prefix="m365watch-soak-") as name:
        soak = Soak(Path(name), records=options.records, minutes=options.minutes, console=console)
        try:
            soak.live_through_day()
            soak.finish()
        except SoakFailed as failure:
            console.print(str(failure), style="red", markup=False)
            console.print((Path(name) / "stderr").read_text()[-2_000:], markup=False)
            return 1
        finally:
            soak.close()
    show(soak.report, console)
    if options.json:
        print(json.dumps(asdict(soak.report), indent=1))
    return 0 if all(judgement.passed for judgement in soak.report.judgements) else 1


if __name__ == "__main__":
    sys.exit(main())
