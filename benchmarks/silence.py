"""How often the silence alarm is wrong in four simulated weeks with a holiday, and what it finds.

`./dev bench silence` makes the blobs of six weeks of simulated tenants without a network: two to
learn, four to judge hour by hour as a run does. The third judged week has a holiday on its Wednesday, on
which people do what they do on a Sunday. Then a stretch of content is taken out, of one feed or of all.
It is missed if an alarm is raised where nothing is wrong, or none where six working hours are gone of a
feed that has three blobs in such an hour, or of all feeds of a tenant that has such a feed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from rich.console import Console

from benchmarks.figures import Judgement
from benchmarks.outcome import Line, Outcome, missed_of
from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.health.completeness.silence_detection import (
    JUDGED_H,
    WEEK_H,
    FeedPast,
    Rhythm,
    Silence,
    judge_and_learn,
)
from m365watch_simulator.feed.blobs import BlobMaker
from m365watch_simulator.feed.lateness import Calendar
from m365watch_simulator.feed.publication import History, Publication
from m365watch_simulator.organization.organization import Organisation
from m365watch_simulator.organization.records import RecordSource, SimulatedRecord
from m365watch_simulator.service.faults import FaultPlan
from m365watch_simulator.service.scenario import Scenario

MONDAY = datetime(2026, 10, 5, tzinfo=UTC)
FIRST = int(MONDAY.timestamp()) // 3600
LEARNED_WEEKS, JUDGED_WEEKS = 2, 4
END = FIRST + (LEARNED_WEEKS + JUDGED_WEEKS) * WEEK_H
HOLIDAY = MONDAY + timedelta(weeks=4, days=2)
SIZES = (1_000, 3_000, 10_000)
"""Records a day."""
SEEDS = range(1, 3)
HOLE_H = 6
MORNING = FIRST + 3 * WEEK_H + 24 + 9
"""Tuesday 09:00 of the second judged week."""

Counts = Mapping[Feed, Mapping[int, int]]


class WithHoliday:
    """The organisation, but that a holiday's people do what they did on the Sunday before."""

    def __init__(self, source: RecordSource) -> None:
        self._source = source

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """What happened in [start, end), which lies on one day."""
        if not HOLIDAY <= start < HOLIDAY + timedelta(days=1):
            return self._source.records_between(start, end)
        back = timedelta(days=3)
        sunday = self._source.records_between(start - back, end - back)
        return [replace(record, happened_at=record.happened_at + back) for record in sunday]


@dataclass(frozen=True, slots=True)
class TenantFigure:
    """What came of one tenant."""

    seed: int
    records_per_day: int
    hours_judged: int
    hours_empty: int
    alarms: int
    """Raised although nothing was wrong."""
    quiet_days: int
    """Stretches that were told from an alarm as a quiet day."""
    found_after_h: Mapping[str, int | None]
    """By feed: hours from the first missing hour to the alarm when six of its working hours are gone.

    None: not found.
    """
    incident_after_h: int | None
    """The same, the earliest of all feeds, when all feeds are gone for six working hours."""


def show_silence(console: Console) -> Outcome:
    """Every tenant's figures."""
    figures = [measure(seed, size) for size in SIZES for seed in SEEDS]
    console.print(page(figures), highlight=False, soft_wrap=True)
    after = [
        hours
        for figure in figures
        if figure.found_after_h
        for hours in (*figure.found_after_h.values(), figure.incident_after_h)
    ]
    alarms, blind = sum(figure.alarms for figure in figures), after.count(None)
    judgements = [
        Judgement("false alarms", "at most 0", alarms, passed=not alarms),
        Judgement("holes not found", "at most 0", blind, passed=not blind),
    ]
    hours = sum(figure.hours_judged for figure in figures)
    case = f"{hours:,} feed-hours, {len(after)} holes"
    slowest = max((one for one in after if one is not None), default=0)
    line = Line(case, f"found after {slowest} h at most", asked=len(judgements), missed=missed_of(judgements))
    passed = all(one.passed for one in judgements)
    return Outcome((line,), passed, {"figures": [asdict(figure) for figure in figures]})


def measure(seed: int, records_per_day: int) -> TenantFigure:
    """One tenant's figures."""
    counts = blobs_of_weeks(seed, records_per_day)
    alarms, quiet = raised(counts)
    busy = [feed for feed, hours in counts.items() if is_busy(hours)]
    hole = range(MORNING, MORNING + HOLE_H)
    found = {str(feed.content_type): first_alarm(without(counts, [feed], hole), hole) for feed in busy}
    judged = range(FIRST + LEARNED_WEEKS * WEEK_H, END)
    return TenantFigure(
        seed,
        records_per_day,
        hours_judged=len(judged) * len(counts),
        hours_empty=sum(not hours.get(hour) for hours in counts.values() for hour in judged),
        alarms=len(alarms),
        quiet_days=len(quiet),
        found_after_h=found,
        incident_after_h=first_alarm(without(counts, list(counts), hole), hole),
    )


