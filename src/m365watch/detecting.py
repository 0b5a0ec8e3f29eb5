"""The detections of a configuration: its rules, what they may know, and the output that runs them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from m365watch.clock import Clock
from m365watch.config.settings import DETECTIONS, DetectionSettings, LakeSettings, Settings
from m365watch.model import TenantId
from m365watch.tenancy.changes import excluded_outputs

if TYPE_CHECKING:
    from m365watch.detect.alert import Alert
    from m365watch.detect.engine import Change
    from m365watch.detect.exceptions import Exceptions
    from m365watch.detect.knowledge import Knowledge
    from m365watch.detect.library import Library
    from m365watch.detect.output import DetectionOutput
    from m365watch.detect.rule import Rule
    from m365watch.detect.shelving import Shelf

TOLD_MAX = 5
"""New alerts that are told one by one in `TOLD_EVERY_S`; the first hours of a feed may bring many."""
TOLD_EVERY_S = 60.0
MISTAKES_TOLD_MAX = 20
_log = structlog.get_logger(__name__)


def load_rules(settings: DetectionSettings) -> Library:
    """The rules of the packs and directories; what is wrong with a file is in its `mistakes`."""
    from m365watch.detect.library import PACKS_DIRECTORY, load_library

    if not settings.rules_directories:
        return _load_packs(tuple(settings.packs))
    return load_library([*(PACKS_DIRECTORY / name for name in settings.packs), *settings.rules_directories])


@cache
def _load_packs(names: tuple[str, ...]) -> Library:
    """The rules of packs alone: these come with the program, and change with it only."""
    from m365watch.detect.library import PACKS_DIRECTORY, load_library

    return load_library([PACKS_DIRECTORY / name for name in names])


def knowledge_of(settings: DetectionSettings) -> Knowledge:
    """What the rules may know beyond the records."""
    from m365watch.detect.knowledge import Knowledge

    return Knowledge(accepted_domains=settings.accepted_domains)


def load_exceptions(settings: DetectionSettings) -> tuple[Exceptions, list[str]]:
    """What is not to be told, and a line for each mistake in the file."""
    from m365watch.detect.exceptions import Exceptions, read_exceptions

    return read_exceptions(settings.exceptions_file) if settings.exceptions_file else (Exceptions(), [])


def make_detections(
    settings: Settings, *, queues: Path, clock: Clock, current: Callable[[], Settings]
) -> list[DetectionOutput]:
    """The output that takes every record past the rules, where that is switched on.

    Nothing is imported and nothing read where it is not; what waited for it in `queues` is let go of then,
    for nobody else has a use for it. `current` are the settings as they are later: tenants come and go.
    """
    detections = settings.detections
    if not detections.enabled:
        shutil.rmtree(queues / DETECTIONS, ignore_errors=True)
        return []
    from m365watch.detect.output import DetectionOutput

    exceptions, mistakes = load_exceptions(detections)
    for mistake in mistakes[:MISTAKES_TOLD_MAX]:
        _log.warning(f"detections: {mistake}; the exception does not hold")
    output = DetectionOutput(
        DETECTIONS,
        settings.state_directory,
        rules=lambda: _rules_in_force(detections),
        clock=clock,
        knowledge=knowledge_of(detections),
        exceptions=exceptions,
        risk_points=detections.risk_points,
        tell=AlertTeller(clock),
        shelves=make_shelves(settings, current=current, clock=clock),
    )
    return [output]


def make_shelves(settings: Settings, *, current: Callable[[], Settings], clock: Clock) -> list[Shelf]:
    """The lakes, each with the alerts of the tenants whose records it gets, as `current` settings have it."""
    lakes = [output for output in settings.outputs if isinstance(output, LakeSettings)]
    if not lakes:
        return []
    from m365watch.lake.alerts import AlertShelf

    def takes(lake: str, tenant: str) -> bool:
        return lake not in excluded_outputs(current()).get(TenantId(tenant), frozenset())

    return [
        AlertShelf(
            lake.name,
            lake.directory,
            writer=settings.collector_name,
            clock=clock,
            takes=partial(takes, lake.name),
        )
        for lake in lakes
    ]


def _rules_in_force(settings: DetectionSettings) -> Sequence[Rule]:
    """The rules; each one that is left out is told."""
    library = load_rules(settings)
    for mistake in library.mistakes[:MISTAKES_TOLD_MAX]:
        _log.warning(f"detections: {mistake}; the rule is left out")
    more = len(library.mistakes) - MISTAKES_TOLD_MAX
    if more > 0:
        _log.warning(f"detections: {more:,} more mistakes; `m365watch rules validate` names them")
    _log.debug(f"detections: {len(library.rules):,} rules are in force")
    return library.rules


class AlertTeller:
    """Names what is new and matters; a flood, as of a first run, takes few lines.

    No value of a record stands in these lines, and they are no warnings: with the collector all is well.
    """

    def __init__(self, clock: Clock) -> None:
        """Nothing was told yet."""
        self._clock = clock
        self._since_s = -TOLD_EVERY_S
        self._told = 0
        self._untold = 0

    def __call__(self, changes: Sequence[Change]) -> None:
        """Tell of what a batch has changed."""
        new = _new_alerts(changes)
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s >= TOLD_EVERY_S:
            self._since_s, self._told = now_s, 0
            self._tell_rest()
        room = TOLD_MAX - self._told
        for alert in new[:room]:
            _log.info(f"alert, {alert.severity}: {alert.title}; `m365watch alerts show {alert.id[:8]}`")
        self._told += min(len(new), room)
        self._untold += max(0, len(new) - room)
        if self._untold and room > 0:
            _log.info("more alerts have come than are named here; `m365watch alerts list` has all")

    def _tell_rest(self) -> None:
        if self._untold:
            _log.info(f"alerts: {self._untold:,} more; `m365watch alerts list` names them")
            self._untold = 0


def _new_alerts(changes: Sequence[Change]) -> list[Alert]:
    """Those from medium on, the worst first."""
    from m365watch.detect.extension import Severity
    from m365watch.detect.kept import News

    new = [
        change.alert
        for change in changes
        if change.what is News.NEW and change.alert.severity.rank >= Severity.MEDIUM.rank
    ]
    return sorted(new, key=lambda alert: (-alert.severity.rank, alert.first_at_ms))
