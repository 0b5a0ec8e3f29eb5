"""What `why` shows: a line for each step, and what to do about the one that is broken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import console
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import quoted
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.registry.checks import Diagnosis, Finding, Verdict

VERDICT_STYLES = {
    Verdict.OK: "green",
    Verdict.NOTE: "yellow",
    Verdict.BROKEN: "bold red",
    Verdict.SKIPPED: "dim",
}


def why_page(diagnoses: Sequence[Diagnosis]) -> RenderableType:
    """A table of steps for each tenant, and under it what to do or where to look next."""
    parts: list[RenderableType] = []
    for diagnosis in diagnoses:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for finding in diagnosis.findings:
            table.add_row(
                Text(finding.verdict, VERDICT_STYLES[finding.verdict]), finding.step, quoted(finding.seen)
            )
        parts += [*([Text("")] if parts else []), Text(f"tenant {diagnosis.tenant_id}", style="bold"), table]
        parts += [
            Text(f"hint: {quoted(one.fix)}")
            for one in diagnosis.findings
            if one.fix and _is_told(one, diagnosis)
        ]
        if diagnosis.next:
            parts.append(Text(f"nothing is broken: {quoted(diagnosis.next)}", style="bold"))
    return console.Group(*parts)


def _is_told(finding: Finding, diagnosis: Diagnosis) -> bool:
    """Of a way that is broken, only the cure of the break; of another one, all of them."""
    return finding.verdict is Verdict.BROKEN or not diagnosis.is_broken


def why_document(diagnoses: Sequence[Diagnosis], *, now: datetime) -> dict[str, Any]:
    """What `why --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "broken": any(one.is_broken for one in diagnoses),
        "tenants": [
            {
                "tenant": one.tenant_id,
                "broken": next((str(f.step) for f in one.findings if f.verdict is Verdict.BROKEN), None),
                "next": one.next or None,
                "steps": [
                    {"step": str(f.step), "verdict": str(f.verdict), "seen": f.seen, "fix": f.fix}
                    for f in one.findings
                ],
            }
            for one in diagnoses
        ],
    }
