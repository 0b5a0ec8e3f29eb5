"""Exchange: which rules, ways out and rights were changed, and who reads whose mail."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from m365watch.board.access.redaction import EMPTIED
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.internal_domains import listed_for_sql, own_domains
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import exchange_queries
from m365watch.board.query.sql import exchange_queries as exchange
from m365watch.board.query.sql.aggregates import Changes
from m365watch.board.widgets.change_flags import (
    Mark,
    Told,
    change_table,
    count_changes,
    marks_of_mail,
    marks_of_right,
    panel_url,
    tiles_of,
)
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import counted, country_words, operation_words, short, user_type_words
from m365watch.board.widgets.previous_lake import figures_here
from m365watch.board.widgets.record_text import (
    Setting,
    address,
    change_words,
    deed,
    field_of,
    instant,
    named_in,
    number,
    opening,
    operation,
    person,
    settings_of,
    with_before,
)
from m365watch.board.widgets.time_series import chart_of, colours_of
from m365watch.board.widgets.widget_types import Cell, Grid, Heading, Ranked, Ranking, Several, Shape, Tile
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.severity import Severity
from m365watch.records.headers import object_of

_KINDS_OF_LOGON = {"0": "Owner", "1": "Administrator", "2": "Delegate"}
_COLOURS = {"0": "c1", "1": "high", "2": "medium"}
OPERATIONS_MAX = 10
PEOPLE_MAX = 100


async def logins(view: View, sources: Sources) -> Shape:
    """Sign-ins to mailboxes over time: by owners, delegates and administrators."""
    rows = await sources.ask(view, exchange_queries.LOGINS)
    return chart_of(
        view.range,
        rows,
        colour=lambda kind: _COLOURS.get(kind, "c8"),
        words=lambda kind: _KINDS_OF_LOGON.get(kind, f"kind {kind}" if kind else "not said"),
        order=tuple(_KINDS_OF_LOGON),
        empty=None if rows else await no_records(view, sources, of="sign-ins to mailboxes"),
    )


async def outsiders(view: View, sources: Sources) -> Shape:
    """What people of other organisations did: partners who administer, and who was let into a mailbox."""
    asked = (exchange_queries.OUTSIDE_CHANGES, exchange_queries.OUTSIDE_MAILBOXES)
    own = listed_for_sql(await own_domains(view, sources))
    of_changes, of_mailboxes = await asyncio.gather(*(sources.ask(view, one, own=own) for one in asked))
    rows = sorted([*of_changes, *of_mailboxes], key=lambda row: (-row[4], -row[2], row[0], row[1]))
    why = "Nobody from outside the organisation worked in Exchange, as far as records of this view say."
    empty = None if rows else await good_news(view, sources, why, "A longer time may show more.")
    return Several([_by_operation(rows), _by_person(rows)], empty=empty)


def _by_operation(rows: list[Row]) -> Ranking:
    times: dict[str, int] = defaultdict(int)
    people: dict[str, set[str]] = defaultdict(set)
    for who, name, count, *_ in rows:
        times[name] += count
        people[name].add(who)
    ordered = sorted(times.items(), key=lambda one: (-one[1], one[0]))
    ranked = [
        Ranked(
            operation_words(name) or "not said",
            count,
            ("operation", name) if name else None,
            "medium",
            note=counted(len(people[name]), "person", "people"),
        )
        for name, count in ordered[:OPERATIONS_MAX]
    ]
    return Ranking("By operation", ranked, sum(times.values()))


def _by_person(rows: list[Row]) -> Grid:
    headings = (
        Heading("Who"),
        Heading("Times", numeric=True),
        Heading("In or on", numeric=True),
        Heading("Operation"),
        Heading("Last (UTC)"),
    )
    cells = [
        [person(who), number(count), Cell(f"{things:,}", sorts=things), operation(name), instant(last)]
        for who, name, count, things, last in rows[:PEOPLE_MAX]
    ]
    cut = f"the latest {PEOPLE_MAX} of {len(rows):,}" if len(rows) > PEOPLE_MAX else ""
    return Grid(headings, cells, title="By person, the latest first", cut=cut)


_BY = (("operation", "operation"), ("usertype", "user type"))
_TILES = (
    ("Inbox rules", "created or changed", "rules"),
    ("Forwarding", "settings of mailboxes", "forwarding"),
    ("Mail flow", "rules, connectors", "flow"),
    ("Rights", "given or taken", "rights"),
)
_LOGONS = {"0": "owner", "1": "administrator", "2": "delegate"}
_WAYS = {"sync": "medium", "bind": "c1", "throttled": "failed", "not said": "c8"}


async def figures(view: View, sources: Sources) -> Shape:
    """Eight numbers about changes and about reading."""
    every, mailboxes = await asyncio.gather(
        count_changes(view, sources, exchange.COUNTS, exchange.FIGURES),
        sources.ask(view, exchange.MAILBOX_FIGURES),
    )
    foreign, deleted, synced, throttled = mailboxes[0] if mailboxes else (0,) * 4

    def tile(label: str, count: int, note: str, panel: str, *, tone: str = "") -> Tile:
        return Tile(label, short(count), note, tone=tone, url=panel_url(view, "/exchange", panel))

    tiles = [
        *tiles_of(view, "/exchange", _TILES, every),
        tile("Others' mailboxes", foreign, "accesses", "foreign"),
        tile("Synchronised", synced, "whole folders read", "reading"),
        tile("Throttled", throttled, "reading unrecorded", "reading", tone="high" if throttled else ""),
        tile("Hard deletes", deleted, "gone for good", "deleting"),
    ]
    return await figures_here(view, sources, tiles)


async def activity(view: View, sources: Sources) -> Shape:
    """What happens in Exchange over time, by operation or by user type."""
    by = view.option("by", tuple(name for name, _ in _BY))
    is_by_operation = by == "operation"
    rows = await sources.ask(view, exchange.ACTIVITY if is_by_operation else exchange.ACTIVITY_BY_USER_TYPE)

    def words(name: str) -> str:
        return name if is_by_operation else user_type_words(None if name == "-1" else int(name))

    empty = None if rows else await no_records(view, sources, of="records of Exchange")
    chart = chart_of(
        view.range,
        rows,
        colour=colours_of(rows),
        words=words,
        narrows=lambda name: (by, name) if name not in {"", "-1"} else None,
        empty=empty,
    )
    return Several([chart], empty=empty, choices=_BY, chosen=by)


async def administration(view: View, sources: Sources) -> Shape:
    """What people with rights change, the most frequent first."""
    rows = await sources.ask(view, exchange.ADMINISTRATION)
    ranked = [
        Ranked(name, count, ("operation", name), note=counted(people, "person", "people"))
        for name, count, people in rows
    ]
    empty = None if rows else await no_records(view, sources, of="changes by administrators")
    return Ranking.of_all(ranked, empty)


def _family(name: str) -> str:
    """The kind of object that a cmdlet is about: new-inboxrule and set-inboxrule are about the same."""
    return name.lower().partition("-")[2] or name.lower()


def _subject_of(record: dict[str, object], stands: str) -> str:
    given = named_in(record, "Parameters", "OperationProperties")
    return (
        given.get("Identity")
        or given.get("RuleName")
        or stands.rpartition("/")[2]
        or given.get("Name")
        or given.get("Mailbox")
        or field_of(record, "MailboxOwnerUPN")
    )


_OF_MAILBOX = re.compile("inboxrule|sweeprule")
"""Families whose names say little without the mailbox: two people may each have a rule called Bills."""


def _mailbox_of(row: Row, record: dict[str, object]) -> str:
    """Whose rule it is: what names it first is said the most plainly."""
    named = field_of(record, "MailboxOwnerUPN") or named_in(record, "Parameters").get("Mailbox")
    stands = EMPTIED if row[5] == EMPTIED else row[5].rpartition("\\")[0]
    return (named or stands or row[2]).lower()


def _changed_of(row: Row, record: dict[str, object], subject: str) -> object:
    """The object that a change is of, equal to that of another change only where it is surely the same."""
    family = _family(row[1])
    mailbox = _mailbox_of(row, record) if _OF_MAILBOX.search(family) else ""
    if not subject or EMPTIED in {subject, mailbox}:
        return object()
    return row[7], family, mailbox, subject


def _change_row(row: Row, subject: str, settings: Sequence[Setting]) -> list[Cell]:
    words = change_words(settings, is_removed=row[1].lower().startswith("remove-"))
    return deed(row, Cell(words or "not said"), Cell(subject or "not said"))


_CHANGE_NAMES = ("Time (UTC)", "Change", "By", "Stands out…", "Before → after…", "What", "From")
_CUT = "What stood there before is what the last change in this view set, where no record says it."


def changes_told(view: View, rows: Sequence[Row], own: Knowledge) -> list[Told]:
    """What each change has set on what, and what stood there before; `rows` have the newest first."""
    told = [object_of(row[6]) for row in rows]
    subjects = [_subject_of(record, row[5]) for row, record in zip(rows, told, strict=True)]
    settings = with_before(
        [
            (_changed_of(row, record, subject), settings_of(record))
            for row, record, subject in zip(rows, told, subjects, strict=True)
        ]
    )
    return [
        Told(
            row,
            opening(view, row, _change_row(row, subject, set_to)),
            marks_of_mail(record, row[2], is_own=partial(own.is_own_domain, tenant=row[7])),
        )
        for row, record, subject, set_to in zip(rows, told, subjects, settings, strict=True)
    ]


async def _changes(view: View, sources: Sources, changes: Changes, of: str) -> Grid:
    own = await own_domains(view, sources)

    def tell(rows: Sequence[Row]) -> list[Told]:
        return changes_told(view, rows, own)

    return await change_table(view, sources, changes, _CHANGE_NAMES, tell, of=of, then=_CUT)


async def rules(view: View, sources: Sources) -> Shape:
    """Rules of inboxes: what they do with which mail."""
    return await _changes(view, sources, exchange.RULES, "changes of inbox rules")


async def forwarding(view: View, sources: Sources) -> Shape:
    """Settings that send a mailbox's or a domain's mail elsewhere."""
    return await _changes(view, sources, exchange.FORWARDING, "changes of forwarding")


async def flow(view: View, sources: Sources) -> Shape:
    """Transport rules, connectors, journals and domains: what touches everybody's mail."""
    return await _changes(view, sources, exchange.FLOW, "changes of the mail flow")


