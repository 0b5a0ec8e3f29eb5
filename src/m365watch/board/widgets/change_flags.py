"""Why a change stands out: by its own text, by alerts that rest on it; and the worst ones first."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m365watch.board.query.alert_selection import to_mark
from m365watch.board.query.data_sources import ACTIVE, Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Sieve
from m365watch.board.query.sql.aggregates import Changes, added, in_alerts
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import counted, short
from m365watch.board.widgets.record_text import field_of, named_in
from m365watch.board.widgets.widget_types import Cell, Grid, Tile, headings_of
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.rules.severity import Severity
from m365watch.lake.rollups.flag_conditions import HIDING, WIDE_ROLES, WIDE_SCOPES

SHOWN_MAX = 200
"""Rows of one table."""
_WHY_AT = 3
_HIDING = re.compile(HIDING, re.IGNORECASE)
_WIDE_SCOPES = re.compile(WIDE_SCOPES.replace("(?-i:[A-Z])", "[A-Z]"))
_WIDE_ROLES = re.compile(WIDE_ROLES, re.IGNORECASE)
_MAIL = re.compile(r"[\w.%+'\-]+@([\w\-]+(?:\.[\w\-]+)+)")
AWAY = (
    *("ForwardTo", "RedirectTo", "ForwardAsAttachmentTo", "ForwardingSmtpAddress", "ForwardingAddress"),
    *("BlindCopyTo", "CopyTo", "RedirectMessageTo", "AddToRecipients", "JournalEmailAddress"),
)
"""Settings that say where mail is led to."""
_ACTIONS_AWAY = re.compile(r"\b(forward|redirect)", re.IGNORECASE)
_NO = frozenset({"", "false", "none"})
_WIDE_RIGHTS = {
    "fullaccess": "opens all of it",
    "sendas": "sends in its name",
    "sendonbehalf": "sends on its behalf",
    "impersonation": "acts as any mailbox",
    "export": "takes mailboxes along",
}
_WIDE_FOLDER_RIGHTS = {
    "owner": "owns the folder",
    "editor": "changes all in it",
    "deleteany": "deletes anything in it",
    "editany": "changes anything in it",
    "readany": "reads all in it",
}
"""What somebody can do who has a right with that in its name."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One reason for which a change stands out."""

    words: str
    severity: Severity


def marks_of_mail(
    record: Mapping[str, Any], user: str, *, is_own: Callable[[str], bool] = lambda _: False
) -> list[Mark]:
    """What a rule of an inbox or of the mail flow, or a forwarding, does with mail.

    `is_own` says which domains are the tenant's, beside the one of who acted or whose mailbox it is.
    """
    given = named_in(record, "Parameters", "OperationProperties")
    own = {user, field_of(record, "MailboxOwnerUPN"), f"@{record.get('OrganizationName')}"}
    marks = _away(given, own, is_own)
    if given.get("AutoForwardEnabled", "").lower() == "true" or given.get("AutoForwardingMode") == "On":
        marks.append(Mark("lets mail be forwarded", Severity.MEDIUM))
    actions = given.get("RuleActions", "")
    if given.get("DeleteMessage", "").lower() == "true" or "delete" in actions.lower():
        marks.append(Mark("deletes", Severity.MEDIUM))
    folder = given.get("MoveToFolder") or given.get("CopyToFolder") or _folder_of(given.get("ServerRule", ""))
    if _HIDING.search(folder):
        marks.append(Mark(f"hides in {folder.strip(chr(92))}", Severity.MEDIUM))
    if given.get("MarkAsRead", "").lower() == "true" or "markasread" in actions.lower():
        marks.append(Mark("marks as read", Severity.LOW))
    if given.get("SetSCL") == "-1":
        marks.append(Mark("lets past the filter", Severity.MEDIUM))
    if given.get("SetAuditSeverity", "").lower() == "donotaudit":
        marks.append(Mark("leaves no audit record", Severity.MEDIUM))
    if is_odd(given.get("RuleName") or given.get("Name") or ""):
        marks.append(Mark("odd name", Severity.MEDIUM))
    return marks


def _away(given: Mapping[str, str], own: Iterable[str], is_own: Callable[[str], bool]) -> list[Mark]:
    targets = " ".join(given[one] for one in AWAY if given.get(one, "").lower() not in _NO)
    if _ACTIONS_AWAY.search(given.get("RuleActions", "")):
        targets = f"{targets} {given['RuleActions']} {given.get('ServerRule', '')}"
    if not targets.strip():
        return []
    home = {one.rpartition("@")[2].lower() for one in own if "@" in one}
    named = [one.lower() for one in _MAIL.findall(targets)]
    foreign = [one for one in named if not _is_within(one, home) and not is_own(one)]
    if not foreign:
        return [Mark("forwards", Severity.MEDIUM)]
    return [Mark(f"forwards outside: {foreign[0]}", Severity.HIGH)]


