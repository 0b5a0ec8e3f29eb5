"""What a benchmark ends with, and the one table that all of them fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import MARKDOWN
from rich.table import Table

from benchmarks.figures import Judgement


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was measured, as the table has it."""

    case: str
    speed: str = ""
    """With its unit: records/s are medians of whole runs, milliseconds are of the 95th of a hundred."""
    ratio: str = ""
    """To whom it is compared with in the same run."""
    cpu_us: float | None = None
    """Microseconds of CPU time a record, children's included."""
    peak_mb: float | None = None
    asked: int = 0
    """So many figures were required of it."""
    missed: tuple[str, ...] = ()
    """Those that it missed, each with what was measured and what was asked."""

    @property
    def verdict(self) -> str:
        """How many of the required figures are kept, and which are not."""
        kept = f"{self.asked - len(self.missed)} of {self.asked}" if self.asked else ""
        return f"{kept}; missed: {'; '.join(self.missed)}" if self.missed else kept


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a benchmark found."""

    lines: tuple[Line, ...]
    passed: bool
    """Whether every required figure is kept and nothing failed."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What `--json` prints beside the lines."""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self.report, "lines": [asdict(line) for line in self.lines], "passed": self.passed}


def missed_of(judgements: Iterable[Judgement]) -> tuple[str, ...]:
    """The required figures that were measured and missed, in words."""
    return tuple(
        f"{one.figure} {shown(one.measured)}, asked {one.required}"
        for one in judgements
        if one.measured is not None and not one.passed
    )


def asked_of(judgements: Iterable[Judgement]) -> int:
    """How many required figures were measured at all."""
    return sum(one.measured is not None for one in judgements)


def shown(value: float) -> str:
    """A figure with three digits that count, thousands in full; shares with four: 0.5996 is not 0.6."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.4g}"


def one_table(lines: Mapping[str, Iterable[Line]]) -> Table:
    """All lines, by benchmark."""
    table = Table(box=MARKDOWN)
    for column in ("benchmark", "measured"):
        table.add_column(column)
    for column in ("speed", "in the same run", "CPU µs a record", "peak MB"):
        table.add_column(column, justify="right")
    table.add_column("required figures kept")
    for name, some in lines.items():
        for line in some:
            table.add_row(
                name,
                line.case,
                line.speed,
                line.ratio,
                "" if line.cpu_us is None else shown(line.cpu_us),
                "" if line.peak_mb is None else f"{line.peak_mb:,.0f}",
                line.verdict,
            )
    return table
