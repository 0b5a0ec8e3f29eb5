"""What `m365watch alerts` shows: a table for the shift, a page for the one at hand, rows to take along."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import count, moment, shortened_within, whole_line
from m365watch.cli.terminal.json_output import SCHEMA, instant
from m365watch.cli.terminal.page_parts import Row, list_block, rows_block
from m365watch.common.csv_export import csv_lines, without_formula
from m365watch.common.text import plain
from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_document import document_of
from m365watch.detection.alerts.alert_text import details_of, failure_of, who
from m365watch.detection.alerts.reopen_policy import BY as REOPENED_BY
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.response.journal import named

if TYPE_CHECKING:
    from m365watch.cli.alerts.evidence import Evidence, EvidenceRecord
    from m365watch.detection.alert_store_rebuild import Rebuilt
    from m365watch.detection.alerts.triage import AlertsFound
    from m365watch.notifications.channel_status import WhoKnows
    from m365watch.response.journal import Line

STYLES = {
    Severity.CRITICAL: "bold white on red",
    Severity.HIGH: "bold red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
    Severity.INFORMATIONAL: "dim",
}
ID_SHOWN = 8
"""Digits of an id that are shown where there are many."""
ABOUT_CHARACTERS_MAX = 46
"""Of whom an alert is about, in the list: what is left of 80 columns."""
EVIDENCE_SHOWN_MAX = 10
NAMES_SHOWN_MAX = 12
DEEDS_SHOWN_MAX = 3
"""Of what was done for an alert, the latest; the plan has all of it."""
_CSV_COLUMNS = (
    "id",
    "severity",
    "state",
    "detection",
    "title",
    "tenant",
    "entities",
    "first_seen_at",
    "last_seen_at",
    "count",
    "explanation",
    "techniques",
    "reason",
    "changed_by",
    "changed_at",
    "evidence",
)


def alerts_page(found: AlertsFound, *, limit: int) -> RenderableType:
    """Two lines for each alert, at most `limit`, and how many there are, those below the severity too."""
    if not found.alerts:
        return Group(Text("no alerts", style="bold"), *_hidden_lines(found))
    shown, total = found.alerts[:limit], len(found.alerts)
    tells = has_several_tenants(shown)
    rows = [Row(_cells(one, tells_tenant=tells), _lines_below(one)) for one in shown]
    named = _severities(Counter(one.alert.severity for one in found.alerts))
    return Group(
        *rows_block(
            (
                "alert",
                "severity",
                "last seen",
                *(("tenant",) if tells else ()),
                "whom it is about, and below it what",
            ),
            rows,
        ),
        Text(),
        Text(f"{count(total, 'alert')} ({named})", style="bold"),
        *_hidden_lines(found),
        whole_line("`m365watch alerts show ALERT` tells more"),
    )


def _severities(counts: Mapping[Severity, int]) -> str:
    return ", ".join(f"{counts[one]:,} {one}" for one in reversed(Severity) if counts.get(one))


def _hidden_lines(found: AlertsFound) -> list[RenderableType]:
    """What is left out for its severity, and how it is seen."""
    if not found.hidden:
        return []
    least = min(found.hidden, key=lambda one: one.rank)
    more = _severities(found.hidden)
    return [whole_line(f"hidden: {more}; `--severity {least}` shows them too")]


def _severity_name(severity: Severity) -> str:
    return "info" if severity is Severity.INFORMATIONAL else str(severity)


def has_several_tenants(found: Iterable[KeptAlert]) -> bool:
    """Whether it has to be said whose each alert is."""
    return len({one.alert.tenant for one in found}) > 1


def tenant_shown(alert: Alert) -> str:
    """The first digits of its tenant's id."""
    return plain(alert.tenant[:ID_SHOWN])


def _cells(kept: KeptAlert, *, tells_tenant: bool) -> list[Text]:
    alert = kept.alert
    about = ABOUT_CHARACTERS_MAX - (ID_SHOWN + 2 if tells_tenant else 0)
    return [
        Text(alert.id[:ID_SHOWN], style="bold"),
        Text(_severity_name(alert.severity), style=STYLES[alert.severity]),
        Text(f"{alert.last_seen_at.astimezone(UTC):%m-%d %H:%MZ}"),
        *([Text(tenant_shown(alert))] if tells_tenant else []),
        Text(shortened_within(plain(who(alert)), about), style="bold"),
    ]


def _lines_below(kept: KeptAlert) -> list[Text]:
    alert = kept.alert
    what = Text(plain(alert.title))
    if alert.count > 1:
        what.append(f", {alert.count:,} records", style="dim")
    if kept.state is AlertState.OPEN and kept.changed_by != REOPENED_BY:
        return [what]
    return [what, Text(_state_words(kept), style="green")]


