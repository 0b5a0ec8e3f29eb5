"""Which alerts a view is about: by what they name, and by the records that they rest on."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from m365watch.board.query.caches import Key, RecordKind, keys_of
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import NOT, Narrowing, is_one_of
from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import counted
from m365watch.common.errors import OutputUnusable
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity

Found = TypeVar("Found")


async def to_mark(alerts: Awaitable[Sequence[Found] | None]) -> Sequence[Found]:
    """The alerts; none where their file is gone, damaged or being made anew.

    That is said wherever alerts stand by themselves. Whoever looks at records or changes then sees these.
    """
    try:
        return await alerts or ()
    except OutputUnusable:
        return ()


_KINDS_OF = {"user": ("user", "actor", "mailbox"), "ip": ("address", "ip"), "app": ("app",)}


@dataclass(frozen=True, slots=True)
class AlertsMeant:
    """The alerts of a view, and of how many of them nobody can say whether they are."""

    alerts: Sequence[KeptAlert]
    unsure: int = 0
    """Alerts that are among them because the lake holds none of their records (any more)."""

    @property
    def doubt(self) -> str:
        """What to say of those; empty where there are none."""
        if not self.unsure:
            return ""
        those = counted(self.unsure, "alert", "alerts")
        return f"{those} may be of other records: the lake holds none of theirs"


async def list_meant(
    view: View,
    sources: Sources,
    *,
    states: frozenset[AlertState] = frozenset(AlertState),
    severity_min: Severity = Severity.INFORMATIONAL,
) -> AlertsMeant | None:
    """The alerts of the view, the worst first; None where no detections have run.

    What they do not name themselves is looked up in the records that they rest on: one of them has to be
    of the view.
    Raises: OutputUnusable.
    """
    found = await sources.list_alerts(view, states=states, severity_min=severity_min)
    if found is None:
        return None
    named = [one for one in found if is_narrow(view, one)]
    if not any(_names_kind(name) for name in view.narrowing.values):
        return AlertsMeant(named)
    kinds = await sources.kinds_of_evidence(view, named)
    unsure = {one.alert.id for one in named if not any(key in kinds for key in keys_of(one))}
    meant = [one for one in named if one.alert.id in unsure or _rests_on_such(view.narrowing, one, kinds)]
    return AlertsMeant(meant, len(unsure))


def is_narrow(view: View, kept: KeptAlert) -> bool:
    """Whether the alert names what the view is narrowed to, and is of the rule and technique asked for."""
    alert = kept.alert
    for name, kinds in _KINDS_OF.items():
        wanted = view.narrowing.of(name)
        about = [value for kind, value in alert.entities if kind in kinds]
        if wanted and not any(is_one_of(name, wanted, one) for one in about):
            return False
        if any(is_one_of(name, view.narrowing.of(f"{NOT}{name}"), one) for one in about):
            return False
    rule, technique = view.given("rule"), view.given("technique")
    return (not rule or rule == alert.rule_id) and (not technique or technique in alert.techniques)


def _names_kind(name: str) -> bool:
    return name.removeprefix(NOT) in RecordKind._fields


def _rests_on_such(narrowing: Narrowing, kept: KeptAlert, kinds: Mapping[Key, RecordKind]) -> bool:
    known = (kinds[key] for key in keys_of(kept) if key in kinds)
    return any(_is_of(narrowing, one) for one in known)


def _is_of(narrowing: Narrowing, kind: RecordKind) -> bool:
    for name, given in zip(kind._fields, kind, strict=True):
        wanted = narrowing.of(name)
        if wanted and not is_one_of(name, wanted, given):
            return False
        if is_one_of(name, narrowing.of(f"{NOT}{name}"), given):
            return False
    return True
