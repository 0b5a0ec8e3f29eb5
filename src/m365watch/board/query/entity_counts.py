"""What an investigation counts: how much there is, of which values, and when; from few looks."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.dimension_filters import is_pattern
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import entity_queries as trails
from m365watch.lake.search.filter_sql import ABOUT

AT_ONCE_MAX = 20_000
"""Of so many records everything is told by one look; of more, each question has a smaller rollup."""
_NAMED = {"workload": "workload", "operation": "operation", **trails.DIMENSION_OF}


def names_of(view: View) -> list[str]:
    """By what kinds of mention the view is about something, in what is shown to whoever looks."""
    is_bare = not view.access.sees_contents
    return [f"{trails.SHOWN}{name}" if is_bare and name in ABOUT else name for name, _ in view.mentions]


def bound_of(view: View) -> dict[str, str]:
    """What the queries about mentions are bound with."""
    given = {name: value.lower() for name, value in view.mentions}
    if text := given.get("text"):
        given["escaped"] = json.dumps(text, ensure_ascii=False)[1:-1]
    return given


async def count_all(view: View, sources: Sources, *, at_once: int = AT_ONCE_MAX) -> Sequence[int]:
    """Records, failures, people, addresses, applications, sessions, first and last instant."""
    if view.mentions:
        rows = await sources.ask(view, trails.figures(names_of(view)), **bound_of(view))
        return rows[0] if rows else (0,) * 8
    life, _ = await _life(view, sources, at_once)
    totals = [row[3:7] for row in life if row[0] is None]
    if not totals:
        return (0,) * 8
    total, failed, first, last = totals[0]
    numbers = {row[0]: row[3] for row in await list_values(view, sources, at_once=at_once)}
    columns = ("user_id", "client_ip", "app_id", "session")
    return (total, failed, *(numbers.get(one, 0) for one in columns), first, last)


async def list_values(view: View, sources: Sources, *, at_once: int = AT_ONCE_MAX) -> list[Row]:
    """Name of the column, value, count, and more by what the view is about; the most frequent first."""
    if view.mentions:
        return await sources.ask(view, trails.values(names_of(view)), **bound_of(view))
    life, is_all = await _life(view, sources, at_once)
    known = _wholes(life)
    if is_all:
        return known
    return known + await _values_of(view, sources, trails.NAMED_COLUMNS, trails.VALUES_TOGETHER)


async def list_compared(view: View, sources: Sources, *, at_once: int = AT_ONCE_MAX) -> list[Row]:
    """The same of what two times are compared by, and perhaps of other columns.

    No course is asked for, which nobody sees of the other time, and of what the view is narrowed to nothing
    but addresses, which are in countries.
    """
    if view.mentions:
        return await sources.ask(view, trails.values(names_of(view)), **bound_of(view))
    if not _has_all_together(view, at_once):
        operations = await sources.ask(view, trails.VALUES["operation"])
        if sum(row[2] for row in operations) > at_once:
            columns = [
                one for one in trails.COMPARED[1:] if one == "client_ip" or not _is_narrowed(view, one)
            ]
            return operations + await _values_of(view, sources, columns, trails.COMPARED_TOGETHER)
    return _wholes(await sources.ask(view, trails.LIFE))


def _wholes(life: Iterable[Row]) -> list[Row]:
    """Of what one look tells, the values as a whole."""
    return [(row[0], row[1], row[3], row[7]) for row in life if row[0] is not None and row[2] is None]


async def _values_of(view: View, sources: Sources, columns: Sequence[str], together: Query) -> list[Row]:
    # What is sorted by an address has all that is of it together; else each column has a smaller rollup.
    by_address = "client_ip" in view.narrowing.named_columns
    asked = [together] if by_address else [trails.VALUES[one] for one in columns]
    found = await asyncio.gather(*(sources.ask(view, one) for one in asked))
    return [row for rows in found for row in rows]


async def list_courses(view: View, sources: Sources, *, at_once: int = AT_ONCE_MAX) -> list[Row]:
    """Name of the column, value, instant, count: of each column the most frequent values and the rarest."""
    if view.mentions:
        return await sources.ask(view, trails.lanes(names_of(view)), **bound_of(view))
    life, is_all = await _life(view, sources, at_once)
    every = [row[1] for row in life if row[0] == "operation" and row[2] is None]
    rare = set(every[trails.LANES_MAX :])
    known = [row[:4] for row in life if row[2] is not None and not (row[0] == "operation" and row[1] in rare)]
    if is_all:
        return known
    tops = ends_of(await list_values(view, sources, at_once=at_once), trails.FEW)
    courses = [
        _course(view, sources, column, values)
        for column, values in tops.items()
        if column not in trails.KIND_COLUMNS and not _is_said(view, column, values)
    ]
    return known + [row for rows in await asyncio.gather(*courses) for row in rows]


def ends_of(rows: Iterable[Row], most: int) -> dict[str, list[str]]:
    """Of each column the `most` frequent and as many of the rarest, of rows as `list_values` has them."""
    found: dict[str, list[str]] = defaultdict(list)
    for column, value, *_ in sorted(rows, key=lambda row: (str(row[0]).startswith(trails.RARE), -row[2])):
        found[column.removeprefix(trails.RARE)].append(value)
    return {
        column: values if len(values) <= 2 * most else [*values[:most], *values[-most:]]
        for column, values in found.items()
    }


async def list_whole(view: View, sources: Sources, column: str, *, at_once: int = AT_ONCE_MAX) -> list[Row]:
    """The same of all values of a column, up to `MANY` of the most frequent and of the rarest."""
    values = ends_of(await list_values(view, sources, at_once=at_once), trails.MANY).get(column, [])
    if not view.mentions:
        return await _course(view, sources, column, values)
    course = trails.course(column, names_of(view))
    return await sources.ask(view, course, tops=values, **bound_of(view))


async def list_course(
    view: View, sources: Sources, operations: Sequence[str], *, at_once: int = AT_ONCE_MAX
) -> list[Row]:
    """The same of these operations."""
    if not view.mentions:
        life, _ = await _life(view, sources, at_once)
        known = [row[:4] for row in life if row[0] == "operation" and row[2] is not None]
        if {row[1] for row in known} >= set(operations):
            return [row for row in known if row[1] in operations]
    course = trails.course("operation", names_of(view))
    return await sources.ask(view, course, tops=list(operations), **bound_of(view))


async def _life(view: View, sources: Sources, at_once: int) -> tuple[list[Row], bool]:
    """All of it from one look, if there are at most so many records; if there are more, its kinds alone."""
    if _has_all_together(view, at_once):
        return await sources.ask(view, trails.LIFE), True
    kinds = await sources.ask(view, trails.KIND_LIFE)
    if any(row[0] is None and row[3] > at_once for row in kinds):
        return kinds, False
    return await sources.ask(view, trails.LIFE), True


def _has_all_together(view: View, at_once: int) -> bool:
    """Whether one look tells everything soon, however much it is: what is sorted by person has all of one."""
    return bool("user_id" in view.narrowing.named_columns and at_once)


def _is_said(view: View, column: str, values: Sequence[str]) -> bool:
    """Whether the view is about the only value that there is: its course is that of everything."""
    return len(values) == 1 and _is_narrowed(view, column)


def _is_narrowed(view: View, column: str) -> bool:
    return bool(view.narrowing.of(_NAMED.get(column, "")))


async def _course(view: View, sources: Sources, column: str, tops: list[str]) -> list[Row]:
    dimension = trails.DIMENSION_OF.get(column)
    if dimension is None or any(is_pattern(dimension, one) for one in tops):
        return await sources.ask(view, trails.course(column), tops=tops)
    return await sources.ask(view.narrowed(dimension, tops), trails.COURSES[column])
