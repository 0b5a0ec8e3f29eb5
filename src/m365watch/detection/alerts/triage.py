"""The alerts as an analyst has them: found, listed, acknowledged and closed, also while a collector runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from m365watch.common.errors import OutputUnusable
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, closed_of, rank_alerts
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.alert_history import StateChange
from m365watch.detection.store.database_recovery import rebuilt_percent
from m365watch.detection.store.detection_database import START_AGAIN, is_empty
from m365watch.detection.store.detection_store import RECORDS, TROUBLE, DetectionState
from m365watch.storage.database import DatabaseError

ID_DIGITS_MIN = 4
"""So many first digits of an alert's id may stand for it."""
ALERTS_READ_MAX = 100_000
RELATED_MAX = 50
RELATED_MS = 8 * 86_400_000
"""How long before an alert one may have ended that shares a record with it."""


@dataclass(frozen=True, slots=True)
class AlertsAsked:
    """Which alerts are meant; what is empty does not narrow it."""

    states: frozenset[AlertState] = frozenset(AlertState)
    severity_min: Severity = Severity.INFORMATIONAL
    rule: str = ""
    """A part of the rule's title, its number in the catalogue, or its id."""
    not_rules: tuple[str, ...] = ()
    """Named in the same way: rules whose alerts are left out."""
    entity: str = ""
    """A part of some entity."""
    tenants: frozenset[str] = frozenset()
    since_ms: int = 0
    """Alerts that were still going on then."""

    def holds(self, kept: KeptAlert) -> bool:
        """Whether the alert is meant."""
        alert = kept.alert
        return (
            kept.state in self.states
            and alert.severity.rank >= self.severity_min.rank
            and (not self.tenants or alert.tenant.lower() in self.tenants)
            and (not self.rule or alert.is_of_rule(self.rule))
            and not any(alert.is_of_rule(one) for one in self.not_rules)
            and (not self.entity or any(self.entity.lower() in one.lower() for _, one in alert.entities))
        )