def _is_within(domain: str, home: Iterable[str]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in home)


def _folder_of(rule: str) -> str:
    found = re.search(r'Folder\\?"\s*:\s*\\?"([^"]*)', rule)
    return found[1].replace("\\\\", "\\").rpartition("\\")[2] if found else ""


def is_odd(name: str) -> bool:
    """Whether a name is of signs alone, or of one character."""
    return bool(name) and (len(name) == 1 or not any(one.isalnum() for one in name))


def marks_of_right(given: str, who: str) -> list[Mark]:
    """What a right to a mailbox or folder opens."""
    lower = given.lower().replace(" ", "")
    if wide := next((words for one, words in _WIDE_RIGHTS.items() if one in lower), ""):
        return [Mark(wide, Severity.HIGH)]
    if not (wide := next((words for one, words in _WIDE_FOLDER_RIGHTS.items() if one in lower), "")):
        return []
    if who in {"default", "anonymous"}:
        return [Mark(f"anybody {wide}", Severity.HIGH)]
    return [Mark(wide, Severity.MEDIUM)]


def marks_of_scopes(scopes: str, *, is_for_all: bool) -> list[Mark]:
    """What an application was let at."""
    marks = [Mark("for everybody", Severity.MEDIUM)] if is_for_all else []
    found = sorted({one for one in re.split(r"[\s,;]+", scopes) if _WIDE_SCOPES.search(one)})
    if found:
        more = f" and {len(found) - 1} more as wide" if len(found) > 1 else ""
        marks.insert(0, Mark(f"may use {found[0]}{more}", Severity.HIGH))
    return marks


def marks_of_role(operation: str, role: str) -> list[Mark]:
    """Whether somebody got a role by which they may do much."""
    is_given = operation.lower().startswith("add")
    return [Mark("administrator's role", Severity.HIGH)] if is_given and _WIDE_ROLES.search(role) else []


def marks_of_directory(operation: str) -> list[Mark]:
    """What a change of applications, policies and domains is by its name."""
    lower = operation.lower()
    if lower.startswith("remove"):
        return []
    if "secrets" in lower or "credential" in lower:
        return [Mark("new way to sign in as it", Severity.HIGH)]
    if "federat" in lower or "set domain auth" in lower:
        return [Mark("who may sign in", Severity.HIGH)]
    if "owner to" in lower:
        return [Mark("new owner", Severity.MEDIUM)]
    return [Mark("who may sign in", Severity.MEDIUM)] if "conditional access" in lower else []


def marks_of_sharing(operation: str, *, is_anonymous: bool, is_guest: bool) -> list[Mark]:
    """Whether what was shared is open to anybody, or to somebody outside."""
    if any(one in operation.lower() for one in ("removed", "revoked")):
        return []
    if is_anonymous:
        return [Mark("open to anybody", Severity.HIGH)]
    return [Mark("outside", Severity.MEDIUM)] if is_guest else []


def marks_of_guard(operation: str) -> list[Mark]:
    """What a change is to that which guards sites and files."""
    lower = operation.lower()
    if lower.startswith("filemalware"):
        return [Mark("malware", Severity.CRITICAL)]
    if lower.startswith("sitecollectionadminadded"):
        return [Mark("may do all in the site", Severity.MEDIUM)]
    return [Mark("no older version is left", Severity.MEDIUM)] if lower.startswith("fileversionsall") else []


@dataclass(frozen=True, slots=True)
class Told:
    """A change as its table shows it, and why it stands out."""

    row: Row
    """Begins with its time, ends with its id."""
    cells: Sequence[Cell]
    marks: Sequence[Mark] = ()


async def alerts_by_record(view: View, sources: Sources) -> dict[str, Alert]:
    """The worst alert that waits, by each record that it rests on."""
    found = [one.alert for one in await to_mark(sources.list_alerts(view)) if one.state in ACTIVE]
    found.sort(key=lambda one: one.severity.rank)
    return {record: one for one in found for record in one.evidence}


