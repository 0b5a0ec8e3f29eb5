"""What the facts of a query are: the smallest rollups that will do, and records where none does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from m365watch.board.query.dimension_filters import (
    ANY,
    DIMENSIONS,
    NUMBERS,
    is_pattern,
    network_of,
    plain_name,
)
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import TimeRange
from m365watch.lake.rollups.facts import (
    ACTIVITY,
    DAY_S,
    HOUR_S,
    KEPT,
    RECORDS,
    SIGN_INS,
    WEEK_S,
    Rollup,
    Slice,
)
from m365watch.lake.rollups.rollup_manifest import DayRollup, monday_of, read_day, read_week
from m365watch.lake.schema import AUDIT, AUDIT_TABLE
from m365watch.lake.search.filter_sql import in_network

Spans = Sequence[tuple[int, int]]
"""Half-open spans of seconds."""
_WORD = re.compile(r"[a-z_]+")
_AT = re.compile(r"\bat_s\b")
_BOUNDS = re.compile(r"min\(at_s\)(?: AS at_s)?")
_HOURS = re.compile(r"at_s // 3600")
_STEPS = re.compile(r"at_s // \$(step|spark|lane)_s(?: \* \$\1_s)?")


@dataclass(frozen=True, slots=True)
class Query:
    """SQL over `facts`, and the columns of it that the SQL names."""

    sql: str
    needs: frozenset[str] = frozenset()
    of_sign_ins: bool = False
    """Whether the facts are sign-ins, with what only their records say."""
    of: Rollup | None = None
    """What the facts are, where the columns of the query do not say it."""
    exact: bool = False
    """Whether every record counts by itself, to the second."""
    newest: int = 0
    """So many rows are wanted, the newest first: older days are read only if newer ones have fewer."""
    every: str = ""
    """A condition over `ACTIVITY` that the newest records fulfil, and no others; empty if none can tell.

    Then only the hours are read that have such records.
    """
    sieve: Sieve | None = None
    """What counts the rows of every week and day; then only those are read that have some."""
    place: int = 0
    """Which of its counts they are."""
    only: str = "true"
    """A condition of its SQL in the words of a slice that has such facts alone."""
    is_long: bool = False
    """Whether a page would wait for it alone: over rollups it has as many threads as over records."""
    is_rough: bool = False
    """Whether any instant of a week will do for another one."""
    rows_max: int = 10_000
    """Rows that are read; what is beyond is missing without a word."""

    @property
    def rollup(self) -> Rollup:
        """What its facts are."""
        return self.of or (SIGN_INS if self.of_sign_ins else RECORDS if self.exact else ACTIVITY)

    @property
    def by_instants(self) -> Query:
        """The same of what was counted, from the instant `$since_s` on; no row where that does not tell it.

        Of two records that are counted together it does, the first and the last, and of those of one second.
        """
        whole = "(SELECT bool_and(is_told) FROM told)"
        sql = self.sql.replace("FROM facts WHERE", f"FROM single WHERE {whole} AND")
        assert sql != self.sql  # noqa: S101 - of those with `every` all have a condition
        told = ", ".join(self.rollup.columns)
        return Query(
            f"WITH told AS MATERIALIZED (SELECT at_s, last_s, n, n <= 2 OR at_s = last_s AS is_told, {told}"  # noqa: S608
            f" FROM facts WHERE {self.every} AND at_s >= $since_s), single AS"
            " (SELECT * REPLACE (CASE WHEN place = 0 THEN at_s ELSE last_s END AS at_s) FROM"
            f" (SELECT *, unnest(range(CASE WHEN is_told THEN n ELSE 0 END)) AS place FROM told)) {sql}",
            of=ACTIVITY,
        )

    def columns(self, view: View) -> tuple[str, ...]:
        """The columns that it needs in that view."""
        wanted = self.needs | _words_of(self.sql) | view.narrowing.columns | {"tenant_id"}
        return tuple(one for one in self.rollup.columns if one in wanted)

    def grain_s(self, span: TimeRange) -> int:
        """How long the spans may be whose records it does not tell apart: a week, if it asks for no time."""
        if self.exact or self.is_rough:
            return 1 if self.exact else WEEK_S
        bare = _BOUNDS.sub("", self.sql)
        if not _AT.search(bare):
            return WEEK_S
        bare = _HOURS.sub("", bare)
        steps = {getattr(span, f"{name}_s") for name in _STEPS.findall(bare)}
        if _AT.search(_STEPS.sub("", bare)) or any(one % HOUR_S for one in steps):
            return 1
        return HOUR_S if "at_s // 3600" in self.sql or any(one % DAY_S for one in steps) else DAY_S


@dataclass(frozen=True, slots=True)
class Sieve:
    """How many records fulfil which condition, week by week and day by day."""

    conditions: tuple[str, ...]
    of: Rollup
    only: str = "true"

    @property
    def query(self) -> Query:
        """Days since 1970, of which one stands for all of its week, and the counts."""
        counts = ", ".join(
            f"CAST(sum(CASE WHEN {one} THEN n ELSE 0 END) AS BIGINT)" for one in self.conditions
        )
        return Query(
            f"SELECT at_s // {DAY_S} AS day, {counts} FROM facts WHERE {self.only} GROUP BY day",  # noqa: S608
            of=self.of,
            is_rough=True,
        )

    def index(self, condition: str) -> int:
        """The place of the count."""
        return self.conditions.index(condition)


@cache
def _words_of(sql: str) -> frozenset[str]:
    return frozenset(_WORD.findall(sql))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table as it was at one version."""

    version: int
    days: Mapping[date, frozenset[str]]

    def of_days(self, days: Collection[date]) -> Snapshot:
        """The same of these days alone."""
        return Snapshot(self.version, {day: files for day, files in self.days.items() if day in days})


