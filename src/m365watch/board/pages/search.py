"""Search: any records, by a filter, the newest first and part by part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from m365watch.board.access.redaction import EMPTIED
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import name_applications
from m365watch.board.query.filter_values import in_records_words
from m365watch.board.query.query_context import View
from m365watch.board.query.search_queries import PartFound
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.entity_links import field_url
from m365watch.board.widgets.labels import workload_words
from m365watch.board.widgets.previous_lake import words_of_earlier
from m365watch.board.widgets.time_series import steps_of
from m365watch.board.widgets.widget_types import (
    Cell,
    Chart,
    Empty,
    Heading,
    HitRow,
    Hits,
    Line,
    Passage,
    Refused,
    Shape,
)
from m365watch.common.errors import FilterRefused
from m365watch.lake.schema import Kind
from m365watch.lake.search.filter_parser import Match, Term, read_filter
from m365watch.lake.search.filter_sql import condition_of, leaves_of, text_pattern
from m365watch.lake.search.record_search import SHOWN, Hit
from m365watch.records.derived_values import Outcome

ROWS_SHOWN = 200
"""Rows of one search; the others are counted."""
PASSAGE_BEFORE, PASSAGE_AFTER = 14, 160
"""Characters of a record around a text that was looked for."""
_ABOUT = "What it was about"
_COLUMNS = ("Time (UTC)", "Workload", "Operation", "Who", "From", "Outcome")
_NO_HITS = Empty(
    "No record in this time is as the filter has it.",
    "Values are compared whole: user:alice*, object~invoice and plain words find parts."
    " Or choose a longer time.",
)


async def hits(view: View, sources: Sources) -> Shape:
    """The newest records that the filter holds for, from the newest part of the lake."""
    text = view.given("q")
    try:
        term = await in_records_words(view, sources, read_filter(text))
        part = await sources.find_hits(view, term, before_s=None, rows=ROWS_SHOWN)
    except FilterRefused as refusal:
        what = refusal.what.partition(": ")[2]
        return Hits((), (), _chart(view, {}), 0, refused=Refused(text, refusal.at, what, refusal.fix))
    searched, left = await _counted(view, sources, part, before_s=None)
    empty = None if searched or left else await no_records(view, sources)
    note = await words_of_earlier(view, sources)
    if empty is not None and note:
        empty = Empty(empty.why, note)
    shape = await _shape(view, sources, term, part, shown=0)
    return replace(shape, searched=searched, left=left, empty=empty, note=note)


async def find_part(view: View, sources: Sources, *, before_s: int, shown: int) -> Hits:
    """The same of the next part, before `before_s`, where `shown` rows are shown already.

    Raises: FilterRefused; QueryStopped; LakeUnusable.
    """
    term = await in_records_words(view, sources, read_filter(view.given("q")))
    rows = max(0, ROWS_SHOWN - shown)
    part = await sources.find_hits(view, term, before_s=before_s, rows=rows)
    searched, left = await _counted(view, sources, part, before_s=before_s)
    shape = await _shape(view, sources, term, part, shown=shown)
    return replace(shape, searched=searched, left=left)


async def _counted(view: View, sources: Sources, part: PartFound, *, before_s: int | None) -> tuple[int, int]:
    """How many records of the time, and of tenants that the view may see, are in the part and in older ones.

    Files hold those of all tenants: what they hold is not to be told.
    """
    begin_s, end_s = part.next_before_s, before_s
    days = await sources.ask(view.of_everything, activity.DAYS)
    left = sum(count for at_s, count in days if begin_s is not None and at_s < begin_s)
    return sum(count for at_s, count in days if end_s is None or at_s < end_s) - left, left


async def _shape(view: View, sources: Sources, term: Term | None, part: PartFound, *, shown: int) -> Hits:
    apps = await name_applications(view, sources, (one.values["object_id"] for one in part.found.newest))
    words = condition_of(term).words
    patterns = [re.compile(text_pattern(one)) for one in words]
    rows = [_row(view, one, patterns, apps) for one in part.found.newest]
    before_s = part.next_before_s
    more = {} if before_s is None else {"before": str(before_s), "shown": str(shown + len(rows))}
    return Hits(
        [Heading(one) for one in (*_COLUMNS, "Where it stands" if words else _ABOUT)],
        rows,
        _chart(view, dict(part.found.steps)),
        part.found.count,
        more=view.url("/search/part", **more) if more else "",
        none=_no_hits(term),
    )


def _no_hits(term: Term | None) -> Empty:
    """What to do; where a person's name is only a part of one, how parts are found."""
    leaves = [] if term is None else list(leaves_of(term))
    people = [one.values[0] for one in leaves if isinstance(one, Match) and one.field.kind is Kind.PERSON]
    short = next((one.text for one in people if "@" not in one.text and not one.has_wildcard), "")
    if not short:
        return _NO_HITS
    then = (
        f"user:{short} finds whoever has that whole name before the @, at any domain; user:{short}* finds all"
        " whose name begins so. Or choose a longer time."
    )
    return Empty(_NO_HITS.why, then)


