"""What `tenants` shows: a line a tenant, what is wrong with them in groups, and the sums; or a document."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.status.report_sections import configuration_document, configuration_lines
from m365watch.cli.terminal.formatting import count, figure_cell, quoted, span, totals_of, whole_line
from m365watch.cli.terminal.json_output import SCHEMA, blob_counts, instant
from m365watch.common.progress import RETRIED
from m365watch.common.text import plain
from m365watch.health.config_status import ConfigurationNote
from m365watch.health.tenant_status import TenantStanding, TenantState

GROUPS_SHOWN_MAX = 8
"""Kinds of trouble that are told with their cures below the table."""
_HEAD = ("tenant", "state", "lag", "records", "waiting")
_HEADS_MIN = 3
_TEXTS = ("tenant", "state")
_ERROR_COLUMNS_MIN = 24
"""With this much room what is wrong stands in its tenant's line, too."""
_INPUT_COLUMNS_MAX = 24
_NAMED_MAX = 3
"""Tenants that a kind of trouble names."""
_STYLES = {
    TenantState.NO_CONSENT: "bold red",
    TenantState.REFUSED: "bold red",
    TenantState.IN_TROUBLE: "bold red",
    TenantState.FAILING: "yellow",
    TenantState.THROTTLED: "yellow",
    TenantState.POISONED: "yellow",
    TenantState.SILENT: "yellow",
    TenantState.BEHIND: "yellow",
    TenantState.NEW: "",
    TenantState.RUNNING: "green",
    TenantState.STOPPED: "dim",
}
_PATIENCE = f"{RETRIED}; if it lasts: `m365watch why {{arguments}}`"
_CURES = {
    TenantState.POISONED: "`m365watch blobs {arguments} --state waiting --feed TENANT` names each of them",
    TenantState.SILENT: "`m365watch gaps {arguments}` names the hours",
}


@dataclass(frozen=True, slots=True)
class TenantsFound:
    """The tenants that are shown, of all there are."""

    every: Sequence[TenantStanding]
    shown: Sequence[TenantStanding]
    at: datetime
    holder: str | None
    """Who collects just now, by pid and host; None if nobody does."""
    configuration: ConfigurationNote | None
    """What became of the file while the collector ran."""
    arguments: str
    """What a command that reads the same ledger needs, as a shell takes it."""


def tenants_page(found: TenantsFound, *, columns: int) -> RenderableType:
    """The table of the tenants that are shown, then what is wrong with them, then the sums of all."""
    parts: list[RenderableType] = []
    if found.shown:
        parts += [_table(found.shown, columns=columns), Text("")]
    elif found.every:
        parts.append(Text("no tenant is as asked for", style="yellow"))
    troubles = [*_trouble_lines(found), *configuration_lines(found.configuration, now=found.at)]
    parts += [*troubles, *([Text("")] if troubles else [])]
    if found.holder is None:
        parts.append(Text("no collector is running: this is how the tenants stood", style="yellow"))
    return Group(*parts, Text(_sums(found.every), style="bold"))


def state_name(state: TenantState) -> str:
    """The state as a person reads it: `no consent`."""
    return str(state).replace("-", " ")


def _table(shown: Sequence[TenantStanding], *, columns: int) -> Table:
    """One line a tenant; inputs get what room the figures leave, and what is wrong gets the rest."""
    rows = [_cells(one) for one in shown]
    figures = [max(len(name), *(len(row[place]) for row in rows)) for place, name in enumerate(_HEAD)]
    heads = _heads_with_room(figures, columns)
    room = columns - sum(figures[: len(heads)]) - len(heads)
    inputs = [plain(", ".join(one.inputs)) for one in shown]
    input_columns = min(max(len("input"), *map(len, inputs)), _INPUT_COLUMNS_MAX, room)
    # Without a width of its own a long sentence would take the room of every figure before it.
    error_columns = room - input_columns - 1
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for name in heads:
        table.add_column(name, no_wrap=True, justify="left" if name in _TEXTS else "right")
    if input_columns >= len("input"):
        table.add_column("input", no_wrap=True, overflow="ellipsis", width=input_columns)
    if error_columns >= _ERROR_COLUMNS_MIN:
        table.add_column("what", no_wrap=True, overflow="ellipsis", width=error_columns)
    for one, row, names in zip(shown, rows, inputs, strict=True):
        gone = "no longer in the configuration" if one.state is TenantState.STOPPED else ""
        ends = [Text(names, style="dim"), Text(quoted(one.error or gone))]
        table.add_row(*row[: len(heads)], *ends[: len(table.columns) - len(heads)])
    return table