READ_WHOLE_S = 8 * HOUR_S
"""A day of which so much is wanted is read whole: to look at each time takes longer than it spares."""
EVERYTHING = "true"
"""The condition of a day that is read whole."""
LOOKED_FOR_MAX = 16
"""Values that are looked for twice; more than that take longer to compare than it spares."""
WITHIN = "at_s >= $start_s AND at_s < $end_s"
"""The time of a view."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Some of the facts of a query."""

    sql: str
    """What they are selected from."""
    is_inside: bool
    """Whether all of them are of the view's time: then nobody has to look at it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts of a query come from."""

    rollup: Rollup
    columns: tuple[str, ...]
    arms: tuple[Arm, ...]
    files: Mapping[str, Sequence[str]]


def plan_source(
    lake: Path, snapshot: Snapshot, view: View, query: Query, *, spans: Spans = ()
) -> Source | None:
    """Rollups as far as they serve, and the lake's own files for the rest; None where there is nothing.

    Of records by themselves only those in `spans` are read, where there are some.
    """
    rollup, columns = query.rollup, query.columns(view)
    if view.tenants == () or view.narrowing.columns - set(rollup.columns):
        return None
    serves = rollup in KEPT and (rollup.grain_s == 1 or (view.range.has_full_hours and not query.exact))
    grain_s = query.grain_s(view.range)
    by_weeks = grain_s >= WEEK_S
    cut_s = HOUR_S if view.range.has_full_hours else 1  # what of a cut day can be told apart by its time
    whole, part = (
        _smallest(rollup, view, columns, grain_s=min(grain_s, one), only=query.only) for one in (DAY_S, cut_s)
    )
    files_of: dict[str, list[str]] = {}
    within: dict[str, str] = {}
    kept: dict[date, DayRollup] = {}
    first, last = day_of(view.range.start_s), day_of(view.range.end_s - 1)
    for day, files in sorted(snapshot.days.items()):
        if not first <= day <= last:
            continue
        rolled = read_day(lake, day) if serves else None
        counted = rolled.sources if rolled is not None else frozenset[str]()
        if rolled is not None and counted <= files:
            kept[day] = rolled
        else:
            counted = frozenset()
        if plain := [str(lake / AUDIT / path) for path in sorted(files - counted)]:
            wanted = _within(day, spans, view.range)
            name = f"plain_{day:%Y%m%d}" if spans and wanted != EVERYTHING else "plain"
            within[name] = wanted
            files_of.setdefault(name, []).extend(plain)
    for name, files_kept in _files_kept(lake, view.range, kept, whole, part, by_weeks=by_weeks):
        files_of.setdefault(name, []).extend(files_kept)
    arms = [
        Arm(f"({rollup.over_records(AUDIT_TABLE.rows_in(f'${name}'), within=within[name])})", False)
        if name in within
        else Arm(f"read_parquet(${name})", name.startswith("whole"))
        for name in files_of
    ]
    return Source(rollup, columns, tuple(arms), files_of) if arms else None


