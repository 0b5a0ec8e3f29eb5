"""Records one by one: the evidence of an alert, and what somebody or something did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.aggregates import count_if
from m365watch.lake.rollups.facts import TRACES
from m365watch.lake.search.filter_sql import ABOUT, mention_sql, shown_mention_sql

TRAIL_MAX = 200
"""Records of one sheet."""
SHEETS_MAX = 10
FAILED = count_if("outcome = 'failed'")
_SHOWN = "record, at_s, workload, operation, user_id, client_ip, outcome, object"
_TOLD = f"{_SHOWN}, session, app_id"


def traces(sql: str, *, newest: int = 0, every: str = "") -> Query:
    """A query over records."""
    return Query(sql, of=TRACES, exact=True, newest=newest, every=every)


BY_ID = traces(
    f"SELECT {_TOLD}, tenant_id, raw FROM facts WHERE record IN (SELECT unnest($ids))"
    " ORDER BY at_s, record LIMIT 200"
)
"""The records of these ids."""
KINDS = traces(
    "SELECT tenant_id, record, workload, record_type, operation, user_type, outcome FROM facts"
    " WHERE record IN (SELECT unnest($ids))"
)
"""What the records of these ids are."""
_COLUMNS = ("workload", "operation", "user_id", "client_ip", "app_id", "session")
LANES_MAX = 8
"""Workloads and operations that have a lane: the most frequent."""
FEW = 6
"""So many of the most frequent, and of the rarest, of what else has a value: intruders come once."""
MANY = 50
"""The same where all of one column are asked for."""
OPERATIONS_MAX = 100
"""Operations whose courses one look tells: what is rare of them is what stands out."""
RAREST_MAX = 16
"""The rarest of them, where there are too many records for one look at all of it."""
VALUES_MAX = 1_500
"""Values of one column that two periods are compared by."""
SHOWN = "shown "
"""What stands before a kind of mention that is looked for in what is shown to whoever sees no contents."""
_MENTIONS = {
    **{
        one: mention_sql(one, value=f"${one}", made={"object": "object", "session": "session"})
        for one in ABOUT
    },
    "text": "(contains(lower(raw), $text) OR contains(lower(raw), $escaped))",
    **{f"{SHOWN}{one}": shown_mention_sql(one, value=f"${one}") for one in ABOUT},
}
"""Records that something is in which has no column of its own, or not in all kinds of records."""


def _where(mentions: Iterable[str]) -> str:
    return " AND ".join(_MENTIONS[one] for one in mentions) or "true"


def _long(mentions: Iterable[str], *, times: str) -> str:
    """A row for each value of each column: name, value, t, n."""
    pairs = ", ".join(f"{{'name': '{one}', 'value': {one}}}" for one in _COLUMNS)
    return (
        f"WITH alike AS (SELECT {times} AS t, {', '.join(_COLUMNS)}, sum(n) AS n, min(at_s) AS first_at"
        f" FROM facts WHERE {_where(mentions)} GROUP BY ALL),"
        f" pairs AS (SELECT t, unnest([{pairs}], recursive := true), n, first_at FROM alike),"
        " long AS (SELECT name, value, t, sum(n) AS n, min(first_at) AS first_at FROM pairs"
        " WHERE value <> '' GROUP BY ALL)"
    )


DIMENSION_OF = {"user_id": "user", "client_ip": "ip", "app_id": "app"}
"""The name in a URL of the columns that a view is narrowed by to see the course of their values."""


def _name_of(columns: Iterable[str]) -> str:
    """Of a row of grouping sets, by which of the columns it is grouped."""
    return "CASE " + " ".join(f"WHEN grouping({one}) = 0 THEN '{one}'" for one in columns) + " END"


_PLACE = "row_number() OVER (PARTITION BY name ORDER BY count DESC, first_at, value) AS place"
"""The last places have what is rarest, and of that what came last."""
_NUMBER = "count(*) OVER (PARTITION BY name) AS number"
RARE = "rare "
"""What stands before the name of a column with values beyond `VALUES_MAX`, of which the rarest are told."""


_MOST, _LEAST = "count DESC, first_at, value", "count, first_at DESC, value DESC"
"""What is put first: what is most frequent, and what is rarest, the other way round."""


def _values_of(columns: Sequence[str]) -> Query:
    sets = ", ".join(f"({one})" for one in columns)
    return Query(
        f"WITH sets AS (SELECT {_name_of(columns)} AS name, coalesce({', '.join(columns)}) AS value,"
        f" sum(n) AS count, min(at_s) AS first_at FROM facts GROUP BY GROUPING SETS ({sets})),"
        f" placed AS (SELECT *, {_PLACE}, {_NUMBER} FROM sets WHERE value <> '')"
        f" SELECT CASE WHEN place > {VALUES_MAX} THEN '{RARE}' || name ELSE name END, value,"
        " CAST(count AS BIGINT), number FROM placed"
        f" WHERE place <= {VALUES_MAX} OR place > number - {FEW} ORDER BY name, place"
    )


def _values_of_one(column: str) -> Query:
    """The same of one column, both ends of which are found without putting all of it in order."""
    return Query(
        f"WITH sets AS MATERIALIZED (SELECT {column} AS value, CAST(sum(n) AS BIGINT) AS count,"
        f" min(at_s) AS first_at FROM facts WHERE {column} <> '' GROUP BY {column}),"
        " counted AS (SELECT count(*) AS number FROM sets),"
        f" rarest AS (SELECT *, row_number() OVER (ORDER BY {_LEAST}) AS place"
        f" FROM (SELECT * FROM sets ORDER BY {_LEAST} LIMIT {FEW})),"
        f" ends AS ((SELECT '{column}' AS name, * FROM sets ORDER BY {_MOST} LIMIT {VALUES_MAX})"
        f" UNION ALL SELECT '{RARE}{column}', value, count, first_at FROM rarest, counted"
        f" WHERE place <= number - {VALUES_MAX})"
        f" SELECT name, value, count, number FROM ends, counted ORDER BY name <> '{column}', {_MOST}"
    )


KIND_COLUMNS = ("workload", "operation")
NAMED_COLUMNS = ("user_id", "client_ip", "app_id", "session")
VALUES = {one: _values_of_one(one) for one in ("operation", *NAMED_COLUMNS)}
"""Column, value, count, how many values the column has; the most frequent first, the `RARE` at the end."""
VALUES_TOGETHER = _values_of(NAMED_COLUMNS)
"""All of these from one look, for what is sorted by what a view is narrowed by."""
COMPARED = ("operation", "client_ip", "app_id", "user_id")
"""By what two periods are compared."""
COMPARED_TOGETHER = _values_of(COMPARED[1:])
"""`VALUES_TOGETHER` of these columns alone: sessions are half of what it costs."""


_IS_SHOWN = (
    f"(name IN {KIND_COLUMNS} AND place <= {LANES_MAX})"
    f" OR (name NOT IN {KIND_COLUMNS} AND (place <= {FEW} OR place > number - {FEW}))"
)


def _life_of(columns: Sequence[str], *, also: str) -> Query:
    """Everything about some columns from one look, with the courses of the operations that `also` names."""
    at_times = ", ".join(f"({one}), ({one}, t)" for one in columns)
    return Query(
        f"WITH alike AS (SELECT at_s // $lane_s * $lane_s AS t, {', '.join(columns)}, outcome, sum(n) AS n,"
        " min(at_s) AS first_at, max(last_s) AS last_at FROM facts GROUP BY ALL),"
        f" sets AS MATERIALIZED (SELECT {_name_of(columns)} AS name,"
        f" coalesce({', '.join(columns)}) AS value, t, grouping(t) AS is_whole,"
        f" coalesce(sum(n), 0) AS count, {FAILED} AS failed,"
        " min(first_at) AS first_at, max(last_at) AS last_at"
        f" FROM alike GROUP BY GROUPING SETS ((), {at_times})),"
        f" placed AS (SELECT *, {_PLACE}, {_NUMBER} FROM sets WHERE is_whole = 1 AND value <> ''),"
        f" tops AS (SELECT name, value FROM placed WHERE {_IS_SHOWN}"
        f" OR (name = 'operation' AND {also})),"
        " told AS (SELECT name, value, t, count, failed, first_at, last_at, 0 AS number, 0 AS place"
        " FROM sets SEMI JOIN tops USING (name, value) WHERE is_whole = 0"
        " UNION ALL SELECT name, value, NULL, count, failed, first_at, last_at, 0, 0 FROM sets"
        " WHERE is_whole = 1 AND name IS NULL UNION ALL"
        " SELECT name, value, NULL, count, failed, first_at, last_at, number, place FROM placed)"
        " SELECT name, value, t, CAST(count AS BIGINT), failed, first_at, last_at, number FROM told"
        f" WHERE place <= {VALUES_MAX} ORDER BY place, name"
    )


LIFE = _life_of(_COLUMNS, also=f"place <= {OPERATIONS_MAX}")
"""Column, value, instant, count, failures, first and last instant, how many values there are, from one look:
the totals have no column, what is of a value as a whole no instant; the rest are courses of the most frequent
values, and of operations up to `OPERATIONS_MAX`."""
KIND_LIFE = _life_of(KIND_COLUMNS, also=f"place > number - {RAREST_MAX}")
"""The same of workloads and operations, which few values tell apart, and which small rollups have; the
courses are those of the most frequent values, and of the rarest operations."""


def _course_sql(column: str, where: str) -> str:
    return (
        f"SELECT '{column}', {column}, at_s // $lane_s * $lane_s, CAST(sum(n) AS BIGINT) FROM facts"
        f" WHERE {where} GROUP BY ALL"
    )


def course(column: str, mentions: Sequence[str] = ()) -> Query:
    """Name of a column of ours, value, instant, count."""
    sql = _course_sql(column, f"{column} IN (SELECT unnest($tops)) AND {_where(mentions)}")
    return traces(sql) if mentions else Query(sql)


COURSES = {one: Query(_course_sql(one, "true")) for one in DIMENSION_OF}
"""The same where the view is narrowed to the values: then nobody has to look for them once more."""


def lanes(mentions: Iterable[str]) -> Query:
    """Name of the column, value, instant, count: of each column the most frequent values and the rarest."""
    return traces(
        _long(mentions, times="at_s // $lane_s * $lane_s")
        + ", sums AS (SELECT name, value, sum(n) AS count, min(first_at) AS first_at FROM long"
        f" GROUP BY name, value), placed AS (SELECT *, {_PLACE}, {_NUMBER} FROM sums),"
        f" tops AS (SELECT name, value FROM placed WHERE {_IS_SHOWN})"
        " SELECT name, value, t, CAST(n AS BIGINT) FROM long SEMI JOIN tops USING (name, value)"
    )


WORKLOAD_LANES = Query(
    "SELECT 'workload', workload, at_s // $lane_s * $lane_s, CAST(sum(n) AS BIGINT) FROM facts"
    " WHERE workload <> '' GROUP BY ALL",
    frozenset({"workload"}),
)
"""The same of workloads alone, where nobody is named."""


def values(mentions: Iterable[str]) -> Query:
    """Name of the column, value, count, first and last instant."""
    return traces(
        _long(mentions, times="at_s")
        + " SELECT name, value, CAST(sum(n) AS BIGINT), min(t), max(t) FROM long GROUP BY name, value"
        " QUALIFY row_number() OVER (PARTITION BY name ORDER BY sum(n) DESC, min(first_at), value)"
        f" <= {VALUES_MAX}"
    )


def figures(mentions: Iterable[str]) -> Query:
    """Records, failures, people, addresses, applications, sessions, first and last instant."""
    return traces(
        f"SELECT CAST(coalesce(sum(n), 0) AS BIGINT), {FAILED},"
        " count(DISTINCT nullif(user_id, '')), count(DISTINCT nullif(client_ip, '')),"
        " count(DISTINCT nullif(app_id, '')), count(DISTINCT nullif(session, '')), min(at_s), max(at_s)"
        f" FROM facts WHERE {_where(mentions)}"
    )


def trail(mentions: Sequence[str], *, sheets: int = 1) -> Query:
    """The newest records: so many sheets of them, and one more if there are more."""
    most = sheets * TRAIL_MAX + 1
    return traces(
        f"SELECT {_SHOWN} FROM facts WHERE {_where(mentions)} ORDER BY at_s DESC, record LIMIT {most}",
        newest=most,
        every="" if mentions else "true",
    )
