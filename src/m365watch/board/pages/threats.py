"""Threats and compliance: bad mail, DLP, Microsoft's alerts, eDiscovery, Teams, flows and Copilot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from m365watch.board.access.redaction import EMPTIED
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import threat_queries as threats
from m365watch.board.query.sql.aggregates import added
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import dlp_words, short, workload_words
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import (
    address,
    change_words,
    deed,
    field_of,
    instant,
    listed,
    opening,
    operation,
    person,
    settings_of,
    text_of,
)
from m365watch.board.widgets.widget_types import (
    Cell,
    Grid,
    Ranked,
    Ranking,
    Several,
    Shape,
    Tile,
    headings_of,
)
from m365watch.detection.rules.value_aliases import CLICK_ACTIONS
from m365watch.records.headers import object_of

_SEVERITIES = frozenset({"informational", "low", "medium", "high", "critical"})
_VERDICTS = {"malware": "critical", "phish": "high", "spam": "low"}
_CLICKS = {
    "blockpage": ("blocked", False),
    "pendingdetonationpage": ("held back until examined", False),
    "blockpageoverride": ("went on past the block", True),
    "pendingdetonationpageoverride": ("went on before it was examined", True),
}
"""What became of a click, and whether the link's page was reached."""
_EXPORTS = ("export", "purge", "action", "download", "hold", "auditlog", "auditbypass", "unifiedaudit")
"""What takes others' mail along, destroys it, or turns off the record of it, in operations' names."""

Cells = Callable[[Row, Mapping[str, Any]], list[Cell]]


async def _table(
    view: View, sources: Sources, query: Query, names: tuple[str, ...], cells: Cells, *, of: str
) -> Grid:
    """A row for each record, under headings of these names."""
    rows = await sources.ask(view, query)
    return Grid(
        headings_of(names),
        [opening(view, row, cells(row, object_of(row[6]))) for row in rows],
        empty=None if rows else await no_records(view, sources, of=of),
    )


def _somebody(text: str) -> Cell:
    lower = text.lower()
    return Cell(text or "not said", narrows=("user", lower) if "@" in lower and "," not in lower else None)


def _severity(text: str) -> Cell:
    lower = text.lower()
    return Cell(text or "not said", tone=lower if lower in _SEVERITIES else "muted")


async def figures(view: View, sources: Sources) -> Shape:
    """Seven numbers about verdicts and changes."""
    rows = await sources.ask(view, threats.COUNTS.query)
    mail, clicks, dlp, alerts, compliance, teams, copilot = added(rows, len(threats.FIGURES))
    tiles = [
        Tile("Bad mail", short(mail), "found by Defender"),
        Tile("Clicked links", short(clicks), "that are bad", tone="high" if clicks else ""),
        Tile("DLP", short(dlp), "matches of rules"),
        Tile("Microsoft alerts", short(alerts), tone="medium" if alerts else ""),
        Tile("Compliance", short(compliance), "searches and settings"),
        Tile("Teams", short(teams), "members, settings"),
        Tile("Copilot", short(copilot), "interactions"),
    ]
    return await figures_here(view, sources, tiles)


async def mail(view: View, sources: Sources) -> Shape:
    """Mail that Defender found to be bad, what became of it, and who got it."""
    headings = ("Time (UTC)", "Verdict", "Action", "From", "To", "Subject…", "Delivered to", "Overruled")
    return await _table(view, sources, threats.MAIL, headings, _mail_row, of="verdicts on mail")


def _mail_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    verdict, location = field_of(record, "Verdict"), field_of(record, "LatestDeliveryLocation")
    overruled = field_of(record, "SystemOverrides.FinalOverride")
    is_inside = location.lower() in {"inbox", "inboxfolder", "inbox/folder"}
    return [
        instant(row[0]),
        Cell(verdict or "not said", tone=_VERDICTS.get(verdict.lower(), "muted")),
        Cell(field_of(record, "PolicyAction", "DeliveryAction") or "none"),
        Cell(field_of(record, "P2Sender", "P1Sender") or "not said"),
        _somebody(field_of(record, "Recipients")),
        Cell(field_of(record, "Subject") or "none"),
        Cell(location or "not said", tone="high" if is_inside else ""),
        Cell(overruled or "No", tone="medium" if overruled.lower() == "yes" else "muted"),
    ]


async def mail_by(view: View, sources: Sources) -> Shape:
    """What became of bad mail, who sent it, and who got it."""
    asked = (
        ("Action", threats.MAIL_BY_ACTION, False),
        ("Sender", threats.MAIL_BY_SENDER, False),
        ("Recipient", threats.MAIL_BY_RECIPIENT, True),
    )
    return await _rankings(view, sources, asked, of="verdicts on mail")