def _smallest(
    rollup: Rollup, view: View, columns: Collection[str], *, grain_s: int, only: str
) -> Rollup | Slice:
    """What of a rollup is enough, and least to read: what is sorted by a value of the view comes first."""
    enough = [one for one in rollup.slices if one.grain_s <= grain_s and set(columns) <= set(one.columns)]
    if few := [one for one in enough if one.only == only != "true"]:
        return few[0]
    enough = [one for one in enough if one.only == "true"]
    named = view.narrowing.named_columns - {"workload", "outcome"}
    sorted_so = [one for one in enough if one.columns[0] in named]
    if sorted_so:
        return sorted_so[0]
    if named.intersection(rollup.order[:1]):
        return rollup
    return next(iter(sorted(enough, key=lambda one: one.is_narrowed)), rollup)


def _files_kept(
    lake: Path,
    span: TimeRange,
    kept: Mapping[date, DayRollup],
    whole: Rollup | Slice,
    part: Rollup | Slice,
    *,
    by_weeks: bool,
) -> Iterator[tuple[str, list[str]]]:
    """Names of arms and their files: of whole weeks and days, and of days that the span cuts."""
    left = dict(kept)
    if isinstance(whole, Slice) and whole.is_added_up and (by_weeks or whole.grain_s != DAY_S):
        whole_days = {day: rolled for day, rolled in kept.items() if _is_whole(day, span)}
        for monday in sorted({monday_of(day) for day in whole_days}):
            week = read_week(lake, monday)
            if week is not None and week.is_of(whole_days):
                yield f"whole_{whole.name}", [week.file(whole)]
                left = {day: rolled for day, rolled in left.items() if day not in week.days}
    for day, rolled in left.items():
        if _is_inside(day, rolled, span):
            yield f"whole_{whole.name}", rolled.files(whole)
        else:
            yield f"part_{part.name}", rolled.files(part)


def picked_days(
    snapshot: Snapshot, span: TimeRange, counts: Iterable[tuple[int, int]], *, wanted: int
) -> tuple[frozenset[date], int]:
    """The newest days that together have as many rows as are wanted, and how many these have.

    Of a week all days are taken that the span holds wholly: counts may name another one of them.
    """
    weeks: dict[date, list[date]] = {}
    for day in sorted(snapshot.days):
        weeks.setdefault(monday_of(day), []).append(day)
    found: dict[tuple[date, ...], int] = {}
    for number, count in counts:
        day = day_of(number * DAY_S)
        week = weeks.get(monday_of(day), [])
        days = tuple(one for one in week if _is_whole(one, span)) if _is_whole(day, span) else (day,)
        found[days] = found.get(days, 0) + count
    taken: set[date] = set()
    total = 0
    for days, count in sorted(found.items(), reverse=True):
        if total < wanted and count:
            total += count
            taken.update(days)
    return frozenset(taken), total


