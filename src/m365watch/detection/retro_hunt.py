"""Looking back: rules over the records of a lake, as if they had been in force when those came.

The same engine does it that works while records arrive, in a file of its own that goes at the end: so the
same records, rules and settings give the same alerts, ids included. Records are read in the order of their
times, in slices, so that memory does not grow with the period.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from m365watch.common.model import Feed, Window
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.alerts.triage import ALERTS_READ_MAX
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.record_scan import Clock, LakeScan, ScanAsked, TooMany
from m365watch.records.headers import headers_of

HUNT_MAX = timedelta(days=90)
"""The longest period: alerts that have been over for longer are kept nowhere."""

Progress = Callable[[str, int, int], None]
"""What is done, how much of it, and of how much."""
Found = dict[tuple[Feed, datetime | None], list[bytes]]
"""Records by feed, and by when they had been fetched where they tell no time themselves."""


@dataclass(frozen=True, slots=True)
class HuntAsked:
    """What is looked for, and where."""

    lake: Path
    period: Window
    """Of the time at which records count, at most `HUNT_MAX` long."""
    rules: Sequence[Rule]
    """With all that correlations join."""
    wanted: frozenset[str]
    """The ids of the rules whose alerts are asked for."""
    knowledge: Knowledge = NOTHING_KNOWN
    exceptions: Exceptions = field(default_factory=Exceptions)


@dataclass(frozen=True, slots=True)
class HuntOutcome:
    """What was found."""

    alerts: list[KeptAlert]
    """The worst first, and of those the latest."""
    records: int
    """How many were looked at."""
    matches: int


def hunt(asked: HuntAsked, *, progress: Progress) -> HuntOutcome:
    """Take every record of the period past the rules.

    Raises: LakeMissing; OutputUnavailable: the lake cannot be read, or there is no room for what is found.
    """
    with TemporaryDirectory(prefix="m365watch-hunt-") as folder:
        state = DetectionState(Path(folder) / FILE_NAME, survives_power_cuts=False)
        try:
            return _Hunt(asked, state, progress).run()
        finally:
            state.close()


class _Hunt:
    """One look back."""

    def __init__(self, asked: HuntAsked, state: DetectionState, progress: Progress) -> None:
        self._asked = asked
        self._state = state
        self._progress = progress
        self._engine = Engine(asked.rules, state, knowledge=asked.knowledge, exceptions=asked.exceptions)
        self._number = 0

    def run(self) -> HuntOutcome:
        scan = LakeScan(self._asked.lake, ScanAsked(self._asked.period, Clock.COUNTED))
        looked_at: datetime | None = None
        for span, found in slices(scan, self._asked.period):
            self._let_pass(looked_at, span.start)
            looked_at = span.start
            self._take(span, found)
        self._let_pass(looked_at, self._asked.period.end)
        self._engine.look(now=self._asked.period.end)
        figures = self._engine.figures
        return HuntOutcome(self._list_alerts(), figures.records, figures.matches)

    def _let_pass(self, since: datetime | None, until: datetime) -> None:
        """Let time alone count each day, as it does every minute of a run, also on those without a record.

        Silences are told, and what may be forgotten goes; what has been over for long is told no more.
        """
        day = since
        while day is not None and day.date() < until.date():
            day = min(day + timedelta(days=1), until)
            self._engine.look(now=day)
            self._tell(day)

    def _take(self, span: Window, found: Found) -> None:
        self._number += 1
        self._engine.take(portions_of(found, at=span.end), number=self._number, now=span.end)
        self._tell(span.end)

    def _tell(self, until: datetime) -> None:
        period = self._asked.period
        share = round(100 * ((until - period.start) / (period.end - period.start)))
        self._progress(
            f"{self._engine.figures.records:,} records looked at, {share} % of the period", share, 1
        )

    def _list_alerts(self) -> list[KeptAlert]:
        kept = [
            one
            for one in self._state.alerts.list(most=ALERTS_READ_MAX)
            if one.alert.rule_id in self._asked.wanted
        ]
        return sorted(kept, key=lambda one: (-one.alert.severity.rank, -one.alert.last_at_ms, one.alert.id))


def portions_of(found: Found, *, at: datetime) -> list[Portion]:
    """Records of a slice as the engine takes them, as if they had come just after they were made."""
    return [
        Portion(feed.tenant_id, fetched_at or at, records, headers_of(records))
        for (feed, fetched_at), records in sorted(found.items(), key=lambda pair: _order_of(*pair[0]))
    ]


def _order_of(feed: Feed, fetched_at: datetime | None) -> tuple[str, float]:
    return str(feed), fetched_at.timestamp() if fetched_at is not None else 0


def slices(scan: LakeScan, period: Window) -> Iterator[tuple[Window, Found]]:
    """The records in the order of their times, no more at once than fit into memory."""
    for span in scan.spans(period.start, end=period.end):
        yield from _parts_of(scan, span)


def _parts_of(scan: LakeScan, span: Window) -> Iterator[tuple[Window, Found]]:
    try:
        found = scan.read_apart(span, bounded=True)
    except TooMany:
        middle = span.start + (span.end - span.start) / 2
        yield from _parts_of(scan, Window(span.start, middle))
        yield from _parts_of(scan, Window(middle, span.end))
        return
    if found:
        yield span, found
