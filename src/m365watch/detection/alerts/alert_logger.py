"""Lines of the log about alerts: what is new and matters, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from m365watch.common.clock import Clock
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import News
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.rules.severity import Severity

TOLD_MAX = 5
"""New alerts that are told one by one in `TOLD_EVERY_S`; the first hours of a feed may bring many."""
TOLD_EVERY_S = 60.0
_log = structlog.get_logger(__name__)


class AlertTeller:
    """Names what is new and matters; a flood, as of a first run, takes few lines.

    No value of a record stands in these lines, and they are no warnings: with the collector all is well.
    """

    def __init__(self, clock: Clock) -> None:
        """Nothing was told yet."""
        self._clock = clock
        self._since_s = -TOLD_EVERY_S
        self._told = 0
        self._worst = -1
        self._untold = 0

    def __call__(self, changes: Sequence[Change]) -> None:
        """Tell of what a batch has changed."""
        new = _new_alerts(changes)
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s >= TOLD_EVERY_S:
            self._since_s, self._told, self._worst = now_s, 0, -1
            self._tell_rest()
        is_first = not self._untold
        for alert in new:
            # What is worse than all that was named is named too: the first to come are seldom the worst.
            if self._told < TOLD_MAX or alert.severity.rank > self._worst:
                _log.info(f"alert, {alert.severity}: {alert.title}; `m365watch alerts show {alert.id[:8]}`")
                self._told += 1
                self._worst = max(self._worst, alert.severity.rank)
            else:
                self._untold += 1
        if self._untold and is_first:
            _log.info("more alerts have come than are named here; `m365watch alerts list` has all")

    def _tell_rest(self) -> None:
        if self._untold:
            _log.info(f"alerts: {self._untold:,} more; `m365watch alerts list` names them")
            self._untold = 0


def _new_alerts(changes: Sequence[Change]) -> list[Alert]:
    """Those from medium on, the worst first."""
    new = [
        change.alert
        for change in changes
        if change.what is News.NEW and change.alert.severity.rank >= Severity.MEDIUM.rank
    ]
    return sorted(new, key=lambda alert: (-alert.severity.rank, alert.first_at_ms))
