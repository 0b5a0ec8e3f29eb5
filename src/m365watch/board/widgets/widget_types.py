"""What panels answer: charts, rankings, grids, tiles. Each has one template, and is JSON as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Empty:
    """Why there is nothing to show, and what to do about it."""

    why: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """A link in words: to an entity, a filter, a page."""

    text: str
    url: str
    kind: str = ""
    """What it is, in a word that stands before it: user, address."""


@dataclass(frozen=True, slots=True)
class Act:
    """A button that asks for a change of the configuration, which is shown before it is made."""

    words: str
    change: str
    """The change, in JSON."""
    title: str = ""
    """What it does, for whoever asks."""


@dataclass(frozen=True, slots=True)
class ServiceShown:
    """One service of an input."""

    name: str
    state: str
    tone: str
    note: str = ""
    act: Act | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One input or output."""

    kind: str
    name: str
    about: str
    """What it is, in a few words."""
    state: str
    tone: str
    url: str
    """Where it is edited."""
    says: str = ""
    """What is wrong with it."""
    fix: str = ""
    facts: Sequence[tuple[str, str]] = ()
    services: Sequence[ServiceShown] = ()
    acts: Sequence[Act] = ()
    copy: str = ""
    """Where another one is begun with its parameters."""
    trial: str = ""
    """What a preflight of it is asked for by; empty where it cannot be tried."""


@dataclass(frozen=True, slots=True)
class Instances:
    """Inputs or outputs, one below the other."""

    kind: ClassVar = "instances"
    rows: Sequence[Instance]
    base: str
    """The text that the buttons' changes are for."""
    new: Sequence[Way] = ()
    wrong: Sequence[str] = ()
    """Why the run does not have what the file says."""
    note: str = ""
    """When what is changed here counts, where that is not at once."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Editor:
    """The parameters of one instance, as a text."""

    kind: ClassVar = "editor"
    of: str
    """inputs or outputs."""
    name: str
    text: str
    base: str
    is_new: bool = False
    templates: Sequence[Way] = ()
    chosen: str = ""
    back: str = "/collectors"
    note: str = ""
    """When it counts, where that is not at once."""
    uploads: Sequence[str] = ()
    """The keys whose files can be uploaded."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class PastShown:
    """One change that was made."""

    number: int
    at: str
    by: str
    what: str
    lines: Sequence[tuple[str, str]]
    """The difference, line by line: added, removed or empty, and the text."""
    undo: Act | None = None
    anew: Way | None = None
    """Where it is put back by hand, since its secrets are kept nowhere."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """The changes that were made, the last one first."""

    kind: ClassVar = "past"
    rows: Sequence[PastShown]
    base: str
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A preflight that can be run."""

    kind: ClassVar = "trial"
    says: str
    of: str = ""
    """The instance that is tried; empty: everything."""
    base: str = ""
    empty: Empty | None = None


Narrows = tuple[str, str]
"""Name and value that a click narrows the view to: ("user", "ann@contoso.example")."""


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

    @classmethod
    def of_all(cls, rows: Sequence[Ranked], empty: Empty | None) -> Ranking:
        """Without a title, where the rows are all that there is."""
        return cls("", rows, sum(one.count for one in rows), empty=empty)


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


def headings_of(names: Sequence[str]) -> list[Heading]:
    """A heading for each name; one that ends with … is of a long text."""
    return [Heading(one.rstrip("…"), wide=one.endswith("…")) for one in names]


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
    earlier: str = ""
    """The URL of what comes after these rows; empty where nothing does."""
    later: str = ""
    """The URL of what came before them."""


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
    note: str = ""
    """What they do not count, and where that is."""


@dataclass(frozen=True, slots=True)
class Several:
    """Shapes side by side in one panel."""

    kind: ClassVar = "several"
    parts: Sequence[Chart | Ranking | Grid | Tiles | Listing]
    empty: Empty | None = None
    choices: Sequence[tuple[str, str]] = field(default=())
    """Values and words of the option `by` that the panel may be shown by."""
    chosen: str = ""
    span: Sequence[str] = ()
    """Both ends of the other time, where one may be chosen (by the options `then_from` and `then_to`)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A row of choices of which one holds; each is a URL."""

    title: str
    ways: Sequence[Way]
    chosen: str
    """The text of the one that holds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One alert of a queue."""

    id: str
    severity: str
    title: str
    url: str
    state: str
    entities: Sequence[Way]
    count: int
    first: str
    last: str
    techniques: Sequence[Way] = ()
    note: str = ""
    """Who has it, and what they wrote."""
    tenant: Way | None = None
    """Whose it is, where there are several."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Alerts to be worked on, with the keyboard or without."""

    kind: ClassVar = "queue"
    rows: Sequence[Waiting]
    choices: Sequence[Choice] = ()
    filters: Sequence[Way] = ()
    """What narrows it beside the choices; each URL takes one out."""
    cut: str = ""
    before: str = ""
    """The URL of the page before."""
    after: str = ""
    """The URL of the page after."""
    none: Empty | None = None
    """Why no alert is as the choices have it."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One alert, told from the start."""

    kind: ClassVar = "case"
    alert: Waiting
    explanation: str
    tactics: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    back: str = ""
    """The URL of the queue."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One thing said at some time, or to be done: a line of a list."""

    text: str
    at: str = ""
    note: str = ""
    tone: str = ""
    commands: Sequence[str] = ()
    """What is to be typed or called, to be copied as it stands."""
    url: str = ""
    """Where more of it is."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Sentences one below the other: what to check, what was done, what would end it."""

    kind: ClassVar = "listing"
    rows: Sequence[Said]
    title: str = ""
    cut: str = ""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class RecordLine:
    """One field of a record."""

    depth: int
    name: str
    value: str
    is_lit: bool = False
    """Whether a rule has looked at it."""
    url: str = ""
    """Where all that has the value is."""


