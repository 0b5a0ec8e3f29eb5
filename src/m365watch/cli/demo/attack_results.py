"""The attacks that the simulated tenant was under, and which alerts tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from m365watch.cli.demo.tenant_process import StagedAttack
from m365watch.cli.terminal.json_output import instant
from m365watch.cli.terminal.page_parts import Row, rows_block
from m365watch.common.text import plain
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.risk_score import RISK_RULE_ID
from m365watch.detection.rules.extension import Kind, Severity
from m365watch.detection.rules.rule import Rule

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings

ID_SHOWN = 8
_AT_ONCE = frozenset({Kind.EACH, Kind.FIRST_SEEN})
"""Kinds whose alert is there with its first record."""


@dataclass(frozen=True, slots=True)
class JudgedAttack:
    """An attack, and the first alert that tells of it."""

    attack: StagedAttack
    alert: Alert | None
    after: timedelta | None
    """From the attack's first record to the one with which the alert was there, at most."""
    more: int
    """Other alerts that tell of it."""
    telling: tuple[Alert, ...] = ()
    """All of them, the first one included."""


def judge_so_far(settings: Settings | None, attacks: Sequence[StagedAttack]) -> list[JudgedAttack]:
    """The attacks on the demo's tenant, judged by the alerts that its run has made."""
    from m365watch.detection.alerts import triage as desk
    from m365watch.detection.detection_output import FILE_NAME
    from m365watch.detection.factory import load_rules

    if settings is None or not settings.detections.enabled or not attacks:
        return []
    alerts = desk.list_alerts(settings.state_directory / FILE_NAME, desk.AlertsAsked())
    return judge_attacks(attacks, alerts, load_rules(settings.detections).rules)


def judge_attacks(
    attacks: Sequence[StagedAttack], alerts: Sequence[KeptAlert], rules: Sequence[Rule]
) -> list[JudgedAttack]:
    """For each attack, in the order of time, the alert from medium on that was there first."""
    at_once = {rule.id for rule in rules if rule.correlation is None and rule.kind in _AT_ONCE}
    found = []
    for attack in sorted(attacks, key=lambda one: one.started_at):
        ids = set(attack.record_ids)
        telling = [
            kept.alert
            for kept in alerts
            if kept.alert.severity.rank >= Severity.MEDIUM.rank and not ids.isdisjoint(kept.alert.evidence)
        ]
        telling = [one for one in telling if one.rule_id != RISK_RULE_ID] or telling
        known = [(_there_at(one, at_once), -one.severity.rank, one.id, one) for one in telling]
        if not known:
            found.append(JudgedAttack(attack, None, None, 0))
            continue
        there_at, _, _, first = min(known)
        after = max(timedelta(0), there_at - attack.started_at)
        found.append(JudgedAttack(attack, first, after, len(telling) - 1, tuple(telling)))
    return found


def _there_at(alert: Alert, at_once: set[str]) -> datetime:
    """When the alert was there, at the latest: one that joins records may have been before its last."""
    return alert.first_seen_at if alert.rule_id in at_once else alert.last_seen_at


def attacks_view(judged: Sequence[JudgedAttack]) -> RenderableType:
    """Two lines for each attack, and how many were found."""
    rows = [_row(one) for one in judged]
    number = sum(one.alert is not None for one in judged)
    style = "bold green" if number == len(judged) else "bold red"
    line = Text(f"{number} of {len(judged)} attacks found", style=style)
    line.append("; after its first record, by the times of the records", style="dim")
    title = Text("Attacks, and the first alert of each", style="bold")
    return Group(title, *rows_block(("began", "attack", "after"), rows, right={2}), Text(), line)


def _row(one: JudgedAttack) -> Row:
    began = Text(f"{one.attack.started_at.astimezone(UTC):%m-%d %H:%M}", style="dim")
    title = Text(plain(one.attack.title))
    if one.alert is None or one.after is None:
        return Row((began, title, Text()), [Text("not found", style="bold red")])
    alert = Text.assemble((one.alert.id[:ID_SHOWN], "bold"), f" {plain(one.alert.title)}")
    if one.more:
        alert.append(f", and {one.more:,} more", style="dim")
    return Row((began, title, Text(span(one.after))), [alert])


def span(length: timedelta) -> str:
    """42 s, 7 min, 3 h."""
    seconds = round(length.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3600} h"


def attacks_document(judged: Sequence[JudgedAttack]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "title": one.attack.title,
            "started_at": instant(one.attack.started_at),
            "alert": one.alert.id if one.alert else None,
            "alert_title": one.alert.title if one.alert else None,
            "more_alerts": one.more,
            "found_after_s": None if one.after is None else round(one.after.total_seconds()),
        }
        for one in judged
    ]