async def _rankings(
    view: View, sources: Sources, asked: tuple[tuple[str, Query, bool], ...], *, of: str
) -> Several:
    found = await asyncio.gather(*(sources.ask(view, query) for _, query, _ in asked))
    parts = [
        Ranking(
            title,
            [Ranked(value, count, ("user", value) if is_user else None) for value, count in rows],
            sum(count for _, count in rows),
        )
        for (title, _, is_user), rows in zip(asked, found, strict=True)
    ]
    return Several(parts, empty=None if any(found) else await no_records(view, sources, of=of))


async def cleanup(view: View, sources: Sources) -> Shape:
    """Clicks on bad links, bad files, mail reported, released from quarantine, and removed afterwards."""
    headings = ("Time (UTC)", "Operation", "Who", "Finding", "Link, file or mail…")
    return await _table(
        view, sources, threats.CLEANUP, headings, _cleanup_row, of="clicks, releases and reports"
    )


def _click(action: str) -> tuple[str, bool]:
    """What became of a click on a bad link, and whether whoever clicked came to its page."""
    word = CLICK_ACTIONS.get(action, action).lower()
    return _CLICKS.get(word, (action, False))


def _cleanup_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    who = field_of(record, "LastModifiedBy", "Recipients", "P1Recipient") or row[2]
    what = field_of(
        record, "Url", "FileData.FilePath", "FileData.FileName", "Subject", "NetworkMessageId", "ObjectId"
    )
    clicked, went_on = _click(field_of(record, "UrlClickAction"))
    finding = clicked or field_of(
        record, "FileData.MalwareFamily", "DetectionMethod", "RequestType", "Status"
    )
    return [
        instant(row[0]),
        operation(row[1], "failed" if row[4] == "failed" else ""),
        _somebody(who),
        Cell(finding or "not said", tone="high" if row[1] == "AtpDetection" or went_on else ""),
        Cell(what or "not said"),
    ]


async def dlp(view: View, sources: Sources) -> Shape:
    """Rules of data loss prevention that matched: what was found in what, whose it was, what was done."""
    headings = ("Time (UTC)", "Severity", "Rule…", "Whose", "Done", "Found…", "Where", "File or subject…")
    return await _table(view, sources, threats.DLP, headings, _dlp_row, of="matches of DLP rules")


def _dlp_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    rule = "PolicyDetails.Rules"
    found = field_of(record, f"{rule}.ConditionsMatched.SensitiveInformation.SensitiveInformationTypeName")
    who = field_of(record, "ExchangeMetaData.From", "SharePointMetaData.From", "SharePointMetaData.FileOwner")
    what = field_of(record, "ExchangeMetaData.Subject", "SharePointMetaData.FileName", "ObjectId")
    is_undone = "undo" in str(row[1]).lower()
    return [
        instant(row[0]),
        _severity(field_of(record, f"{rule}.Severity")),
        Cell(field_of(record, f"{rule}.RuleName", "PolicyDetails.PolicyName") or "not said"),
        _somebody(who or row[2]),
        Cell(
            "overruled" if is_undone else dlp_words(field_of(record, f"{rule}.Actions")) or "none",
            tone="medium" if is_undone else "",
        ),
        Cell(found or "not said"),
        Cell(workload_words(row[7])),
        Cell(what or "not said"),
    ]


async def alerts(view: View, sources: Sources) -> Shape:
    """Alerts of Purview, Defender and Defender for Cloud Apps, with whom they are about."""
    headings = ("Time (UTC)", "Severity", "Alert…", "About", "State", "Category")
    return await _table(view, sources, threats.ALERTS, headings, _alert_row, of="alerts of Microsoft")


def _alert_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    inner = object_of(str(record.get("Data", "")))
    about = field_of(record, "AlertEntityId") or field_of(inner, "eid", "f3u", "suid")
    if not about and "@" in row[2]:
        about = row[2]
    if not about and record.get("Data") == EMPTIED:
        about = EMPTIED
    return [
        instant(row[0]),
        _severity(field_of(record, "Severity", "AlertSeverity")),
        Cell(field_of(record, "Name", "AlertDisplayName") or row[1]),
        _somebody(about),
        Cell(field_of(record, "Status", "ResultStatus") or "not said", tone="muted"),
        Cell(field_of(record, "Category", "AlertCategory") or "not said"),
    ]