@dataclass(frozen=True, slots=True)
class RecordShown:
    """One record, field by field."""

    id: str
    at: str
    title: str
    says: str
    ways: Sequence[Way]
    lines: Sequence[RecordLine]
    raw: str
    tone: str = ""
    who: str = ""
    is_open: bool = False
    """Whether its fields are in sight from the start."""


@dataclass(frozen=True, slots=True)
class Records:
    """Records one below the other, each to be opened."""

    kind: ClassVar = "records"
    rows: Sequence[RecordShown]
    cut: str = ""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """One field of a matrix: a technique, the rules that look for it and the alerts that found it."""

    id: str
    name: str
    rules: int
    alerts: int
    worst: str
    """The severity of the worst of these alerts; empty where there are none."""
    url: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """Techniques by tactic."""

    kind: ClassVar = "matrix"
    columns: Sequence[tuple[str, Sequence[Met]]]
    cut: str = ""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something at one time of a lane."""

    at: float
    """0 at the start of the time, 1 at its end."""
    tone: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One thing over the time: how much of it in each step."""

    label: str
    url: str
    colour: str
    values: Sequence[int] = ()
    marks: Sequence[Mark] = ()
    total: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lanes:
    """Many things on one axis of time."""

    kind: ClassVar = "lanes"
    start_s: int
    step_s: int
    steps: int
    groups: Sequence[tuple[str, Sequence[Lane]]]
    ticks: Sequence[tuple[float, str]] = ()
    more: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Where more or fewer of a group are shown, by its title: words and URL."""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One step of a row of a heat map."""

    tone: str
    """The name of a colour; empty where there is nothing to show."""
    depth: float
    """How strong it is, above 0 to 1."""
    says: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One thing over the time, step by step."""

    label: str
    cells: Sequence[HeatCell]
    figure: str
    """What the row comes to, in a few characters."""
    says: str
    """The same in a sentence, for whoever does not see the colours."""
    url: str = ""
    group: str = ""
    """What it is under, in a heading of its own; empty where all rows are of one."""
    name: str = ""
    """What it is called under that; empty: by its label."""


@dataclass(frozen=True, slots=True)
class Heat:
    """How many things stood at each time, by colour."""

    kind: ClassVar = "heat"
    start_s: int
    step_s: int
    steps: int
    rows: Sequence[HeatRow]
    ticks: Sequence[tuple[float, str]] = ()
    legend: Sequence[tuple[str, float, str]] = ()
    """Colour, depth and words."""
    cut: str = ""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on a map."""

    latitude: float
    longitude: float
    says: str
    size: float
    """How much there is of it, above 0 to 1."""
    tone: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """From one place to another: latitude and longitude of both."""

    start: tuple[float, float]
    end: tuple[float, float]
    says: str


@dataclass(frozen=True, slots=True)
class WorldMap:
    """Places, and ways between them."""

    kind: ClassVar = "map"
    spots: Sequence[Spot]
    tracks: Sequence[Track] = ()
    cut: str = ""
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """What a text stands in: a few words before it, itself, a few after."""

    before: str
    found: str
    after: str


@dataclass(frozen=True, slots=True)
class HitRow:
    """One record that was looked for."""

    cells: Sequence[Cell]
    passage: Passage | None = None
    """Where a text that was looked for stands in the record."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What somebody typed that cannot be read, from which character on, why, and what to do."""

    text: str
    at: int
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Hits:
    """Records that were looked for, as far as the lake has been searched."""

    kind: ClassVar = "hits"
    headings: Sequence[Heading]
    rows: Sequence[HitRow]
    chart: Chart
    count: int
    searched: int = 0
    """Records that were looked at, of those that may be seen."""
    left: int = 0
    """The same that have still to be looked at."""
    more: str = ""
    """The URL of the next part; empty where all has been searched."""
    refused: Refused | None = None
    none: Empty | None = None
    """What to do if there turns out to be no hit at all."""
    note: str = ""
    """What is not searched, and where that is."""
    empty: Empty | None = None


Plain = Chart | Ranking | Grid | Tiles | Several | Queue | Case | Listing | Records | Matrix | Lanes | Heat
Drawn = Plain | WorldMap | Hits
Configured = Instances | Editor | Past | Trial
Shape = Drawn | Configured
