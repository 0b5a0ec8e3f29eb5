"""Whether the file of detections is gone: it must not read as if nobody had ever looked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from m365watch.common.atomic_files import sync_file, sync_folder
from m365watch.common.clock import Clock
from m365watch.common.errors import LakeUnusable, LedgerUnusable, OutputUnavailable, OutputUnusable
from m365watch.common.model import Window
from m365watch.common.timestamps import instant_of_ms, ms_of
from m365watch.config.models.detections import DETECTIONS
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS, watched_since_ms
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.episode_finder import reach_s
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.engine.detection_engine import ALERTS_KEPT_MS, Engine
from m365watch.detection.engine.record_batch import OLDEST
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.rebuild import restore_alerts
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.alert_table import read_alerts
from m365watch.detection.store.database_recovery import (
    PLAN,
    SLICES_PER_DAY_MAX,
    RebuildPlan,
    RebuildStopped,
    partial_of,
    rebuilt_percent,
)
from m365watch.detection.store.detection_store import DetectionState
from m365watch.detection.store.stored_episodes import HORIZON_MS
from m365watch.lake.schema import ALERTS, AUDIT
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason
from m365watch.ledger.queries import last_batch, ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE
from m365watch.storage.damage import aside_name
from m365watch.storage.database import DatabaseError

if TYPE_CHECKING:
    from m365watch.detection.retro_hunt import Found
    from m365watch.lake.record_scan import LakeScan


FUTURE = timedelta(days=1)
"""Records may claim to be from tomorrow."""
TOLD_EVERY_S = 30.0
"""How often a run says how far it is."""
_DAY = timedelta(days=1)
_COMPANIONS = ("-wal", "-shm")
_log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Told how many records were looked at, and the percentage of the period."""


