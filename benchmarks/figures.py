"""What was measured, what was asked for, and how both are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Cost

JUDGED_RECORDS = 200_000
"""With fewer, a start weighs too much for the figures to say anything."""
RECORDS = 2_000_000
"""Of whole runs: a start, which has figures of its own, no longer shows in them."""


@dataclass(slots=True)
class Row:
    """A contender's runs."""

    name: str
    records: int
    costs: list[Cost] = field(default_factory=list)
    starts: list[Cost] = field(default_factory=list)
    """Runs against a tenant without a record."""

    @property
    def speeds(self) -> list[float]:
        """Records a second of each run, its start and its end included."""
        return [self.records / cost.wall_s for cost in self.costs]

    @property
    def cpus_us(self) -> list[float]:
        """CPU microseconds a record of each run, its start and its end included."""
        return [cost.cpu_s * 1e6 / self.records for cost in self.costs]

    @property
    def peaks_mb(self) -> list[float]:
        """Peak memory of each run."""
        return [cost.peak_bytes / 1e6 for cost in self.costs]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A required figure beside the measured one."""

    figure: str
    required: str
    measured: float | None
    """None: somebody who has to be compared could not be run here."""
    passed: bool


@dataclass(frozen=True, slots=True)
class Requirement:
    """A bound on a figure of one contender, or on its ratio to another's."""

    figure: str
    measure: Callable[[Row], float]
    name: str
    other: str = ""
    """If given, the figure is divided by that contender's."""
    at_most: float | None = None
    at_least: float = 0.0

    def judged(self, rows: Mapping[str, Row]) -> Judgement:
        """Whether `rows`, by name, meet it."""
        bound, word = (self.at_least, "at least") if self.at_most is None else (self.at_most, "at most")
        required = f"{word} {bound:,g}"
        if self.name not in rows or (self.other and self.other not in rows):
            return Judgement(self.figure, required, None, passed=True)
        measured = self.measure(rows[self.name])
        if self.other:
            measured /= self.measure(rows[self.other])
        passed = measured >= bound if self.at_most is None else measured <= bound
        return Judgement(self.figure, required, measured, passed)


def speed(row: Row) -> float:
    """Records a second, of the run in the middle."""
    return median(row.speeds)


def cpu_us(row: Row) -> float:
    """CPU microseconds a record, of the run in the middle."""
    return median(row.cpus_us)


def system_us(row: Row) -> float:
    """Of the CPU microseconds a record those that the system took, of the run in the middle."""
    return median(cost.system_s for cost in row.costs) * 1e6 / row.records


def net_own_us(row: Row) -> float:
    """CPU microseconds a record without the system's, and without what a run without records takes."""
    own_s = median(cost.cpu_s - cost.system_s for cost in row.costs)
    return (own_s - median(cost.cpu_s - cost.system_s for cost in row.starts)) * 1e6 / row.records


def peak_mb(row: Row) -> float:
    """The highest peak of all runs."""
    return max(row.peaks_mb)


REQUIREMENTS = (
    Requirement("files: CPU, µs a record", cpu_us, "files", at_most=10),
    Requirement("files: records/s", speed, "files", at_least=60_000),
    Requirement("files: peak memory, MB", peak_mb, "files", at_most=250),
    Requirement("files to plain, records/s", speed, "files", other="plain", at_least=0.6),
    Requirement("files to Tenzir, records/s", speed, "files", other="tenzir", at_least=1.3),
    Requirement("lake: CPU, µs a record", cpu_us, "lake", at_most=16),
    Requirement("lake: records/s", speed, "lake", at_least=45_000),
    Requirement("lake: peak memory, MB", peak_mb, "lake", at_most=450),
    Requirement("lake to plain, records/s", speed, "lake", other="plain", at_least=0.45),
    Requirement("all packs on: records/s to lake", speed, "lake, detections", other="lake", at_least=0.6),
)


def judge(rows: Sequence[Row], requirements: Sequence[Requirement]) -> list[Judgement]:
    """Every requirement beside what was measured."""
    by_name = {row.name: row for row in rows}
    return [requirement.judged(by_name) for requirement in requirements]


def show_rows(rows: Sequence[Row], console: Console, *, missing: Sequence[str] = ()) -> None:
    """The table of contenders: medians, and the least and the most beside them; CPU is for a record."""
    table = Table(
        box=MARKDOWN, title="Whole runs, from the start of a process to its end", title_justify="left"
    )
    table.add_column("contender")
    for column in ("records", "records/s", "CPU µs", "system's", "peak MB", "start s", "start CPU s"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.records:,}",
            _spread(row.speeds, ",.0f"),
            _spread(row.cpus_us, ".1f"),
            f"{system_us(row):.1f}",
            _spread(row.peaks_mb, ".0f"),
            f"{median(cost.wall_s for cost in row.starts):.2f}",
            f"{median(cost.cpu_s for cost in row.starts):.2f}",
        )
    for name in missing:
        table.add_row(name, "", "not installed; ./dev bench collector installs it")
    console.print(table)


def show_judgements(judgements: Sequence[Judgement], console: Console) -> None:
    """The required figures, each passed or failed."""
    table = Table(box=MARKDOWN, title="Required figures", title_justify="left")
    table.add_column("figure")
    for column in ("required", "measured", ""):
        table.add_column(column, justify="right")
    for judgement in judgements:
        if judgement.measured is None:
            table.add_row(judgement.figure, judgement.required, "", "[yellow]not measured[/]")
            continue
        form = ",.0f" if judgement.measured >= 1000 else ".3g"
        verdict = "[green]pass[/]" if judgement.passed else "[red]FAIL[/]"
        table.add_row(judgement.figure, judgement.required, f"{judgement.measured:{form}}", verdict)
    console.print(table)


def _spread(values: Sequence[float], form: str) -> str:
    middle = f"{median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"
