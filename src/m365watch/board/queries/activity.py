"""What happened: counts of records by time, workload, operation and person."""

from __future__ import annotations

from m365watch.board.lake_reader import Query

PEOPLE = "user_id LIKE '%@%'"
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
_STEP = "at_s // $step_s * $step_s"


def over_time(column: str) -> Query:
    """Instant, value of the column, count. `column` is a name of ours."""
    return Query(
        f"SELECT {_STEP} AS t, CAST({column} AS VARCHAR), CAST(sum(n) AS BIGINT) FROM facts GROUP BY ALL",
        frozenset({column}),
    )


def share_of(column: str) -> Query:
    """Value of the column, count; the most frequent first."""
    return Query(
        f"SELECT {column}, CAST(sum(n) AS BIGINT) AS number FROM facts"
        " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 100",
        frozenset({column}),
    )


TOTAL = Query("SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM facts")
SPARK = Query("SELECT '', at_s // $spark_s * $spark_s, CAST(sum(n) AS BIGINT) FROM facts GROUP BY ALL")
FAILED_SIGN_INS = Query(
    "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM facts WHERE lower(operation) = 'userloginfailed'",
    frozenset({"operation"}),
)
PERSONS = Query(f"SELECT count(DISTINCT user_id) FROM facts WHERE {PEOPLE}", frozenset({"user_id"}))
ADDRESSES = Query(
    "SELECT count(DISTINCT client_ip) FROM facts WHERE client_ip <> ''", frozenset({"client_ip"})
)
CHANGES_OVER_TIME = Query(
    f"SELECT {_STEP} AS t, {KIND} AS kind, CAST(sum(n) AS BIGINT) FROM facts"
    " WHERE kind IS NOT NULL GROUP BY ALL",
    frozenset({"operation"}),
)
USER_AND_GROUP_CHANGES = Query(
    "SELECT operation, CAST(sum(n) AS BIGINT) AS number FROM facts"
    " WHERE regexp_matches(lower(operation), '(user|group|member|role)')"
    f" AND workload = 'AzureActiveDirectory' AND {KIND} IS NOT NULL"
    " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 40",
    frozenset({"operation", "workload"}),
)
ADMIN_ACTIVITIES = Query(
    "SELECT operation, CAST(sum(n) AS BIGINT) AS number, count(DISTINCT user_id) FROM facts"
    " WHERE (record_type IN (1, 8, 18) OR user_type = 2)"
    " AND lower(operation) NOT IN ('userloggedin', 'userloginfailed')"
    " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 40",
    frozenset({"operation", "record_type", "user_type", "user_id"}),
)
TOP_PERSONS = Query(
    f"SELECT user_id, CAST(sum(n) AS BIGINT) AS number FROM facts WHERE {PEOPLE}"
    " GROUP BY ALL ORDER BY number DESC, user_id LIMIT 12",
    frozenset({"user_id"}),
)
DEEDS = Query(
    "SELECT user_id, at_s // $spark_s * $spark_s AS t, operation, CAST(sum(n) AS BIGINT)"
    " FROM facts GROUP BY ALL",
    frozenset({"user_id", "operation"}),
)
"""What a few people did, and when."""
RECENT = Query(
    "SELECT at_s, workload, operation, user_id, client_ip, outcome FROM facts ORDER BY at_s DESC LIMIT 100",
    frozenset({"workload", "operation", "user_id", "client_ip", "outcome"}),
    exact=True,
    newest=100,
    every="true",
)