def _heads_with_room(figures: Sequence[int], columns: int) -> Sequence[str]:
    """The columns that fit whole, the last left out first; never those that say who, and how."""
    fitting = [place for place in range(len(_HEAD) + 1) if sum(figures[:place]) + place <= columns + 1]
    return _HEAD[: max(fitting[-1], _HEADS_MIN)]


def _cells(one: TenantStanding) -> list[Text]:
    """The cells below `_HEAD`."""
    sums, style = totals_of(one.feeds), _STYLES[one.state]
    return [
        Text(one.tenant_id),
        Text(state_name(one.state), style=style),
        Text(span(one.lag_s), style=style if one.state is TenantState.BEHIND else ""),
        figure_cell(sums.records),
        figure_cell(sums.waiting, style="yellow"),
    ]


def _trouble_lines(found: TenantsFound) -> list[Text]:
    """Each kind of trouble of those shown, whom it concerns, and its cure; what needs a person first."""
    groups: dict[tuple[TenantState, str | None, str | None], list[TenantStanding]] = {}
    for one in found.shown:
        if one.error is not None:
            # What the state says by itself differs in its words from tenant to tenant.
            kind = None if one.state in _CURES else one.error
            groups.setdefault((one.state, kind, one.fix), []).append(one)
    lines = []
    for (state, _, fix), tenants in list(groups.items())[:GROUPS_SHOWN_MAX]:
        names = ", ".join(one.tenant_id for one in tenants[:_NAMED_MAX])
        more = len(tenants) - _NAMED_MAX
        also = f" and {more:,} more" if more > 0 else ""
        text = (
            f"{state_name(state)}: {names}{also}: {quoted(tenants[0].error or '')}{_age(tenants, found.at)}"
        )
        cure = plain(fix) if fix else _CURES.get(state, _PATIENCE).format(arguments=found.arguments)
        lines += [Text(text, style=_STYLES[state]), Text(f"hint: {cure}")]
    left = len(groups) - GROUPS_SHOWN_MAX
    if left > 0:
        lines.append(whole_line(f"and {left:,} more kinds: `m365watch tenants {found.arguments} --json`"))
    return lines


def _age(tenants: Sequence[TenantStanding], at: datetime) -> str:
    ages = [(at - one.error_at).total_seconds() for one in tenants if one.error_at is not None]
    return f" ({span(min(ages))} ago)" if ages else ""


def _sums(every: Sequence[TenantStanding]) -> str:
    """How many tenants are in which state, their records, and the lags of those that are listed."""
    states = Counter(one.state for one in every)
    named = ", ".join(f"{states[state]:,} {state_name(state)}" for state in TenantState if states[state])
    sums = totals_of(row for one in every for row in one.feeds)
    lags = [one.lag_s for one in every if one.lag_s is not None and one.state is not TenantState.STOPPED]
    lag = f"; lag {span(statistics.median(lags))} in the middle, {span(max(lags))} at most" if lags else ""
    return (
        f"{count(len(every), 'tenant')}: {named or 'none'}; {count(sums.records, 'record')}, "
        f"{count(sums.waiting, 'blob')} waiting{lag}"
    )


def tenants_document(found: TenantsFound) -> dict[str, Any]:
    """What `tenants --json` prints."""
    states = Counter(one.state for one in found.every)
    sums = totals_of(row for one in found.every for row in one.feeds)
    return {
        "schema": SCHEMA,
        "at": instant(found.at),
        "collector": found.holder,
        "configuration": configuration_document(found.configuration),
        "total": len(found.every),
        "totals": {
            "states": {str(state): states[state] for state in TenantState},
            "records": sums.records,
            "blobs_waiting": sums.waiting,
        },
        "tenants": [_document(one, found.at) for one in found.shown],
    }


def _document(one: TenantStanding, at: datetime) -> dict[str, Any]:
    sums = totals_of(one.feeds)
    return {
        "tenant": one.tenant_id,
        "inputs": list(one.inputs),
        "state": str(one.state),
        "lag_s": one.lag_s,
        "records": sums.records,
        "blobs": blob_counts(sums),
        "last_error": one.error,
        "last_error_at": instant(one.error_at),
        "fix": one.fix,
        "feeds": [
            {
                "content_type": str(row.feed.content_type),
                "state": str(one.states[row.feed]),
                "lag_s": row.lag_s(at),
                "blobs_waiting": row.blobs_waiting,
                "last_error": row.last_error,
                "fix": row.fix,
                "needs_operator": row.needs_operator,
            }
            for row in one.feeds
        ],
    }