def blobs_of_weeks(seed: int, records_per_day: int) -> dict[Feed, Counter[int]]:
    """Blobs by feed and hour of contentCreated, as the simulated service publishes them."""
    tenant = TenantId(f"00000000-0000-4000-8000-{seed:012d}")
    scenario = Scenario()
    source = WithHoliday(Organisation(seed, tenant, records_per_day=records_per_day))
    calendar = Calendar(
        seed=str(seed), epoch=datetime.fromtimestamp(END * 3600, UTC), behaviour=scenario.behaviour, live=True
    )
    history = History(source, calendar, MONDAY, blob_records=None, changes_records=False)
    maker = BlobMaker(partition="emea0001", appears_late_s=0.0)
    publication = Publication(history, maker=maker, faults=FaultPlan(scenario, seed=seed))
    publication.make(MONDAY, datetime.fromtimestamp(END * 3600, UTC))
    return {
        Feed(tenant, content_type): Counter(
            int(blob.created_at.timestamp()) // 3600 for blob in publication.blobs(content_type)
        )
        for content_type in ContentType
    }


def is_busy(hours: Mapping[int, int]) -> bool:
    """Whether the feed has 3 blobs or more in a usual working hour: the others are silent by nature."""
    weeks = [
        hour for week in range(3) for hour in range(MORNING - week * WEEK_H, MORNING - week * WEEK_H + HOLE_H)
    ]
    return sum(hours.get(hour, 0) for hour in weeks) / len(weeks) >= 3


def without(counts: Counts, feeds: Sequence[Feed], hole: range) -> dict[Feed, dict[int, int]]:
    """The same without what `feeds` have in `hole`."""
    return {
        feed: {hour: blobs for hour, blobs in hours.items() if feed not in feeds or hour not in hole}
        for feed, hours in counts.items()
    }


def raised(counts: Counts) -> tuple[set[tuple[Feed, int]], set[tuple[Feed, int]]]:
    """Each alarm and each quiet stretch of the judged weeks, by feed and first hour."""
    alarms: set[tuple[Feed, int]] = set()
    quiet: set[tuple[Feed, int]] = set()
    for silence in walk(counts, range(FIRST + LEARNED_WEEKS * WEEK_H, END)):
        (alarms if silence.is_unusual else quiet).add((silence.feed, silence.first_hour))
    return alarms, quiet


def first_alarm(counts: Counts, hole: range) -> int | None:
    """Hours from the beginning of the hole to the first alarm that falls into it."""
    for silence in walk(counts, range(FIRST + LEARNED_WEEKS * WEEK_H, hole.stop + 3)):
        if silence.is_unusual and silence.first_hour < hole.stop and silence.end_hour > hole.start:
            return silence.end_hour - hole.start
    return None


def walk(counts: Counts, hours: range) -> list[Silence]:
    """What is found hour by hour, each time with what is known then, as a run does it."""
    rhythms = {feed: Rhythm() for feed in counts}
    found = []
    for due_to in hours:
        listed = range(max(FIRST, due_to - max(JUDGED_H, LEARNED_WEEKS * WEEK_H)), due_to)
        pasts = {feed: FeedPast(rhythms[feed], counts[feed], listed) for feed in counts}
        silences = judge_and_learn(pasts, due_to=due_to, custom=())
        found += [silence for silence in silences if silence.end_hour == due_to]
    return found


def page(figures: Sequence[TenantFigure]) -> str:
    """The figures for a person."""
    lines = [
        "records/day seed feed-hours  empty alarms quiet-days found after h              incident after h"
    ]
    for one in figures:
        after = " ".join(str(hours) for hours in one.found_after_h.values())
        lines.append(
            f"{one.records_per_day:11,} {one.seed:4} {one.hours_judged:10,} {one.hours_empty:6,}"
            f" {one.alarms:6} {one.quiet_days:10} {after:26} {one.incident_after_h}"
        )
    wrong, judged = sum(one.alarms for one in figures), sum(one.hours_judged for one in figures)
    found = [hours for one in figures for hours in one.found_after_h.values()]
    seen = sum(hours is not None for hours in found)
    lines.append(f"{wrong} false alarms in {judged:,} feed-hours; {seen} of {len(found)} holes found")
    return "\n".join(lines) + "\n"