@dataclass(frozen=True, slots=True)
class RebuildAsked:
    """What is made of what."""

    path: Path
    """Where the file belongs."""
    lakes: tuple[Path, ...]
    rules: Sequence[Rule]
    """With all that correlations join."""
    digest: str
    """Of all that alerts depend on beside records: with another one a rebuilding begins anew."""
    knowledge: Knowledge = NOTHING_KNOWN
    exceptions: Exceptions = NO_EXCEPTIONS


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of it."""

    records: int
    alerts: int
    restored: int
    """Alerts that a lake knew."""
    put_back: int
    """Of them those that the records, by the rules of today, did not give: they are there as they were."""
    since: datetime


def lakes_present(lakes: Sequence[Path], *, table: str) -> tuple[Path, ...]:
    """Those of the lakes that have the table."""
    return tuple(lake for lake in lakes if (lake / table / "_delta_log").is_dir())


def is_rebuilding(path: Path) -> bool:
    """Whether a rebuilding of the file was begun."""
    return partial_of(path).exists()


class Rebuild:
    """One rebuilding. Everything here blocks."""

    def __init__(
        self,
        asked: RebuildAsked,
        *,
        clock: Clock,
        progress: Progress,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing is touched before `run`."""
        self._asked = asked
        self._clock = clock
        self._progress = progress
        self._is_stopping = is_stopping
        self._partial = partial_of(asked.path)
        self._records = 0

    def run(self) -> Rebuilt:
        """Make the file, and put it in its place; one that is there is kept under another name.

        Raises: RebuildStopped; OutputUnavailable, OutputUnusable: it goes on where it was with the next try.
        """
        remembered = self._read_alerts()
        state, plan = self._open(remembered)
        try:
            if not plan.is_complete:
                self._replay(state, plan)
                self._finish(state, plan, remembered)
            alerts = state.alerts.list()
        finally:
            state.close()
        self._put_in_place()
        put_back = sum(one.is_put_back for one in alerts)
        return Rebuilt(self._records, len(alerts), len(remembered), put_back, _instant(plan.start_s))

    def _read_alerts(self) -> list[KeptAlert]:
        """The alerts that the lakes know, each once."""
        since = self._clock.now() - timedelta(milliseconds=ALERTS_KEPT_MS)
        found = {kept.alert.id: kept for kept in self._read_old()}
        for lake in lakes_present(self._asked.lakes, table=ALERTS):
            try:
                for kept in read_alerts(lake, since=since):
                    known = found.setdefault(kept.alert.id, kept)
                    if kept.changed_at_ms > known.changed_at_ms:
                        found[kept.alert.id] = kept
            except (*WRITE_FAILURES, LakeUnusable) as failure:
                reason = failure.what if isinstance(failure, LakeUnusable) else plain_reason(failure)
                what = f"the alerts of the lake cannot be read ({reason})"
                raise OutputUnavailable(what, where=str(lake)) from failure
        return sorted(found.values(), key=lambda one: (one.alert.first_at_ms, one.alert.id))

    def _read_old(self) -> list[KeptAlert]:
        """The alerts of the file that is still there: what was decided of late is in no lake yet."""
        if not self._asked.path.is_file():
            return []
        try:
            state = DetectionState(self._asked.path)
        except OutputUnusable:
            return []
        try:
            return state.alerts.list()
        except DatabaseError:
            return []
        finally:
            state.close()

    def _open(self, remembered: Sequence[KeptAlert]) -> tuple[DetectionState, RebuildPlan]:
        """The new file, as an earlier try left it if that was about the same."""
        state = DetectionState(self._partial, survives_power_cuts=False)
        kept = state.read(PLAN)
        plan = msgspec.json.decode(kept, type=RebuildPlan) if kept else None
        if plan is not None and (plan.is_complete or plan.digest == self._asked.digest):
            return state, plan
        state.close()
        _remove(self._partial)
        state = DetectionState(self._partial, survives_power_cuts=False)
        plan = self._plan(remembered)
        with state.transaction():
            state.write(PLAN, msgspec.json.encode(plan).decode())
        return state, plan

    def _plan(self, remembered: Sequence[KeptAlert]) -> RebuildPlan:
        """As far back as anything counts today: a rule's memory, the beginning of an alert that goes on."""
        end = self._clock.now()
        reach_ms = max((reach_s(rule) * 1000 for rule in self._asked.rules), default=0)
        start_ms = ms_of(end) - HORIZON_MS - reach_ms
        going_on = [one.alert.first_at_ms for one in remembered if one.alert.last_at_ms >= start_ms]
        start_ms = max(min([start_ms, *going_on]), ms_of(end) - ALERTS_KEPT_MS)
        start = instant_of_ms(start_ms).replace(hour=0, minute=0, second=0, microsecond=0)
        return RebuildPlan(self._asked.digest, start.timestamp(), end.timestamp())

    def _replay(self, state: DetectionState, plan: RebuildPlan) -> None:
        asked = self._asked
        engine = Engine(asked.rules, state, knowledge=asked.knowledge, exceptions=asked.exceptions)
        end = _instant(plan.end_s)
        first_day = _instant(plan.start_s)
        if begun := state.last_batch // SLICES_PER_DAY_MAX:
            first_day = datetime.fromordinal(begun).replace(tzinfo=UTC)
        else:
            self._learn_since(state)
        from m365watch.detection.retro_hunt import portions_of

        scans = self._scans(Window(first_day, end + FUTURE))
        for day in _days(first_day, end + FUTURE):
            number = day.toordinal() * SLICES_PER_DAY_MAX
            # A day that was begun is begun again: what the lake has of it may lie in other files by now.
            engine.count_from(number)
            engine.look(now=min(day, end))
            for span, found in _slices_of(scans, day):
                if self._is_stopping():
                    raise RebuildStopped
                number += 1
                now = min(span.end, end)
                engine.take(portions_of(found, at=now), number=number, now=now)
                self._records += sum(map(len, found.values()))
                self._tell(plan, span.end)
        engine.look(now=end)
        engine.close()

    def _learn_since(self, state: DetectionState) -> None:
        """Since when each tenant is watched: what is new can be told after a while of that only."""
        from m365watch.lake.record_scan import LakeScan, ScanAsked

        for lake in lakes_present(self._asked.lakes, table=AUDIT):
            scan = LakeScan(lake, ScanAsked(_EVER))
            for tenant, first in scan.earliest(claimed_max=OLDEST).items():
                with state.transaction():
                    state.watch_since(tenant, watched_since_ms(ms_of(first)))

    def _scans(self, period: Window) -> list[tuple[LakeScan, frozenset[date]]]:
        """The lakes, each with the days of which it has records."""
        from m365watch.lake.record_scan import Clock, LakeScan, ScanAsked

        lakes = lakes_present(self._asked.lakes, table=AUDIT)
        scans = [LakeScan(lake, ScanAsked(period, Clock.COUNTED)) for lake in lakes]
        return [(scan, scan.days_present()) for scan in scans]

    def _tell(self, plan: RebuildPlan, reached: datetime) -> None:
        self._progress(self._records, plan.percent(reached.timestamp()))

    def _finish(self, state: DetectionState, plan: RebuildPlan, remembered: Sequence[KeptAlert]) -> None:
        """Give the alerts back what is known of them."""
        end_ms = round(plan.end_s * 1000)
        with state.transaction():
            restore_alerts(state, remembered, trusted_from_ms=end_ms - HORIZON_MS)
            state.alerts.forget(before_ms=end_ms - ALERTS_KEPT_MS)
            state.write("batch", "0")
            state.write(PLAN, msgspec.json.encode(msgspec.structs.replace(plan, is_complete=True)).decode())

    def _put_in_place(self) -> None:
        path = self._asked.path
        try:
            if path.exists():
                kept = aside_name(path, at=self._clock.now(), why="replaced")
                for suffix in (*_COMPANIONS, ""):
                    with suppress(FileNotFoundError):
                        Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
            sync_file(self._partial)
            self._partial.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            what = f"the new file of detections cannot be put in its place: {error.strerror}"
            raise OutputUnavailable(what, where=str(path)) from error