async def rights(view: View, sources: Sources) -> Shape:
    """Who was let into whose mailbox or folder, and with which rights."""
    names = ("Time (UTC)", "Change", "By", "Stands out…", "Who is let in", "Rights", "Mailbox", "From")

    def tell(rows: Sequence[Row]) -> list[Told]:
        return [right_told(view, row) for row in rows]

    return await change_table(view, sources, exchange.PERMISSIONS, names, tell, of="changes of rights")


def right_told(view: View, row: Row) -> Told:
    """Who was let in where by a change, with which right."""
    record = object_of(row[6])
    given = named_in(record, "Parameters")
    trustee = given.get("User") or given.get("Trustee") or given.get("SecurityGroup")
    who = (trustee or field_of(record, "Item.ParentFolder.MemberUpn", "Item.ParentFolder.MemberSid")).lower()
    right = given.get("AccessRights") or given.get("Role")
    granted = right or field_of(record, "Item.ParentFolder.MemberRights")
    mailbox = given.get("Identity") or field_of(record, "MailboxOwnerUPN") or row[5].rpartition("/")[2]
    is_given = not row[1].lower().startswith("remove")
    if bypass := given.get("AuditBypassEnabled", "").lower():
        return _unwatched(view, row, mailbox.lower(), bypass=bypass)
    marks = marks_of_right(granted, who) if is_given else []
    cells = deed(
        row,
        Cell(who or "not said", narrows=("user", who) if "@" in who else None),
        Cell(granted or "not said"),
        Cell(f"{mailbox or 'not said'} {field_of(record, 'Item.ParentFolder.Path')}".rstrip()),
    )
    return Told(row, opening(view, row, cells), marks)


