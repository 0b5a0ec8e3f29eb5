"""What panels answer: charts, rankings, grids, tiles. Each has one template, and is JSON as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

Narrows = tuple[str, str]
"""Name and value that a click narrows the view to: ("user", "ann@contoso.example")."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Why there is nothing to show, and what to do about it."""

    why: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of values of a chart, a value for each instant."""

    name: str
    values: Sequence[float]
    colour: str
    """The name of a colour of the style sheet: c1 to c8, ok, failed, critical ..."""
    narrows: Narrows | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Values over time, stacked or each by itself."""

    kind: ClassVar = "chart"
    at_s: Sequence[int]
    step_s: int
    lines: Sequence[Line]
    stacked: bool = True
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One line of a ranking."""

    label: str
    count: int
    narrows: Narrows | None = None
    colour: str = "c1"
    spark: Sequence[int] = ()
    """Its course over the time, if there is one."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The most frequent of something, each with its share."""

    kind: ClassVar = "ranking"
    title: str
    rows: Sequence[Ranked]
    total: int
    empty: Empty | None = None

    @property
    def most(self) -> int:
        """The largest count; at least 1."""
        return max((row.count for row in self.rows), default=0) or 1


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a grid."""

    text: str
    narrows: Narrows | None = None
    tone: str = ""
    """critical, high, medium, low, ok, failed, muted: how it stands out."""
    sorts: float | None = None
    """What the column is sorted by; None: by the text."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Heading:
    """What a column of a grid is called, and whether it holds numbers."""

    text: str
    numeric: bool = False
    wide: bool = False
    """Whether its texts are sentences, which may take several lines."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of cells under headings."""

    kind: ClassVar = "grid"
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    empty: Empty | None = None
    cut: str = ""
    """What was left out, in words; empty where nothing was."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that is read from afar."""

    label: str
    value: str
    note: str = ""
    tone: str = ""
    url: str = ""
    spark: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Tiles:
    """Figures in a row."""

    kind: ClassVar = "tiles"
    tiles: Sequence[Tile]
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Several:
    """Shapes side by side in one panel."""

    kind: ClassVar = "several"
    parts: Sequence[Chart | Ranking | Grid | Tiles]
    empty: Empty | None = None
    choices: Sequence[tuple[str, str]] = field(default=())
    """Values and words of the option `by` that the panel may be shown by."""
    chosen: str = ""


Shape = Chart | Ranking | Grid | Tiles | Several