@contextmanager
def opened(path: Path, *, looks_only: bool = True) -> Iterator[DetectionState]:
    """The file of detections. Raises: OutputUnusable: there is none, or it cannot be used."""
    if not path.is_file() and (percent := rebuilt_percent(path)) is not None:
        raise OutputUnusable(
            f"the alerts are being made anew from the lake, as their file was lost: {percent} % is done",
            fix="try again when the collector says it is done; `m365watch query` reads those of the lake",
            where=str(path),
        )
    if not path.is_file():
        raise OutputUnusable(
            "there are no alerts here: no run has had its detections on",
            fix="run `m365watch run` with an output of type lake, or with detections.enabled: true",
            where=str(path),
        )
    if is_empty(path):
        # It would be taken for a new one: whoever opens it gives it tables.
        raise OutputUnusable("the file of detections is empty", fix=START_AGAIN, where=str(path))
    state = DetectionState(path, looks_only=looks_only)
    try:
        yield state
    except (DatabaseError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputUnusable(
            f"the file of detections cannot be read: {error}", fix=START_AGAIN, where=str(path)
        ) from error
    finally:
        state.close()


@dataclass(frozen=True, slots=True)
class AlertsFound:
    """What a list is made of."""

    alerts: Sequence[KeptAlert]
    """The worst first (`ranking.py`), and the latest of those that are alike."""
    hidden: Mapping[Severity, int]
    """By severity, those that are left out for theirs alone."""


def list_alerts(path: Path, asked: AlertsAsked) -> list[KeptAlert]:
    """The alerts that are meant, in the order of `find_alerts`. Raises: OutputUnusable."""
    return [*find_alerts(path, asked).alerts]


def list_tenants(path: Path) -> Sequence[str]:
    """The tenants of which there are alerts. Raises: OutputUnusable."""
    with opened(path) as state:
        return state.alerts.list_tenants()


def find_alerts(path: Path, asked: AlertsAsked) -> AlertsFound:
    """The same, with how many are left out for their severity. Raises: OutputUnusable."""
    of_any = replace(asked, severity_min=Severity.INFORMATIONAL)
    with opened(path) as state:
        every = state.alerts.list(since_ms=asked.since_ms, most=ALERTS_READ_MAX)
    meant = [one for one in every if of_any.holds(one)]
    found = [one for one in meant if asked.holds(one)]
    hidden = Counter(one.alert.severity for one in meant if not asked.holds(one))
    ranks = rank_alerts((one.alert for one in every), closed=closed_of(every))
    found.sort(key=lambda one: (-one.alert.last_at_ms, one.alert.id))
    found.sort(key=lambda one: ranks[one.alert.id], reverse=True)
    return AlertsFound(found, hidden)


@dataclass(frozen=True, slots=True)
class DetectionFigures:
    """How the detections stand."""

    alerts: Mapping[tuple[AlertState, Severity], int]
    matches: int
    hours_full: int
    """Hours of a group that had more matches than are kept."""
    rebuilt_percent: int | None = None
    """How far the file is that is being made anew; None where it is there."""
    trouble: str = ""
    """Why the collector judges by itself though much is to be done, and until when; else empty."""

    def count(self, state: AlertState, severity: Severity) -> int:
        """The alerts of that state and severity."""
        return self.alerts.get((state, severity), 0)


def read_figures(path: Path) -> DetectionFigures | None:
    """How the detections stand; None where none have run. Raises: OutputUnusable."""
    if not path.is_file():
        percent = rebuilt_percent(path)
        return None if percent is None else DetectionFigures({}, 0, 0, percent)
    with opened(path) as state:
        alerts = {(AlertState(one), Severity(two)): number for one, two, number in state.alerts.count()}
        trouble = state.read(TROUBLE)
        return DetectionFigures(alerts, state.count()["matches"], state.matches.count_full(), trouble=trouble)


class NoSuchAlert(Exception):
    """What was given stands for no alert, or for several; the text says which."""


class AlertClosed(Exception):
    """Somebody has closed it, which would be lost without a word; the text says who, and what to do."""


def find_alert(path: Path, given: str) -> KeptAlert:
    """The alert of that id, of which the first digits will do. Raises: NoSuchAlert; OutputUnusable."""
    with opened(path) as state:
        return _find(state, given)


def set_states(
    path: Path, given: Sequence[str], state: AlertState, *, reason: str, by: str, at_ms: int
) -> list[KeptAlert]:
    """Put all of the alerts into a state, or none; what they are then.

    Raises: NoSuchAlert; AlertClosed: somebody has closed one, and said why; OutputUnusable,
    OutputUnavailable: nothing has changed.
    """
    with opened(path, looks_only=False) as kept:
        ids = [_find(kept, one).alert.id for one in given]
        with kept.transaction():
            for alert_id in ids if state is not AlertState.OPEN else ():
                found = _find(kept, alert_id)
                if (found.state, found.reason, found.changed_by) != (state, reason, by):
                    _refuse_closed(found)
            for alert_id in ids:
                kept.alerts.set_state(alert_id, state, reason=reason, by=by, at_ms=at_ms)
        return [_find(kept, alert_id) for alert_id in ids]


def _refuse_closed(kept: KeptAlert) -> None:
    """What is closed is opened again by who means to; who has not seen that takes nobody's reason away."""
    if kept.state is AlertState.CLOSED:
        reason = f" ({kept.reason})" if kept.reason else ""
        raise AlertClosed(
            f"{kept.alert.id[:8]}: {kept.changed_by or 'somebody'} has closed it{reason}; open it again first"
        )


def find_related(path: Path, alert: Alert) -> list[KeptAlert]:
    """The alerts that share records with it, such as those that it joins; the earliest first.

    Raises: OutputUnusable.
    """
    records = frozenset(alert.evidence)
    with opened(path) as state:
        every = state.alerts.list(since_ms=alert.first_at_ms - RELATED_MS, most=ALERTS_READ_MAX)
    found = [
        kept
        for kept in every
        if kept.alert.tenant == alert.tenant
        and kept.alert.id != alert.id
        and not records.isdisjoint(kept.alert.evidence)
    ]
    return sorted(found, key=lambda one: (one.alert.first_at_ms, one.alert.id))[:RELATED_MAX]


def list_history(path: Path, alert_id: str) -> list[StateChange]:
    """What analysts have made of the alert, the first change first. Raises: OutputUnusable."""
    with opened(path) as state:
        return state.history.list(alert_id)


def _find(state: DetectionState, given: str) -> KeptAlert:
    wanted = given.strip().lower()
    if (found := state.alerts.find(wanted)) is not None:
        return found
    if len(wanted) < ID_DIGITS_MIN:
        raise NoSuchAlert(f"{given}: give at least {ID_DIGITS_MIN} digits of an alert's id")
    alike = [one for one in state.alerts.list(most=ALERTS_READ_MAX) if one.alert.id.startswith(wanted)]
    if len(alike) > 1:
        raise NoSuchAlert(f"{given}: {len(alike)} alerts begin so; give more digits")
    if not alike:
        raise NoSuchAlert(f"{given}: there is no such alert; `m365watch alerts list --state all` names all")
    return alike[0]


@dataclass(frozen=True, slots=True)
class DetectionStanding:
    """What the engine has kept."""

    records: int
    """Records that were judged, each once, since collectors of this version have had the file."""
    trouble: str
    """Why the search for matches is slower than it should be; empty where it is not."""


def read_standing(path: Path) -> DetectionStanding:
    """How the file's detections stand. Raises: OutputUnusable: there is none, or it cannot be used."""
    with opened(path) as state:
        return DetectionStanding(int(state.read(RECORDS) or 0), state.read(TROUBLE))
