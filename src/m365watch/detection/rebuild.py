"""What a file of detections that was made anew cannot know from records: what became of its alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.reopen_policy import closing_of, place, stand
from m365watch.detection.alerts.stored_alert import AlertState, GroupKey, KeptAlert
from m365watch.detection.store.detection_store import DetectionState

ALERTS_MAX = 1_000_000
"""Alerts that are looked through: all that 90 days may have."""


def restore_alerts(state: DetectionState, known: Sequence[KeptAlert], *, trusted_from_ms: int) -> None:
    """Put back what was `known` of alerts: what an analyst made of them, their former ids, or all of them.

    All of them where their records do not give them any more, and where they ended before `trusted_from_ms`:
    what rules look back on for older ones may not have been looked at again.
    """
    ids = {kept.alert.id for kept in known}
    for kept in state.alerts.list(most=ALERTS_MAX) if known else ():
        if kept.alert.last_at_ms < trusted_from_ms and kept.alert.id not in ids:
            state.alerts.drop(kept.alert.id, became=None)
    for old in known:
        if old.alert.last_at_ms < trusted_from_ms:
            _put(state, old)
            _name_formers(state, old.alert.formerly, now=old.alert.id)
        else:
            _restore(state, old)


def _restore(state: DetectionState, old: KeptAlert) -> None:
    now = _alert_now(state, old)
    if now is None:
        _put(state, old)
        _name_formers(state, old.alert.formerly, now=old.alert.id)
        return
    ids = dict.fromkeys((*old.alert.formerly, old.alert.id, *now.alert.formerly))
    formerly = tuple(one for one in ids if one != now.alert.id)
    kept = replace(now, alert=replace(now.alert, formerly=formerly))
    if old.changed_at_ms > now.changed_at_ms:
        # What was closed is what the lake had of it; records that only came since open it again.
        closings = [closing_of(old)] if old.state is AlertState.CLOSED else []
        kept = place(kept, stand(kept.alert, [old], closings, now_ms=old.changed_at_ms))
    if kept != now:
        state.alerts.put(kept)
        if old.state is AlertState.CLOSED:
            state.closings.keep(replace(old, alert=replace(old.alert, id=now.alert.id)))
        _name_formers(state, formerly, now=now.alert.id)


def _put(state: DetectionState, old: KeptAlert) -> None:
    state.alerts.put(replace(old, is_put_back=True))
    state.closings.keep(old)


def _alert_now(state: DetectionState, old: KeptAlert) -> KeptAlert | None:
    """The alert by its id, or else the one of its group that its time has become a part of."""
    if (found := state.alerts.find(old.alert.id)) is not None:
        return found
    key = GroupKey(old.alert.rule_id, old.alert.tenant, old.alert.group)
    low_ms, high_ms = old.alert.first_at_ms, old.alert.last_at_ms
    return next(iter(state.alerts.list_of(key, low_ms=low_ms, high_ms=high_ms)), None)


def _name_formers(state: DetectionState, formers: Iterable[AlertId], *, now: AlertId) -> None:
    for former in formers:
        state.alerts.add_former(former, now)
