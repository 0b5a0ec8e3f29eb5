"""The search for the pages: a filter over what a view may see, part by part, stopped with whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path
from typing import TypeVar

from m365watch.board.app.request_metrics import Queries
from m365watch.board.query.dimension_filters import is_pattern, plain_name
from m365watch.board.query.fair_thread_pool import FairThreads
from m365watch.board.query.query_context import View
from m365watch.board.query.query_throttle import Turn, at_once, in_time
from m365watch.common.errors import FilterRefused, LakeUnusable
from m365watch.lake.schema import Kind
from m365watch.lake.search.filter_fields import field_named
from m365watch.lake.search.filter_parser import About, Every, Holds, Match, Not, Some, Term, Wanted
from m365watch.lake.search.filter_sql import ABOUT, condition_of, leaves_of
from m365watch.lake.search.record_search import (
    PART_RECORDS,
    SHOWN,
    Asked,
    Finder,
    Found,
    Hit,
    Part,
    Span,
    Stop,
)

AT_ONCE_MAX = 2
"""Searches that run at the same time, one less of the same asker; one more is for whoever has none."""
SORTED_MAX = 50_000
"""Hits of one part that are put in order, records and all."""
EXPORT_LIMIT_S = 300.0
"""How long one part of an export may take, however slowly it is taken."""
_TRIES_MAX = 3
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PartFound:
    """What one part has, and where the next one ends."""

    found: Found
    next_before_s: int | None = None
    """In seconds since 1970, a midnight; None where there is no next part."""


NOTHING_FOUND = PartFound(Found())


def asked_of(view: View, term: Term | None) -> Asked:
    """The filter within what the view may see and is narrowed to.

    Raises: FilterRefused.
    """
    given = [*([term] if term is not None else []), *_mentioned(view)]
    if not view.access.sees_contents:
        for one in given:
            _refuse_contents(one)
    terms = (*given, *_narrowed(view))
    condition = condition_of(Every(terms) if terms else None)
    span = Span(view.range.start_s, view.range.end_s)
    return Asked(condition, span, view.tenants, view.range.step_s)


def _mentioned(view: View) -> list[Term]:
    """What an investigation is about, where one has led here: the records that it has are found."""
    given = ((name, Wanted(value, 0, is_quoted=True)) for name, value in view.mentions)
    return [About(name, value) if name in ABOUT else Holds(value) for name, value in given]


def _refuse_contents(term: Term) -> None:
    """Refuse what would tell somebody of contents who may not see them, if only by what is found."""
    for leaf in leaves_of(term):
        if not isinstance(leaf, Match):
            at = (leaf.words if isinstance(leaf, Holds) else leaf.value).at
        elif leaf.field.has_contents:
            at = leaf.values[0].at
        else:
            continue
        raise FilterRefused("you see no contents of records", at=at, fix="name another field")


def without_contents(hit: Hit) -> Hit:
    """The hit without what may be a subject, the name of a file, or a text."""
    hidden = {column.name: "" for column in SHOWN if column.has_contents}
    return replace(hit, values={**hit.values, **hidden}, raw="")


def _narrowed(view: View) -> list[Term]:
    """What narrows every page, in terms of a filter; values of one name are alternatives, and whole."""
    terms: list[Term] = []
    for name, values in view.narrowing.values.items():
        plain = plain_name(name)
        field = field_named(plain)
        if plain == "tenant" or field is None:
            continue
        whole = field if field.kind in {Kind.NUMBER, Kind.RESULT} else replace(field, kind=Kind.TEXT)
        wholes = tuple(
            Wanted(one, 0, is_quoted=whole.kind is Kind.TEXT) for one in values if not is_pattern(name, one)
        )
        patterns = tuple(Wanted(one, 0) for one in values if is_pattern(name, one))
        wide = replace(field, kind=Kind.ADDRESS if plain == "ip" else Kind.TEXT)
        matches = tuple(Match(of, given) for of, given in ((whole, wholes), (wide, patterns)) if given)
        one_of = matches[0] if len(matches) == 1 else Some(matches)
        terms.append(one_of if name == plain else Not(one_of))
    return terms


class HitsReader:
    """Answers searches in one lake; used by one event loop."""

    def __init__(
        self,
        lake: Path,
        *,
        part_records: int = PART_RECORDS,
        turn: Turn = at_once,
        queries: Queries | None = None,
    ) -> None:
        """Nothing is opened yet. Each part is searched in the asker's `turn`; `queries` count it."""
        self._turn = turn
        self._queries = queries or Queries()
        self._finder = Finder(lake, part_records=part_records)
        self._threads = FairThreads(AT_ONCE_MAX, "board-search")

    def close(self) -> None:
        """Let go of everything."""
        self._threads.close(waits=False)
        self._finder.close()

    async def find(self, asked: Asked, *, who: str, before_s: int | None, rows: int) -> PartFound:
        """What the newest part before `before_s` has; whoever stops waiting stops the search.

        It is the turn of `who`: of one asker there is never a search in every place.

        Raises: QueryStopped; LakeUnusable.
        """
        if before_s is not None:
            end_s = min(asked.span.end_s, before_s)
            if end_s <= asked.span.start_s:
                return NOTHING_FOUND
            asked = replace(asked, span=replace(asked.span, end_s=end_s))
        with self._queries.one_more("search"):
            async with in_time(self._turn(who)):
                return await self._stoppable(who, partial(self._find, asked, rows))

    async def read(self, asked: Asked, *, who: str, most: int) -> AsyncIterator[list[tuple[Hit, bytes]]]:
        """The hits with their records, at most so many, from the newest days on.

        The newest come first, but among those of a part that has more than `SORTED_MAX` of them.

        Raises: QueryStopped; LakeUnusable.
        """
        left = most
        for part in await self._stoppable(who, lambda **_: self._finder.plan(asked)):
            async with self._turn(who):  # nobody waits for a page meanwhile
                found = await self._stoppable(who, partial(self._finder.find, part, asked, rows=0))
            if found.count:
                async for hits in self._read(part, asked, who=who, in_order=found.count <= SORTED_MAX):
                    yield hits[:left]
                    left -= len(hits)
                    if left <= 0:
                        return

    async def _read(
        self, part: Part, asked: Asked, *, who: str, in_order: bool
    ) -> AsyncIterator[list[tuple[Hit, bytes]]]:
        stop = Stop()
        chunks = self._finder.read(part, asked, in_order=in_order, stop=stop, limit_s=EXPORT_LIMIT_S)
        take = partial(next, chunks, None)
        try:
            while (hits := await asyncio.wrap_future(self._threads.submit(who, take))) is not None:
                yield hits
        finally:
            stop.set()
            # Behind the step that may still run: a generator cannot be closed from two threads.
            self._threads.submit(who, chunks.close)

    def _find(self, asked: Asked, rows: int, *, stop: Stop) -> PartFound:
        for attempt in range(1, _TRIES_MAX + 1):
            parts = self._finder.plan(asked)
            if not parts:
                return NOTHING_FOUND
            try:
                found = self._finder.find(parts[0], asked, rows=rows, stop=stop)
            except LakeUnusable:
                # Upkeep may have merged the file away; the newest version of the table does without it.
                if attempt < _TRIES_MAX:
                    continue
                raise
            return PartFound(found, _begin_s(parts[0]) if parts[1:] else None)
        raise AssertionError("a try either answers or raises")

    async def _stoppable(self, who: str, work: Callable[..., _T]) -> _T:
        """What `work` answers, which is given something by which it can be stopped."""
        stop = Stop()
        try:
            return await asyncio.wrap_future(self._threads.submit(who, lambda: work(stop=stop)))
        except asyncio.CancelledError:
            stop.set()
            raise


def _begin_s(part: Part) -> int:
    return int(datetime.combine(part.first, time(), UTC).timestamp())
