"""Exchange's panels of who comes in: sign-ins to mailboxes, and work of people from outside."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.internal_domains import listed_for_sql, own_domains
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import visits
from m365watch.board.widgets.empty_states import good_news, no_records
from m365watch.board.widgets.labels import counted, operation_words
from m365watch.board.widgets.record_text import instant, number, operation, person
from m365watch.board.widgets.time_series import chart_of
from m365watch.board.widgets.widget_types import Cell, Grid, Heading, Ranked, Ranking, Several, Shape

_LOGONS = {"0": "Owner", "1": "Administrator", "2": "Delegate"}
_COLOURS = {"0": "c1", "1": "high", "2": "medium"}
OPERATIONS_MAX = 10
PEOPLE_MAX = 100


async def logins(view: View, sources: Sources) -> Shape:
    """Sign-ins to mailboxes over time: by owners, delegates and administrators."""
    rows = await sources.ask(view, visits.LOGINS)
    return chart_of(
        view.range,
        rows,
        colour=lambda kind: _COLOURS.get(kind, "c8"),
        words=lambda kind: _LOGONS.get(kind, f"kind {kind}" if kind else "not said"),
        order=tuple(_LOGONS),
        empty=None if rows else await no_records(view, sources, of="sign-ins to mailboxes"),
    )


async def outsiders(view: View, sources: Sources) -> Shape:
    """What people of other organisations did: partners who administer, and who was let into a mailbox."""
    asked = (visits.OUTSIDE_CHANGES, visits.OUTSIDE_MAILBOXES)
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
