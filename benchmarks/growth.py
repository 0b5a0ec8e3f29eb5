"""How the cost of a record grows: with a hundred times as many records, and with 500 times as many tenants.

Records are delivered from one tenant by whole runs of 100,000, 2,000,000 and 10,000,000; then as many
records as a short run has come from 1, 10, 100 and 500 tenants. What is looked at are memory and CPU
time, which a busy machine distorts least; what grows is looked for without the system's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from rich.console import Console

from benchmarks.collector import measure, tell
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import Judgement, Row, cpu_us, net_own_us, peak_mb, show_judgements, show_rows, speed
from benchmarks.outcome import Line, Outcome, asked_of, missed_of, shown
from benchmarks.service import service_running

RECORDS = (100_000, 2_000_000, 10_000_000)
TENANTS = (1, 10, 100, 500)
GROWING = ("files", "lake")
FLAT = 1.2
"""What is flat may still waver by a fifth."""
PEAKS_MB = {"files": 250, "lake": 450}
CPU_US = {"files": 10, "lake": 16}
"""All of it, as the collector's own benchmark has it."""
FULL_RECORDS = 1_000_000
"""From so many on everything bounded is full, 220,000 identities in memory and the filter of a table above
all, and what is merged is merged: a step from fewer shows that, and no growth."""


@dataclass(slots=True)
class Step:
    """One size of the tenant or of their number, and what each contender takes for it."""

    name: str
    row: Row
    before: Row | None
    """The same contender at the step before."""

    def judgements(self) -> list[Judgement]:
        """Memory within its bound, and nothing that grows by more than a fifth from the step before."""
        contender = self.row.name
        most = PEAKS_MB[contender]
        found = [Judgement("peak MB", f"at most {most}", peak_mb(self.row), peak_mb(self.row) <= most)]
        if self.before is not None and self.before.records < self.row.records >= FULL_RECORDS:
            # With fewer the start weighs too much.
            most = CPU_US[contender]
            found += [
                Judgement("CPU, µs a record", f"at most {most}", cpu_us(self.row), cpu_us(self.row) <= most)
            ]
        if self.before is not None and not self.is_filling:
            found += [
                _flat("memory to the step before", peak_mb(self.row) / peak_mb(self.before)),
                _flat(
                    "own CPU less start to the step before", net_own_us(self.row) / net_own_us(self.before)
                ),
            ]
        return found

    @property
    def is_filling(self) -> bool:
        """Whether more records than at the step before only fill what they are kept in."""
        return self.before is not None and self.before.records < min(FULL_RECORDS, self.row.records)

    def line(self) -> Line:
        """As the one table has it."""
        judgements = self.judgements()
        grown = "" if self.before is None else shown(cpu_us(self.row) / cpu_us(self.before))
        return Line(
            f"{self.row.name}, {self.name}",
            speed=f"{speed(self.row):,.0f} records/s",
            ratio=f"{grown} of the CPU before" if grown else "",
            cpu_us=cpu_us(self.row),
            peak_mb=peak_mb(self.row),
            asked=asked_of(judgements),
            missed=missed_of(judgements),
        )


@dataclass(slots=True)
class Report:
    """Everything that was measured, as --json prints it."""

    services: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)


def show_growth(*, records: Sequence[int], runs: int, console: Console) -> Outcome:
    """Files and lake with so many records, each `runs` times.

    Raises: CommandFailed: one failed, or did not deliver every record once.
    """
    return _show([(f"{count:,} records", count, 1) for count in records], runs, console)


def show_tenants_growth(*, records: int, tenants: Sequence[int], runs: int, console: Console) -> Outcome:
    """Files and lake with `records` from so many tenants, each `runs` times.

    Raises: CommandFailed: one failed, or did not deliver every record once.
    """
    steps = [(f"{count:,} tenant{'s' if count > 1 else ''}", records, count) for count in tenants]
    return _show(steps, runs, console)


def _show(sizes: Sequence[tuple[str, int, int]], runs: int, console: Console) -> Outcome:
    report = Report()
    contenders = [contender for contender in CONTENDERS if contender.name in GROWING]
    measured: list[tuple[str, list[Row]]] = []
    for name, records, tenants in sizes:
        with service_running(records, tenants=tenants) as service:
            report.services.append(tell(service, console) | {"tenants": tenants})
            measured.append((name, measure(contenders, service, runs=runs, warm_ups=0)))
    steps = [
        Step(name, row, before)
        for place in range(len(contenders))
        for before, name, row in _along(measured, place)
    ]
    for step in steps:
        report.judgements += [
            Judgement(f"{step.row.name}, {step.name}: {one.figure}", one.required, one.measured, one.passed)
            for one in step.judgements()
        ]
    report.rows = [replace(step.row, name=f"{step.row.name}, {step.name}") for step in steps]
    show_rows(report.rows, console)
    show_judgements(report.judgements, console)
    passed = all(one.passed for one in report.judgements)
    return Outcome(tuple(step.line() for step in steps), passed, asdict(report))


def _along(measured: Sequence[tuple[str, list[Row]]], place: int) -> list[tuple[Row | None, str, Row]]:
    """One contender's rows, each with the one before it."""
    rows = [(name, some[place]) for name, some in measured]
    first = (None, *rows[0])
    return [first, *((before, name, row) for (_, before), (name, row) in pairwise(rows))]


def _flat(figure: str, times: float) -> Judgement:
    return Judgement(figure, f"at most {FLAT:g}", times, times <= FLAT)