def _row(view: View, hit: Hit, patterns: list[re.Pattern[str]], apps: Mapping[str, str]) -> HitRow:
    """The last column says what the record was about or, where a text is looked for, where that stands."""
    cells = _cells(view, hit)
    if not view.access.sees_contents:
        return HitRow([*cells, Cell(EMPTIED, tone="muted")])
    if not patterns:
        target = hit.values["object_id"]
        about = apps.get(target.lower(), target)
        return HitRow([*cells, Cell(about, url=field_url(view, "ObjectId", target))])
    return HitRow(cells, _passage(hit.raw, patterns))


def _chart(view: View, steps: dict[int, int]) -> Chart:
    instants = steps_of(view.range)
    line = Line("Records", [steps.get(one, 0) for one in instants], "c1")
    return Chart(instants, view.range.step_s, [line])


EXPORT_COLUMNS = ("time", *(column.heading for column in SHOWN))


def export_row(hit: Hit) -> list[str]:
    """A hit as a row of a table for other programs."""
    at = f"{datetime.fromtimestamp(hit.at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return [at, *("" if value is None else str(value) for value in hit.values.values())]


def _cells(view: View, hit: Hit) -> list[Cell]:
    record, workload, outcome = (hit.values[name] for name in ("id", "workload", "outcome"))
    opens = view.url("/record", record=f"{hit.at_s}:{record}") if record else ""
    result = "failed" if outcome == Outcome.FAILURE else "ok"
    return [
        Cell(f"{datetime.fromtimestamp(hit.at_s, UTC):%m-%d %H:%M:%S}", sorts=hit.at_s, url=opens),
        Cell(workload_words(workload), narrows=("workload", workload) if workload else None),
        *(
            Cell(value, narrows=(name, value) if value else None)
            for name, column in (("operation", "operation"), ("user", "actor"), ("ip", "client_ip"))
            for value in (hit.values[column],)
        ),
        Cell(outcome, tone="muted" if outcome == Outcome.UNKNOWN else result, narrows=("result", result)),
    ]


def _passage(raw: str, patterns: list[re.Pattern[str]]) -> Passage:
    """Where the first of the words that is there stands; the record's beginning where it is beyond."""
    for pattern in patterns:
        if found := pattern.search(raw):
            start, end = found.span()
            return Passage(
                ("…" if start > PASSAGE_BEFORE else "") + raw[max(0, start - PASSAGE_BEFORE) : start],
                raw[start : min(end, start + PASSAGE_AFTER)],
                raw[end : end + PASSAGE_AFTER],
            )
    return Passage(raw[:PASSAGE_AFTER], "", "")


PAGE = Page(
    "search",
    "Search",
    (
        Panel(
            "hits",
            "Records",
            hits,
            says="The newest first; a time opens the record, any other value narrows the view to it.",
            tall="rows",
        ),
    ),
    says="How filters are written stands in docs/search.md.",
)