_BYPASS_WORDS = {"true": "no record kept", "false": "recorded again"}


def _unwatched(view: View, row: Row, who: str, *, bypass: str) -> Told:
    """Whose deeds in mailboxes leave no record from now on: a way into all that they may open."""
    cells = deed(
        row,
        Cell(who or "not said", narrows=("user", who) if "@" in who else None),
        Cell(_BYPASS_WORDS.get(bypass, "not said")),
        Cell("any mailbox"),
    )
    marks = [Mark("goes unrecorded", Severity.HIGH)] if bypass == "true" else []
    return Told(row, opening(view, row, cells), marks)


async def foreign(view: View, sources: Sources) -> Shape:
    """Who was in a mailbox that is not their own, as delegate or as administrator."""
    rows = await sources.ask(view, exchange.FOREIGN)
    headings = (
        Heading("Mailbox"),
        Heading("Times", numeric=True),
        Heading("Who"),
        Heading("As"),
        Heading("Operation"),
        Heading("From"),
        Heading("Program"),
        Heading("Last (UTC)"),
    )
    grid = [
        [
            Cell(mailbox or "not said"),
            number(count),
            person(user),
            Cell(_LOGONS.get(logon, logon or "not said"), tone="medium" if logon == "1" else ""),
            operation(name),
            address(ip),
            Cell(program or "not said", tone="muted"),
            instant(last),
        ]
        for mailbox, user, ip, name, program, logon, count, last in rows
    ]
    why = "Everybody stayed in their own mailbox, as far as records of this view say."
    empty = None if rows else await good_news(view, sources, why, "A longer time may show more.")
    return Grid(headings, grid, empty=empty)


