"""What `monitor` shows: each alert with its query and trigger, and what became of it at Devo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import count, whole_line
from m365watch.cli.terminal.json_output import SCHEMA
from m365watch.detection.export.devo_alert_definitions import PRIORITY_MAX

if TYPE_CHECKING:
    from m365watch.detection.export.devo_alert_definitions import Definition
    from m365watch.health.devo_alerts import Outcome

HOUR_MS = 3_600_000
_MARKS = {"created": "green", "updated": "green", "unchanged": "dim", "removed": "yellow", "absent": "dim"}


def monitor_page(definitions: Sequence[Definition], outcomes: Sequence[Outcome] | None) -> Group:
    """A line for each alert where something was done, else what Devo's form asks for."""
    if outcomes is not None:
        lines = [
            Text(f"{outcome:<9}  {one.name}", style=_MARKS[outcome])
            for one, outcome in zip(definitions, outcomes, strict=True)
        ]
        return Group(
            *lines, Text("Devo sends an alert to nobody before it has a sending policy.", style="dim")
        )
    shown = [row for one in definitions for row in _form(one)]
    hint = f"{count(len(definitions), 'alert')}; install with --apply, or paste each into Devo's form."
    return Group(*shown, Text(hint, style="bold"))


def _form(one: Definition) -> tuple[RenderableType, ...]:
    """What Devo's form asks for; the query on a line of its own, whole, to be copied."""
    fields = Table.grid(padding=(0, 2))
    fields.add_row("  trigger", _trigger_text(one.trigger.document()))
    fields.add_row("  priority", f"{one.priority} of {PRIORITY_MAX}")
    fields.add_row("  message", one.headline)
    fields.add_row("  about", one.description)
    return Text(one.name, style="bold"), fields, Text(), whole_line(one.query, style="cyan"), Text()


def _trigger_text(trigger: dict[str, Any]) -> str:
    if trigger["kind"] == "low":
        return f"low: at most {trigger['threshold']} in {trigger['period'] / HOUR_MS:g} h"
    return str(trigger["kind"])


def monitor_document(definitions: Sequence[Definition], outcomes: Sequence[Outcome] | None) -> dict[str, Any]:
    """What `monitor --json` prints: bodies that Devo's API takes, and what became of each."""
    done: Sequence[str | None] = [None] * len(definitions) if outcomes is None else outcomes
    return {
        "schema": SCHEMA,
        "alerts": [
            {"outcome": outcome, "definition": one.document()}
            for one, outcome in zip(definitions, done, strict=True)
        ],
    }