async def compliance(view: View, sources: Sources) -> Shape:
    """Searches of others' mail and files, their exports, and changes of auditing and of policies."""
    headings = ("Time (UTC)", "Operation", "By", "What was set or asked for…", "From")
    return await _table(view, sources, threats.COMPLIANCE, headings, _compliance_row, of="compliance changes")


def _compliance_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    is_grave = any(one in row[1].lower() for one in _EXPORTS)
    what = change_words(settings_of(record)) or field_of(record, "Parameters", "Query", "Case", "ObjectId")
    return deed(row, Cell(what or "not said"), tone="high" if is_grave else "")


async def teams(view: View, sources: Sources) -> Shape:
    """Members that came and went, chats with other organisations, settings and applications of teams."""
    headings = ("Time (UTC)", "Operation", "By", "Team or chat", "Who or what…", "From")
    return await _table(view, sources, threats.TEAMS, headings, _teams_row, of="changes in Teams")


def _teams_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    members = ", ".join(
        text_of(one.get("UPN")) or text_of(one.get("DisplayName")) for one in listed(record, "Members")
    )
    is_foreign = (
        field_of(record, "ParticipantInfo.HasForeignTenantUsers") == "true" or "#ext#" in members.lower()
    )
    what = members or change_words(settings_of(record)) or field_of(record, "Name", "AddOnName", "TabType")
    return deed(
        row,
        Cell(field_of(record, "TeamName", "ChatName", "CommunicationType") or "not said"),
        Cell(text_of(what) or "not said", tone="medium" if is_foreign else ""),
    )


async def flows(view: View, sources: Sources) -> Shape:
    """Flows that were made, changed and shared: they can carry mail and files away."""
    headings = ("Time (UTC)", "Operation", "By", "Connectors, or the flow…", "From")
    return await _table(view, sources, threats.FLOWS, headings, _flow_row, of="changes of flows")


def _flow_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    return deed(row, Cell(field_of(record, "FlowConnectorNames", "FlowDetailsUrl", "ObjectId") or "not said"))


async def copilot(view: View, sources: Sources) -> Shape:
    """In which programs, and by whom, Copilot is asked."""
    asked = (("Program", threats.COPILOT_BY_HOST, False), ("Person", threats.COPILOT_BY_USER, True))
    return await _rankings(view, sources, asked, of="interactions with Copilot")


async def copilot_touched(view: View, sources: Sources) -> Shape:
    """Interactions that touched a labelled resource, or whose prompt was flagged."""
    headings = ("Time (UTC)", "Why", "Who", "Program", "Resources…", "From")
    of = "labelled resources touched or prompts flagged"
    return await _table(view, sources, threats.COPILOT, headings, _copilot_row, of=of)


def _copilot_row(row: Row, record: Mapping[str, Any]) -> list[Cell]:
    asked = record.get("CopilotEventData")
    told = asked if isinstance(asked, dict) else {}
    text = text_of(row[6]) if not told else str(row[6])
    is_flagged = '"JailbreakDetected":true' in text or '"XPIADetected":true' in text
    resources = ", ".join(
        text_of(one.get("Name")) or text_of(one.get("Id")) for one in listed(told, "AccessedResources")
    )
    return [
        instant(row[0]),
        Cell(
            "flagged prompt" if is_flagged else "labelled resource", tone="high" if is_flagged else "medium"
        ),
        person(row[2]),
        Cell(field_of(told, "AppHost") or "not said"),
        Cell(text_of(resources) or "none"),
        address(row[3]),
    ]


PAGE = Page(
    "threats",
    "Threats & compliance",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("alerts", "Alerts of Microsoft", alerts, tall="chart", is_live=True),
        Panel("mail", "Bad mail", mail, tall="chart", is_live=True),
        Panel("mail-by", "Bad mail by action, sender, recipient", mail_by, tall="chart"),
        Panel("cleanup", "Clicks, files, reports, quarantine", cleanup, tall="chart"),
        Panel("dlp", "Data loss prevention", dlp, tall="chart"),
        Panel("compliance", "eDiscovery, auditing, policies", compliance, tall="chart"),
        Panel("teams", "Teams", teams, tall="chart"),
        Panel("copilot", "Copilot", copilot, width=6, tall="chart"),
        Panel(
            "copilot-touched",
            "Copilot: labelled resources, flagged prompts",
            copilot_touched,
            width=6,
            tall="chart",
        ),
        Panel("flows", "Power Automate", flows, tall="rows"),
    ),
    says="Bad mail, DLP, Microsoft's alerts, eDiscovery, Teams, flows and Copilot.",
)