async def reading(view: View, sources: Sources) -> Shape:
    """How mail was read: opened one by one, synchronised in whole folders, or throttled."""
    rows = await sources.ask(view, exchange.READING)
    empty = None if rows else await no_records(view, sources, of="records of mail being read")
    return chart_of(
        view.range,
        rows,
        colour=lambda name: _WAYS.get(name, "c8"),
        words=lambda name: {"sync": "Synchronised", "bind": "Opened"}.get(name, name.capitalize()),
        order=("bind", "sync", "throttled"),
        empty=empty,
    )


_READ_BY = (("Application", "app_id"), ("Address", "client_ip"), ("Program", "program"), ("Folder", "folder"))


async def read_with(view: View, sources: Sources) -> Shape:
    """By which applications, from which addresses, with which programs, in which folders mail was read."""
    asked = (exchange.READ_FROM, exchange.READ_WITH)
    rows = [row for of in await asyncio.gather(*(sources.ask(view, one) for one in asked)) for row in of]
    found = [[row[1:] for row in rows if row[0] == column] for _, column in _READ_BY]
    named = await name_applications(view, sources, [row[1] for row in rows if row[0] == "app_id"])
    parts = [
        Grid(
            (
                Heading(title),
                Heading("Times", numeric=True),
                Heading("Sync", numeric=True),
                Heading("People", numeric=True),
            ),
            [
                [
                    _read_cell(column, name, named, sources),
                    number(count),
                    number(synced, "" if synced else "muted"),
                    number(people),
                ]
                for name, count, synced, people in rows
            ],
        )
        for (title, column), rows in zip(_READ_BY, found, strict=True)
    ]
    empty = None if found[0] else await no_records(view, sources, of="records of mail being read")
    return Several(parts, empty=empty)


def _read_cell(column: str, name: str, named: Mapping[str, str], sources: Sources) -> Cell:
    if not name:
        return Cell("not said", tone="muted")
    if column == "app_id":
        return Cell(named.get(name, name), narrows=("app", name))
    if column != "client_ip":
        return Cell(name)
    country = country_words(sources.places.locate(name).country)
    return Cell(f"{name}, {country}" if country else name, narrows=("ip", name))


async def deleting(view: View, sources: Sources) -> Shape:
    """Who deletes for good, and in how many mailboxes."""
    rows = await sources.ask(view, exchange.DELETING)
    ranked = [
        Ranked(
            user or "not said",
            count,
            ("user", user) if user else None,
            "failed",
            note=counted(mailboxes, "mailbox", "mailboxes"),
        )
        for user, count, mailboxes, _ in rows
    ]
    empty = None if rows else await no_records(view, sources, of="hard deletes")
    return Ranking.of_all(ranked, empty)


PAGE = Page(
    "exchange",
    "Exchange",
    (
        Panel("figures", "At a glance", figures, tall="tiles", is_live=True),
        Panel("rules", "Inbox rules", rules, tall="chart", is_live=True),
        Panel("forwarding", "Forwarding", forwarding, tall="rows", is_live=True),
        Panel("flow", "Transport rules, connectors, domains", flow, tall="rows"),
        Panel("rights", "Rights to mailboxes and folders", rights, tall="chart"),
        Panel("foreign", "In others' mailboxes", foreign, tall="chart"),
        Panel(
            "outsiders",
            "From outside the organisation",
            outsiders,
            says="Cmdlets that Exchange says an outsider ran, and mailboxes; nobody of your own domains.",
            tall="rows",
        ),
        Panel("reading", "Mail being read", reading, tall="chart", is_live=True),
        Panel("logins", "Sign-ins to mailboxes", logins, width=8, tall="chart"),
        Panel("deleting", "Hard deletes", deleting, width=4, tall="chart"),
        Panel("read-with", "Mail read with, from and in what", read_with, tall="rows"),
        Panel("activity", "Everything in Exchange", activity, width=8, tall="chart"),
        Panel("administration", "Changes by administrators", administration, width=4, tall="chart"),
    ),
    says="Which rules, ways out and rights people changed, and who reads whose mail.",
    choices={"by": dict(_BY)},
)
