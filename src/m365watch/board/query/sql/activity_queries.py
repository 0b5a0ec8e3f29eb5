"""What happened: counts of records by time, workload, operation and person."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.aggregates import COUNT, STEP, STEPS_ROWS_MAX
from m365watch.lake.rollups.facts import DAY_S, IS_ADMINISTRATION

VALUES_MAX = 12


def values_of(column: str) -> Query:
    """Value and count of those that hold what was typed, and of those that are called so in words."""
    text = f"CAST({column} AS VARCHAR)"
    return Query(
        f"SELECT {column}, CAST(sum(n) AS BIGINT) FROM facts"
        f" WHERE (contains(lower({text}), $typed) OR list_contains($named, lower({text}))) AND {text} <> ''"
        f" GROUP BY 1 ORDER BY starts_with(lower({text}), $typed) DESC, 2 DESC, 1"
        f" LIMIT {VALUES_MAX}",
        frozenset({column}),
    )


PEOPLE = r"(contains(user_id, '@') OR (contains(user_id, '\') AND NOT starts_with(user_id, 'nt ')))"
"""ann@contoso.example, or contoso\\ann; neither a service of Windows (NT AUTHORITY\\SYSTEM) nor an id."""
CHANGES = {
    "added": r"'\badd|^new-|created|^enable-|uploaded|invite'",
    "changed": r"'update|^set-|modified|changed|renamed|reset|moved'",
    "removed": r"'delete|^remove-|^disable-|recycled'",
}
"""What an operation's name says of its kind, in DuckDB's regular expressions; the first that fits counts."""
KIND = (
    "CASE "
    + " ".join(f"WHEN regexp_matches(lower(operation), {one}) THEN '{kind}'" for kind, one in CHANGES.items())
    + " END"
)


def over_time(column: str) -> Query:
    """Instant, value of the column, count. `column` is a name of ours."""
    return Query(
        f"SELECT {STEP} AS t, CAST({column} AS VARCHAR), {COUNT} FROM facts GROUP BY ALL",
        frozenset({column}),
        rows_max=STEPS_ROWS_MAX,
    )


def share_of(column: str) -> Query:
    """Value of the column, count; the most frequent first."""
    return Query(
        f"SELECT {column}, {COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 100",
        frozenset({column}),
    )


TOTAL = Query("SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM facts")
DAYS = Query(f"SELECT at_s // 3600 // 24 * {DAY_S}, {COUNT} FROM facts GROUP BY ALL")
"""The midnight that a day begins with, count; told by hours, which has small rollups."""
SPARK = Query(f"SELECT '', at_s // $spark_s * $spark_s, {COUNT} FROM facts GROUP BY ALL")
ADDRESSES = Query(
    "SELECT count(DISTINCT client_ip) FROM facts WHERE client_ip <> ''", frozenset({"client_ip"})
)
CHANGES_OVER_TIME = Query(
    f"WITH named AS (SELECT {STEP} AS t, operation, sum(n) AS n FROM facts GROUP BY ALL)"
    f" SELECT t, {KIND} AS kind, {COUNT} FROM named WHERE kind IS NOT NULL GROUP BY ALL",
    frozenset({"operation"}),
)
"""Instant, kind, count; names are judged once for a step of the chart, and not once for each fact."""
_OF_ACCOUNTS = (
    "workload = 'AzureActiveDirectory' AND regexp_matches(lower(operation), '(user|group|member|role)')"
    f" AND {KIND} IS NOT NULL"
)


def _part(name: str, value: str, *, only: str = "true") -> str:
    return f"SELECT '{name}' AS part, {value} AS name, sum(n) AS number FROM kinds WHERE {only} GROUP BY ALL"


_PARTS = " UNION ALL ".join(
    (
        *(_part(one, f"CAST({one} AS VARCHAR)") for one in ("workload", "record_type", "user_type")),
        _part("total", "''"),
        _part("accounts", "operation", only=_OF_ACCOUNTS),
    )
)
SUMS = Query(
    "WITH kinds AS MATERIALIZED (SELECT workload, record_type, user_type, operation, sum(n) AS n FROM facts"
    f" GROUP BY ALL), parts AS ({_PARTS}), placed AS (SELECT *,"
    " row_number() OVER (PARTITION BY part ORDER BY number DESC, name NULLS LAST) AS place FROM parts"
    " WHERE number IS NOT NULL)"
    " SELECT part, name, CAST(number AS BIGINT) FROM placed WHERE place <= 100 ORDER BY part, place",
    frozenset({"workload", "record_type", "user_type", "operation"}),
)
"""Name of a part, value, count: what there is by workload, record type and user type, how much altogether,
how many sign-ins failed, and which changes of users and groups there were; all from one look."""
BY_SOMEBODY = "coalesce(user_type, 0) NOT IN (3, 4)"
"""Microsoft's own administrators and services do so much that they hide what an organisation's people do."""
_BY_ANYBODY = "true"


def _admin_activities(who: str) -> Query:
    return Query(
        f"SELECT operation, {COUNT} AS number, count(DISTINCT user_id), count(*) OVER () FROM facts"
        f" WHERE {IS_ADMINISTRATION} AND {who}"
        " GROUP BY operation ORDER BY number DESC, 1 LIMIT 100",
        frozenset({"operation", "record_type", "user_type", "user_id"}),
        only=IS_ADMINISTRATION,
    )


ADMIN_ACTIVITIES = _admin_activities(BY_SOMEBODY)
ADMIN_ACTIVITIES_OF_ALL = _admin_activities(_BY_ANYBODY)
"""Operation, records, users; and how many operations there are, which may be more than are listed."""
TOP_PERSONS = Query(
    f"WITH persons AS (SELECT user_id, {COUNT} AS number FROM facts WHERE {PEOPLE} GROUP BY ALL)"
    " SELECT user_id, number, count(*) OVER () FROM persons ORDER BY number DESC, user_id LIMIT 12",
    frozenset({"user_id"}),
)
"""Who did most, how much, and how many people did anything."""
DEEDS = Query(
    "WITH deeds AS (SELECT user_id, at_s // $spark_s * $spark_s AS t, operation, sum(n) AS n FROM facts"
    f" GROUP BY ALL) SELECT user_id, t, coalesce(operation, ''), {COUNT} FROM deeds"
    " GROUP BY GROUPING SETS ((user_id, t), (user_id, operation))",
    frozenset({"user_id", "operation"}),
    is_long=True,
)
"""What a few people did, and when: person and instant, or person and operation (then no instant), count."""


def _recent(who: str) -> Query:
    return Query(
        "SELECT at_s, workload, operation, user_id, client_ip, outcome FROM facts"
        f" WHERE {who}"
        " ORDER BY at_s DESC, user_id, operation, client_ip, workload, outcome LIMIT 100",
        frozenset({"workload", "operation", "user_id", "client_ip", "outcome"}),
        exact=True,
        newest=100,
        every=who,
    )


RECENT = _recent(BY_SOMEBODY)
RECENT_OF_ALL = _recent(_BY_ANYBODY)
