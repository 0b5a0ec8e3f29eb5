"""What `m365watch hunt` shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from m365watch.cli.alerts.alert_details import (
    ID_SHOWN,
    STYLES,
    alert_document,
    has_several_tenants,
    tenant_shown,
)
from m365watch.cli.terminal.formatting import count
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.common.model import Window
    from m365watch.detection.alerts.stored_alert import KeptAlert
    from m365watch.detection.retro_hunt import HuntOutcome


def hunt_page(outcome: HuntOutcome, *, limit: int) -> RenderableType:
    """Each alert in a few lines, and what was looked at."""
    blocks: list[RenderableType] = []
    tells = has_several_tenants(outcome.alerts[:limit])
    for kept in outcome.alerts[:limit]:
        blocks += _alert_lines(kept, tells_tenant=tells)
    found = count(len(outcome.alerts), "alert")
    looked = (
        f"{found}; {count(outcome.records, 'record')} looked at, {count(outcome.matches, 'match', 'matches')}"
    )
    return Group(*blocks, Text(looked, style="bold"))


def _alert_lines(kept: KeptAlert, *, tells_tenant: bool) -> list[RenderableType]:
    alert = kept.alert
    head = Text.assemble(
        (str(alert.severity), STYLES[alert.severity]),
        f"  {alert.last_seen_at.astimezone(UTC):%Y-%m-%d %H:%MZ}  ",
        (plain(alert.title), "bold"),
    )
    whose = f"; tenant {tenant_shown(alert)}" if tells_tenant else ""
    rest = plain(f"{count(alert.count, 'record')}; {alert.id[:ID_SHOWN]}{whose}")
    return [
        head,
        Padding(Text(plain(alert.explanation)), (0, 0, 0, 2)),
        Text(f"  {rest}", style="dim"),
        Text(),
    ]


def hunt_document(outcome: HuntOutcome, period: Window, *, limit: int, now: datetime) -> dict[str, Any]:
    """What `hunt --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "from": instant(period.start),
        "to": instant(period.end),
        "records": outcome.records,
        "matches": outcome.matches,
        "total": len(outcome.alerts),
        "alerts": [alert_document(one) for one in outcome.alerts[:limit]],
    }
