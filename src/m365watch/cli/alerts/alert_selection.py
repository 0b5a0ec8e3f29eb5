"""Which alerts a command is about, by its options."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.tenants.tenant_selection import tenants_meant
from m365watch.cli.terminal.error_output import no_such_rule
from m365watch.common.timestamps import ms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m365watch.config.models.settings import Settings
    from m365watch.detection.alerts.triage import AlertsAsked


class StateWanted(StrEnum):
    """Which alerts are shown."""

    ACTIVE = "active"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"
    ALL = "all"


class SeverityWanted(StrEnum):
    """The least severity that is shown."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


StateOption = Annotated[
    StateWanted, typer.Option("--state", help="Only these; active are the open and the acknowledged ones.")
]
SeverityOption = Annotated[
    SeverityWanted, typer.Option("--severity", "-s", help="Only these and worse ones.")
]
RuleOption = Annotated[
    str | None,
    typer.Option("--rule", "-r", metavar="TEXT", help="Only of rules of this number, id, or title."),
]
NotRuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--not-rule", metavar="TEXT", help="None of this rule, such as A01, Microsoft's own; may be repeated."
    ),
]
EntityOption = Annotated[
    str | None,
    typer.Option("--entity", "-e", metavar="TEXT", help="Only of users, addresses and so on like this."),
]
DaysOption = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=90, help="How many days back, 90 at most.")
]


def file_of(settings: Settings) -> Path:
    """The file of the detections. Raises: OutputUnusable: it is lost, and what of it the lake has is said."""
    from m365watch.detection.alert_store_rebuild import file_of_alerts

    return file_of_alerts(settings)


def alerts_asked(
    settings: Settings,
    state: StateWanted,
    severity: SeverityWanted,
    *,
    rule: str | None,
    not_rules: list[str] | None,
    entity: str | None,
    tenants: list[str] | None,
    days: int,
) -> AlertsAsked:
    """The alerts that the options mean. Raises: typer.BadParameter; OutputUnusable."""
    from m365watch.common.clock import SystemClock
    from m365watch.detection.alerts.stored_alert import AlertState
    from m365watch.detection.alerts.triage import AlertsAsked
    from m365watch.detection.rules.extension import Severity

    refuse_empty("--rule", rule)
    refuse_empty("--entity", entity)
    for one in not_rules or ():
        refuse_empty("--not-rule", one)
    states = {
        StateWanted.ALL: frozenset(AlertState),
        StateWanted.ACTIVE: frozenset({AlertState.OPEN, AlertState.ACKNOWLEDGED}),
    }
    since = SystemClock().now() - timedelta(days=days)
    named = _rules_by_name(settings, [one for one in (rule, *(not_rules or ())) if one])
    return AlertsAsked(
        states=states[state] if state in states else frozenset({AlertState(state)}),
        severity_min=Severity(severity),
        rule=named[rule] if rule else "",
        not_rules=tuple(named[one] for one in not_rules or ()),
        entity=entity or "",
        tenants=_tenants(settings, tenants or ()),
        since_ms=ms_of(since),
    )


def _tenants(settings: Settings, parts: Sequence[str]) -> frozenset[str]:
    from m365watch.detection.alerts import triage as desk

    configured = {one.tenant_id for one in settings.tenants}
    return tenants_meant(parts, configured, kept=lambda: desk.list_tenants(file_of(settings)))


def refuse_empty(option: str, given: str | None) -> None:
    """Raises: typer.BadParameter: the option is given, and says nothing."""
    if given is not None and not given.strip():
        raise typer.BadParameter(f"{option} is empty; leave it out, or give a text")


def _rules_by_name(settings: Settings, names: list[str]) -> dict[str, str]:
    """Each name with what its alerts match by: the id of the rule with that alias, or the name itself.

    Raises: typer.BadParameter: neither a rule nor a stored alert has the name, so that the list would be
    empty whatever happens.
    """
    from m365watch.detection.alerts import triage as desk
    from m365watch.detection.correlation.risk_score import make_risk_rule
    from m365watch.detection.factory import load_rules

    if not names:
        return {}
    rules = [*load_rules(settings.detections).rules, make_risk_rule()]
    aliases = {alias.lower(): one.id for one in rules for alias in one.extension.aliases}
    known = {key.lower() for one in rules for key in (one.id, one.extension.detection)}
    titles = [one.title.lower() for one in rules]
    kept = desk.list_alerts(file_of(settings), desk.AlertsAsked())
    for name in names:
        wanted = name.lower()
        if wanted in known or wanted in aliases or any(wanted in title for title in titles):
            continue
        if not any(one.alert.is_of_rule(name) for one in kept):
            raise no_such_rule(name, settings.detections)
    return {name: aliases.get(name.lower(), name) for name in names}
