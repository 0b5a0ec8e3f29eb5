"""`./dev bench lag`: 500 tenants in one collector, one of them throttled and one poisoned.

One simulator in a process of its own serves all of them, live. A collector in another collects each feed
once a minute into a lake; looked at every two seconds are its memory and each tenant's lag, as its ledger
has it. It is done twice: with all tenants well, and with one that is throttled at every request and one
whose blobs cannot be read. What is asked is whether the 498 others notice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median, quantiles

from rich.console import Console

from benchmarks.figures import Judgement, show_judgements
from benchmarks.measuring import CommandFailed
from benchmarks.outcome import Line, Outcome, asked_of, missed_of, shown
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LedgerUnusable
from m365watch.config.loader import load_settings
from m365watch.health.collector_status import read_tenants
from m365watch.health.tenant_status import TenantState
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.identities import derive_identities
from m365watch_simulator.service.scenario import Scenario
from m365watch_simulator.service.server import SimulationSettings, simulator_running

TENANTS = 500
SECONDS = 150.0
"""How long the collector is looked at, from the moment on that it has listed every well tenant."""
PERIOD_S = 60
"""Between two polls of a feed."""
START_MAX_S = 240.0
"""How long the first listing of everything may take."""
MEMORY_MB_MAX = 600.0
LAG_RATIO_MAX = 1.1
"""The lag of the others beside the ill, over their lag without them, at the 95th of a hundred."""
RECORDS_PER_DAY = 300
_LOOK_S = 2.0
_SEED = 11
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_THROTTLED = {"on": ["subscriptions", "list", "page", "fetch"], "answer": "af429_as_403", "times": "always"}
_POISONED = {"on": "fetch", "answer": "html_500", "times": "always"}


@dataclass(slots=True)
class Course:
    """One run with all its tenants."""

    ill: bool
    """Whether one was throttled and one poisoned."""
    started_s: float = 0.0
    """Until every well tenant was listed once."""
    memory_mb: float = 0.0
    """The highest resident size that was seen."""
    cpu_share: float = 0.0
    """Of one core, while it was looked at."""
    lag_median_s: float = 0.0
    lag_p95_s: float = 0.0
    lag_max_s: float = 0.0
    """Of the 498 tenants that are well in both courses, over all looks."""
    records: int = 0
    """Of these tenants, delivered at the end."""
    page_s: float = 0.0
    """What `m365watch tenants` took at the end, beside the collector."""
    states: dict[str, int] = field(default_factory=dict)
    """Tenants in each state at the end."""


@dataclass(slots=True)
class Report:
    """Everything, as --json prints it."""

    tenants: int
    python: str = field(default_factory=platform.python_version)
    machine: str = field(default_factory=platform.platform)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    load_before: float = field(default_factory=lambda: round(os.getloadavg()[0], 2))
    courses: list[Course] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def show_lag(*, tenants: int, seconds: float, console: Console) -> Outcome:
    """Both courses, one after the other.

    Raises: CommandFailed: a process did not do what it was told.
    """
    report = Report(tenants)
    for ill in (False, True):
        with tempfile.TemporaryDirectory(prefix="m365watch-tenants-") as folder:
            course = measure(Path(folder), tenants=tenants, seconds=seconds, ill=ill)
        report.courses.append(course)
        console.print(
            f"{'one throttled, one poisoned' if ill else 'all well'}: {asdict(course)}", markup=False
        )
    report.judgements = judge(report.courses)
    show_judgements(report.judgements, console)
    passed = all(judgement.passed for judgement in report.judgements)
    return Outcome(tuple(_lines(report)), passed, asdict(report))


def _lines(report: Report) -> Iterator[Line]:
    well, ill = report.courses
    name = f"{report.tenants} tenants"
    yield Line(f"{name}, all well", f"{well.lag_p95_s:.0f} s of lag", peak_mb=well.memory_mb)
    yield Line(
        f"{name}, two of them ill",
        f"{ill.lag_p95_s:.0f} s of lag of the others",
        ratio=f"{shown(ill.lag_p95_s / well.lag_p95_s)} of all well" if well.lag_p95_s else "",
        peak_mb=ill.memory_mb,
        asked=asked_of(report.judgements),
        missed=missed_of(report.judgements),
    )


def judge(courses: Sequence[Course]) -> list[Judgement]:
    """The required figures of a course with all well, and of one with two that are ill."""
    well, ill = courses
    memory = max(course.memory_mb for course in courses)
    ratio = ill.lag_p95_s / well.lag_p95_s if well.lag_p95_s else 0.0
    return [
        Judgement("peak memory, MB", f"at most {MEMORY_MB_MAX:g}", round(memory, 1), memory <= MEMORY_MB_MAX),
        Judgement(
            "95 % lag of the others, beside the ill to without",
            f"at most {LAG_RATIO_MAX:g}",
            round(ratio, 2),
            ratio <= LAG_RATIO_MAX,
        ),
    ]


def measure(folder: Path, *, tenants: int, seconds: float, ill: bool) -> Course:
    """One course; what is ill is so from the beginning."""
    course = Course(ill)
    with _serving(folder, tenants=tenants, ill=ill) as others:
        file = folder / "config.json"
        settings = load_settings(file, environment={}, for_reading=True)
        with _collecting(file) as process:
            clock = SystemClock()
            begun_s = clock.monotonic_s()

            def lags() -> list[float | None]:
                with suppress(LedgerUnusable):
                    found = read_tenants(settings, now=clock.now())
                    return [one.lag_s for one in found if one.tenant_id in others]
                return [None]

            while None in lags():
                if process.poll() is not None or clock.monotonic_s() - begun_s > START_MAX_S:
                    raise CommandFailed((folder / "run.log").read_text()[-2_000:])
                course.memory_mb = max(course.memory_mb, _memory_mb(process.pid))
                asyncio.run(clock.sleep(0.5))
            course.started_s = round(clock.monotonic_s() - begun_s, 1)
            seen: list[float] = []
            cpu_s, from_s = _cpu_s(process.pid), clock.monotonic_s()
            while clock.monotonic_s() - from_s < seconds:
                seen += [lag for lag in lags() if lag is not None]
                course.memory_mb = max(course.memory_mb, _memory_mb(process.pid))
                asyncio.run(clock.sleep(_LOOK_S))
            course.cpu_share = round((_cpu_s(process.pid) - cpu_s) / (clock.monotonic_s() - from_s), 3)
            asked_s = clock.monotonic_s()
            subprocess.run([*_M365WATCH, "tenants", "--config", str(file)], check=True, capture_output=True)
            course.page_s = round(clock.monotonic_s() - asked_s, 2)
            found = read_tenants(settings, now=clock.now())
    states = [one.state for one in found]
    course.states = {str(state): states.count(state) for state in TenantState if state in states}
    course.records = sum(
        row.records_delivered for one in found if one.tenant_id in others for row in one.feeds
    )
    course.memory_mb = round(course.memory_mb, 1)
    course.lag_median_s, course.lag_max_s = round(median(seen), 1), round(max(seen), 1)
    course.lag_p95_s = round(quantiles(seen, n=20)[-1], 1)
    return course


_M365WATCH = (sys.executable, "-m", "m365watch")


@contextmanager
def _serving(folder: Path, *, tenants: int, ill: bool) -> Iterator[frozenset[str]]:
    """The simulator, which has left a configuration in `folder`; who is well in both courses."""
    words = ["serve", str(folder), "--tenants", str(tenants), *(["--ill"] if ill else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.lag", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise CommandFailed("the simulator did not start")
        yield frozenset(json.loads(line)["others"])
    finally:
        process.terminate()
        # Closes its pipe as well.
        process.communicate()


@contextmanager
def _collecting(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (file.parent / "run.log").open("wb") as log:
        process = subprocess.Popen([*_M365WATCH, "run", "--config", str(file), "--quiet"], stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _memory_mb(pid: int) -> float:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB
    return 0.0


def _cpu_s(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serve(folder: Path, *, tenants: int, ill: bool) -> None:
    """Serve until stopped; says in one line who is well in both courses."""
    clock = SystemClock()
    settings = SimulationSettings(
        seed=_SEED,
        tenants=derive_identities(_SEED, count=tenants),
        days=1,
        records_per_day=RECORDS_PER_DAY,
        users=12,
    )
    async with simulator_running(settings, clock=clock) as running:
        if ill:
            for tenant, rule in zip(running.tenants, (_THROTTLED, _POISONED), strict=False):
                tenant.faults = FaultPlan(Scenario.model_validate({"rules": [rule]}), seed=_SEED)
        document = running.configuration(outputs={"lake": {"type": "lake"}})
        since = (clock.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for source in document["inputs"].values():
            options = {"request_period_in_seconds": PERIOD_S, "start_time_in_utc": since}
            source["services"] = dict.fromkeys(source["services"], options)
        file = folder / "config.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(document))
        ids = [tenant.identity.tenant_id for tenant in running.tenants]
        print(json.dumps({"others": ids[2:]}), flush=True)
        await asyncio.Event().wait()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tenants", type=int, default=TENANTS)
    parser.add_argument("--ill", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(options.folder, tenants=options.tenants, ill=options.ill))


if __name__ == "__main__":
    _main()