def alert_page(
    kept: KeptAlert,
    evidence: Evidence,
    told: Sequence[WhoKnows] = (),
    known: Mapping[str, str] = MappingProxyType({}),
    *,
    deeds: Sequence[Line] = (),
    related: Sequence[Alert] = (),
    arguments: str = "",
) -> RenderableType:
    """All that is known of one alert, in the order in which somebody who is woken needs it.

    `known` has what the user's tables and lists say of its entities, by their values; `deeds` is what was
    done for it. `arguments` names the configuration for the commands at the end, which are to be pasted.
    """
    alert = kept.alert
    head = Text.assemble(
        (f" {str(alert.severity).upper()} ", STYLES[alert.severity]), " ", (plain(alert.title), "bold")
    )
    blocks: list[RenderableType] = [
        head,
        Text(),
        Text(plain(alert.explanation)),
        Text(),
        _facts(kept, told, known, deeds),
    ]
    blocks += list_block("What to look at next", alert.check)
    blocks += list_block("How to contain it", [_step_words(one) for one in alert.contain])
    blocks += _evidence_block(alert, evidence)
    blocks += list_block("Alerts of the same records", map(_related_line, related))
    blocks += list_block("To be kept in mind", alert.notes)
    short = alert.id[:ID_SHOWN] + (f" {arguments}" if arguments else "")
    blocks += [
        Text(),
        whole_line(f"m365watch respond {short}", style="dim"),
        *(whole_line(f"m365watch alerts {one}", style="dim") for one in _next_states(kept.state, short)),
    ]
    return Group(*blocks)


def _next_states(state: AlertState, arguments: str) -> tuple[str, ...]:
    """What an alert in that state can be made by which command."""
    if state is AlertState.CLOSED:
        return (f"reopen {arguments}",)
    return (f"ack {arguments}", f'close {arguments} --reason "..."')


def _facts(
    kept: KeptAlert, told: Sequence[WhoKnows], known: Mapping[str, str], deeds: Sequence[Line]
) -> Table:
    alert = kept.alert
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    rows = [row for kind in kinds for row in _names(alert, kind, known)]
    rows.append(("when", _when(alert)))
    rows.append(("records", f"{alert.count:,}"))
    if alert.techniques or alert.tactics:
        tactics = ", ".join(one.replace("_", "-").replace("-", " ") for one in alert.tactics)
        rows.append(("ATT&CK", ", ".join(alert.techniques) + (f" ({tactics})" if tactics else "")))
    rows.append(("detection", f"{alert.detection or alert.rule_id}"))
    rows.append(("tenant", alert.tenant))
    rows.append(("state", _state_words(kept)))
    rows += _responses(deeds)
    rows.append(("alert", alert.id))
    rows.append(("told", ", ".join(map(_told_words, told))))
    if alert.formerly:
        rows.append(("formerly", ", ".join(one[:ID_SHOWN] for one in alert.formerly)))
    for name, value in rows:
        if value:
            grid.add_row(Text(plain(name)), Text(plain(value)))
    return grid