def _is_inside(day: date, rolled: DayRollup, span: TimeRange) -> bool:
    """Whether all its records are of the span; today's are of one that ends now."""
    is_from_its_start = day_of(span.start_s - 1) < day
    return _is_whole(day, span) or (is_from_its_start and 0 < rolled.until_s <= span.end_s)


def _is_whole(day: date, span: TimeRange) -> bool:
    start_s = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    return span.start_s <= start_s and start_s + DAY_S <= span.end_s


def _within(day: date, spans: Spans, span: TimeRange) -> str:
    """The condition of a day's records: where many spans are read, each day has its own short one.

    All days that are read whole are one arm: the threads of a query share the files of an arm, and no arms.
    """
    of_day = [one for one in spans if day_of(one[0]) <= day <= day_of(one[1] - 1)]
    is_oldest = bool(of_day) and of_day[0] == spans[0]  # of it there may be more, which nobody wants
    if not is_oldest and sum(end_s - start_s for start_s, end_s in of_day) >= READ_WHOLE_S:
        return EVERYTHING
    return within_sql(of_day or [(span.start_s, span.end_s)])


def within_sql(spans: Spans) -> str:
    """Whether a record can be of these spans, in words by which whole parts of files are passed over."""
    parts = [
        f"(created_at >= to_timestamp({int(start_s)}) AND created_at < to_timestamp({int(end_s)}))"
        for start_s, end_s in spans
    ]
    return f"({' OR '.join([*parts, 'created_at IS NULL'])})"


def joined(hours: Collection[int]) -> list[tuple[int, int]]:
    """The spans of these hours since 1970, neighbours in one."""
    spans: list[tuple[int, int]] = []
    for hour in sorted(hours):
        start_s = hour * HOUR_S
        if spans and spans[-1][1] == start_s:
            start_s = spans.pop()[0]
        spans.append((start_s, (hour + 1) * HOUR_S))
    return spans


def condition_of(view: View, rollup: Rollup) -> tuple[str, dict[str, object]]:
    """The tenants and the narrowing of a view as a condition, and the values bound in it."""
    parts = ["true"]
    bound: dict[str, object] = {}
    wanted = {name: values for name, values in view.narrowing.values.items() if name != "tenant"}
    if view.tenants is not None:
        wanted["tenant"] = view.tenants
    for name, values in wanted.items():
        plain = plain_name(name)
        column = DIMENSIONS[plain]
        assert column in rollup.columns  # noqa: S101 - the source was chosen for it
        wholes = {
            f"{name.replace('-', '_')}_{place}": int(value) if plain in NUMBERS else value
            for place, value in enumerate(values)
            if not is_pattern(name, value)
        }
        tests = [_one_of(column, wholes)] if wholes else []
        bound |= wholes
        for place, value in enumerate(values):
            if (network := network_of(name, value)) is not None:
                tests.append(in_network(column, network))
            elif is_pattern(name, value):
                bound_as = f"{name.replace('-', '_')}_{place}"
                tests.append(f"{column} ILIKE ${bound_as} ESCAPE '!'")
                bound[bound_as] = _like(value)
        one_of = f"({' OR '.join(tests)})"
        parts.append(one_of if name == plain else f"NOT coalesce({one_of}, false)")
    return " AND ".join(parts), bound


def _one_of(column: str, names: Collection[str]) -> str:
    """Whether it is one of the values bound by these names.

    DuckDB passes over parts of files by a list, but looks for its values only when all columns of a row are
    read; within another expression it looks first, and reads of other columns what is left: a third less.
    """
    whole = f"{column} IN ({', '.join(f'${one}' for one in names)})"
    return f"({whole} AND coalesce({whole}, false))" if 1 < len(names) <= LOOKED_FOR_MAX else whole


def _like(value: str) -> str:
    """The value, in which `*` stands for anything, as LIKE has it."""
    for special in "!%_":
        value = value.replace(special, f"!{special}")
    return value.replace(ANY, "%")


def day_of(seconds: int) -> date:
    """The day of an instant, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).date()