class LakeRebuilder:
    """What a run has the file made anew by, telling how far it is."""

    def __init__(
        self,
        asked: Callable[[Sequence[Rule]], RebuildAsked],
        *,
        lakes: Sequence[Path],
        path: Path,
        clock: Clock,
        is_waited_for: bool = False,
    ) -> None:
        """`asked` says what is made of what, given the rules."""
        self._asked = asked
        self.is_waited_for = is_waited_for
        self._lakes = lakes
        self._path = path
        self._clock = clock
        self._told_s = clock.monotonic_s()

    def is_needed(self, *, was_damaged: bool, last_batch: int) -> bool:
        """Whether there was a file, there is none now, and a lake has records."""
        if self._path.exists():
            return False
        was_there = was_damaged or last_batch > 0 or is_rebuilding(self._path)
        was_there = was_there or bool(lakes_present(self._lakes, table=ALERTS))
        if was_there and not lakes_present(self._lakes, table=AUDIT):
            _log.warning(
                f"{self._path}: is gone, and no lake has the records to make it anew: it begins empty"
            )
            return False
        return was_there

    def run(self, rules: Sequence[Rule], is_stopping: Callable[[], bool]) -> None:
        """Make it and put it in its place. Raises: as the port says."""
        _log.warning(
            f"{self._path}: is gone; it is made anew from the lake: records go to the other outputs as ever,"
            " and wait for the detections meanwhile"
        )
        self._told_s = self._clock.monotonic_s()
        rebuild = Rebuild(self._asked(rules), clock=self._clock, progress=self._tell, is_stopping=is_stopping)
        told = rebuild.run()
        _log.info(
            f"the detections are made anew from {told.records:,} records since {told.since:%Y-%m-%d};"
            f" {told.alerts:,} alerts are there, {told.restored:,} were known before;"
            f" {told.put_back:,} of them stay as they were, as the records give them no more"
        )

    def _tell(self, records: int, percent: int) -> None:
        if self._clock.monotonic_s() - self._told_s >= TOLD_EVERY_S:
            self._told_s = self._clock.monotonic_s()
            _log.info(f"the detections are being made anew: {percent} %, {records:,} records")


_EVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def _slices_of(
    scans: Sequence[tuple[LakeScan, frozenset[date]]], day: datetime
) -> Iterator[tuple[Window, Found]]:
    from m365watch.detection.retro_hunt import slices

    for scan, present in scans:
        if day.date() in present:
            yield from slices(scan, Window(day, day + _DAY))


def _days(start: datetime, end: datetime) -> Iterator[datetime]:
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        yield day
        day += _DAY


def _instant(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _remove(path: Path) -> None:
    for suffix in (*_COMPANIONS, ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()


_AGAIN = "start `m365watch run` again"
_FROM_LAKE = f"{_AGAIN}: it makes it anew from the lake"
_FROM_COPY = (
    f"put it back from a copy; else {_AGAIN}: it judges what comes, and has no lake to make it anew from"
)


def loss_of_alerts(settings: Settings) -> OutputUnusable | None:
    """That the file was there and is no more, with what makes it anew; None where it is there, or never was.

    The ledger knows whether detections have run, and the lake whether they have found something.
    """
    path = settings.state_directory / FILE_NAME
    if path.exists() or rebuilt_percent(path) is not None or not settings.detections.enabled:
        return None
    try:
        with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
            have_run = last_batch(connection, DETECTIONS) > 0
    except LedgerUnusable:  # nobody has run here, or why it cannot be read is said by itself
        return None
    lake = settings.lake_directory
    if not have_run and (lake is None or not (lake / ALERTS / "_delta_log").is_dir()):
        return None
    fix = _FROM_COPY if lake is None else _FROM_LAKE
    return OutputUnusable("the file of detections is gone", fix=fix, where=str(path))


def file_of_alerts(settings: Settings) -> Path:
    """The file of detections, be there none yet. Raises: OutputUnusable: it was there, and is gone."""
    lost = loss_of_alerts(settings)
    if lost is not None:
        raise lost
    return settings.state_directory / FILE_NAME