def _names(alert: Alert, kind: str, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """All of a kind, a line each."""
    names = alert.named(kind)
    shown = [f"{one} ({known[one]})" if one in known else one for one in names[:NAMES_SHOWN_MAX]]
    more = len(names) - len(shown) + dict(alert.unnamed).get(kind, 0)
    lines = [*shown, *([f"and {more:,} more: --json names them"] if more > 0 else [])]
    return [("" if place else kind, line) for place, line in enumerate(lines)]


def _responses(deeds: Sequence[Line]) -> list[tuple[str, str]]:
    """Who did what for it over Graph, when, and what came of it: the latest, a line each."""
    lines = [
        f"{named(one)}: {one.outcome}, by {one.by}, {moment(one.at)}"
        for one in reversed(deeds[-DEEDS_SHOWN_MAX:])
    ]
    if (more := len(deeds) - DEEDS_SHOWN_MAX) > 0:
        lines.append(f"and {more:,} more: `m365watch respond` names them")
    return [("" if place else "responded", line) for place, line in enumerate(lines)]


def _told_words(one: WhoKnows) -> str:
    """Whether somebody has been woken by it already."""
    if not one.at_ms:
        return f"{one.target} (waits)"
    digest = ", in a digest" if one.in_digest else ""
    return f"{one.target} ({moment(instant_of_ms(one.at_ms))}{digest}{', more waits' if one.waits else ''})"


def _when(alert: Alert) -> str:
    first, last = moment(alert.first_seen_at), moment(alert.last_seen_at)
    return first if first == last else f"{first} to {last}"


def _state_words(kept: KeptAlert) -> str:
    if not kept.changed_at_ms:
        return str(kept.state)
    reason = f": {kept.reason}" if kept.reason else ""
    state = "opened again" if kept.state is AlertState.OPEN else kept.state
    return plain(f"{state} by {kept.changed_by}, {moment(instant_of_ms(kept.changed_at_ms))}{reason}")


def _step_words(step: str) -> str:
    return step.replace("_", " ")


def _evidence_block(alert: Alert, evidence: Evidence) -> list[RenderableType]:
    blocks: list[RenderableType] = [Text(), Text("Evidence", style="bold")]
    if not evidence.records:
        blocks.append(Text(plain(evidence.why_not), style="yellow"))
        blocks += [whole_line(plain(one)) for one in alert.evidence[:EVIDENCE_SHOWN_MAX]]
    for record in evidence.records[:EVIDENCE_SHOWN_MAX]:
        blocks += [Text(_record_line(record)), *(Padding(one, (0, 0, 0, 2)) for one in _record_rest(record))]
    more = max(len(evidence.records), len(alert.evidence)) - EVIDENCE_SHOWN_MAX
    if more > 0:
        blocks.append(Text(f"and {more:,} more: --json has their ids", style="dim"))
    return blocks


def _related_line(alert: Alert) -> str:
    about = who(alert)
    line = f"{alert.id[:ID_SHOWN]}  {alert.first_seen_at:%m-%d %H:%MZ}  {_severity_name(alert.severity)}"
    return f"{line}  {alert.title}{f' ({about})' if about else ''}"


def related_document(alert: Alert) -> dict[str, Any]:
    """An alert of the same records, in short."""
    return {
        "id": alert.id,
        "severity": str(alert.severity),
        "detection": alert.detection,
        "title": alert.title,
        "first_seen_at": instant(alert.first_seen_at),
    }


def _record_line(record: EvidenceRecord) -> str:
    return plain(f"{moment(record.created_at)}  {record.operation}  {record.user_id}")


def _record_rest(record: EvidenceRecord) -> list[Text]:
    """Whether it failed, as its kind tells; what was set; from where and to what; its id."""
    where = [record.client_ip and f"from {record.client_ip}", record.object_id]
    lines = []
    if failed := failure_of(record.raw):
        lines.append(Text(plain(failed), style="yellow"))
    if details := details_of(record.raw):
        lines.append(Text(plain(details)))
    lines.append(Text(plain("; ".join([*filter(None, where), record.id])), style="dim"))
    return lines


def state_line(kept: KeptAlert, *, was: KeptAlert) -> str:
    """What a change of state is answered with; and whose it was, where it was somebody else's."""
    is_anothers = was.state is not AlertState.OPEN and was.changed_by != kept.changed_by
    before = f" (was {_state_words(was)})" if is_anothers else ""
    return plain(f"{kept.alert.id[:ID_SHOWN]}  {_state_words(kept)}{before}  {kept.alert.title}")


def alerts_document(found: AlertsFound, *, limit: int, now: datetime) -> dict[str, Any]:
    """What `alerts list --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "total": len(found.alerts),
        "hidden": {str(severity): number for severity, number in found.hidden.items()},
        "alerts": [alert_document(one) for one in found.alerts[:limit]],
    }


def told_document(told: Sequence[WhoKnows]) -> list[dict[str, Any]]:
    """Who was told of an alert, and when."""
    return [
        {
            "target": one.target,
            "at": instant(instant_of_ms(one.at_ms)) if one.at_ms else None,
            "in_digest": one.in_digest,
            "waits": one.waits,
        }
        for one in told
    ]


def alert_document(kept: KeptAlert) -> dict[str, Any]:
    """One alert as JSON has it."""
    document: dict[str, Any] = msgspec.to_builtins(document_of(kept))
    return document


def rebuilt_document(told: Rebuilt) -> dict[str, Any]:
    """What `alerts rebuild --json` prints."""
    return {
        "schema": SCHEMA,
        "since": instant(told.since),
        "records": told.records,
        "alerts": told.alerts,
        "known_before": told.restored,
        "put_back": told.put_back,
    }


def ndjson_of(found: Iterable[KeptAlert]) -> str:
    """An alert a line."""
    return "".join(json.dumps(alert_document(one), ensure_ascii=False) + "\n" for one in found)


def csv_of(found: Iterable[KeptAlert]) -> str:
    """The alerts as CSV with a line of names; what there are several of is joined by blanks."""
    return csv_lines([_CSV_COLUMNS, *map(_csv_row, found)])


def _csv_row(one: KeptAlert) -> list[str]:
    document = alert_document(one)
    document["entities"] = " ".join(f"{kind}={value}" for kind, value in one.alert.entities)
    return [_cell(document[name]) for name in _CSV_COLUMNS]


def _cell(value: Any) -> str:
    """A value for a spreadsheet, which takes a text that begins so for a formula."""
    return without_formula(
        "" if value is None else " ".join(value) if isinstance(value, list) else str(value)
    )