async def list_changes(
    view: View, sources: Sources, changes: Changes
) -> tuple[list[Row], dict[str, Alert], str]:
    """Those that stand out and the latest, by their time; the alerts by record; and how many are left out."""
    sieve = changes.newest.sieve
    assert sieve is not None  # noqa: S101 - of these all have one
    counts, alerts = await asyncio.gather(sources.ask(view, sieve.query), alerts_by_record(view, sources))
    total, marked = (sum(row[1 + one.place] for row in counts) for one in (changes.newest, changes.marked))
    fills = changes.is_worst and marked >= SHOWN_MAX
    asked = [] if fills else [sources.ask(view, changes.newest if total > marked else changes.marked)]
    if total > SHOWN_MAX:  # of few that has all
        if marked or not changes.is_worst:
            asked.append(sources.ask(view, changes.marked))
        if alerts:
            asked.append(sources.ask(view, changes.named, ids=sorted(alerts)))
    found = await asyncio.gather(*asked)
    rows = sorted({row[-1]: row for of in found for row in of}.values(), key=lambda row: -row[0])
    cut = f"{SHOWN_MAX} of {total:,}: first those that stand out, then the latest."
    return rows, alerts, cut if total > SHOWN_MAX else ""


async def count_changes(view: View, sources: Sources, counts: Sieve, conditions: Sequence[str]) -> list[int]:
    """How many changes fulfil each condition, then how many of these stand out, as their tables say."""
    rows, alerts = await asyncio.gather(sources.ask(view, counts.query), alerts_by_record(view, sources))
    found = added(rows, 2 * len(conditions))
    if alerts:
        for row in await sources.ask(view, in_alerts(counts, conditions), ids=sorted(alerts)):
            for place, count in enumerate(row, len(conditions)):
                found[place] += count
    return found


def panel_url(view: View, path: str, panel: str) -> str:
    """Where a panel of a page is, in this view."""
    return f"{view.url(path)}#panel-{panel}"


def tiles_of(
    view: View, path: str, tiles: Sequence[tuple[str, str, str]], counts: Sequence[int]
) -> list[Tile]:
    """A tile for each label, note and panel; `counts` are how many there are, and then how many stand out."""
    return [
        Tile(
            label,
            short(count),
            f"{counted(marked, 'stands', 'stand')} out" if marked else note,
            tone="high" if marked else "",
            url=panel_url(view, path, panel),
        )
        for (label, note, panel), count, marked in zip(
            tiles, counts[: len(tiles)], counts[len(tiles) :], strict=True
        )
    ]


def ranked(view: View, told: Iterable[Told], alerts: Mapping[str, Alert]) -> list[list[Cell]]:
    """The rows of a table, those that stand out first, with why behind time, change and person."""
    placed = []
    for one in told:
        alert = alerts.get(str(one.row[-1]))
        severity = _severity_of(one.marks, alert)
        cells = list(one.cells)
        cells.insert(_WHY_AT, _mark_cell(view, one.marks, alert, severity))
        placed.append((-1 if severity is None else severity.rank, one.row[0], cells))
    placed.sort(key=lambda one: (-one[0], -one[1]))
    return [cells for _, _, cells in placed[:SHOWN_MAX]]


def _severity_of(marks: Sequence[Mark], alert: Alert | None) -> Severity | None:
    found = [one.severity for one in marks]
    if found.count(Severity.MEDIUM) > 1:
        found.append(Severity.HIGH)
    if alert is not None:
        found.append(alert.severity)
    return max(found, key=lambda one: one.rank, default=None)


def _mark_cell(view: View, marks: Sequence[Mark], alert: Alert | None, severity: Severity | None) -> Cell:
    if severity is None:
        return Cell("")
    words = ", ".join(one.words for one in sorted(marks, key=lambda one: -one.severity.rank))
    url = "" if alert is None else view.url("/alert", alert=alert.id)
    if alert is not None:
        words = f"{words}; in an alert" if words else alert.title
    return replace(Cell(words, tone=str(severity), sorts=severity.rank), url=url)


async def change_table(
    view: View,
    sources: Sources,
    changes: Changes,
    names: Sequence[str],
    tell: Callable[[list[Row]], Iterable[Told]],
    *,
    of: str,
    then: str = "",
) -> Grid:
    """The changes as `tell` has them, under headings of these names; `then` is what else there is to say.

    `names` have one more than the cells that are told: after time, change and person comes what stands out.
    """
    rows, alerts, cut = await list_changes(view, sources, changes)
    return Grid(
        headings_of(names),
        ranked(view, tell(rows), alerts),
        empty=None if rows else await no_records(view, sources, of=of),
        cut=f"{cut} {then}".strip() if rows else "",
    )
