"""What somebody looks at: times and filters, and the values of the lake that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import duckdb

from benchmarks.board_lake import BoardLake

SPANS = {"24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
_ORDINARY = (
    "SELECT value FROM (SELECT lower({column}) AS value, count(*) AS n FROM read_parquet($files)"
    " WHERE {where} GROUP BY ALL) ORDER BY n DESC, value LIMIT 1 OFFSET {place}"
)


@dataclass(frozen=True, slots=True)
class Values:
    """Values of the lake's last full day: busy ones, ordinary ones and rare ones."""

    user: str
    busy_user: str
    address: str
    busy_address: str
    app: str
    operation: str
    rare_operation: str
    record: str
    """Second and id of a record."""


def find_values(lake: Path) -> Values:
    """What is looked for, found in the files of one day."""
    days = sorted((lake / "audit").glob("day=*"))
    files = [str(path) for path in days[-2].glob("*.parquet")]
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:

        def value(column: str, place: str, where: str = "true") -> str:
            sql = _ORDINARY.format(column=column, where=where, place=place)
            rows = connection.execute(sql, {"files": files}).fetchall()
            return str(rows[0][0])

        people = "contains(user_id, '@')"
        half = "(SELECT count(DISTINCT lower({0})) // 2 FROM read_parquet($files) WHERE {1})".format
        operations = "(SELECT count(DISTINCT lower(operation)) - 1 FROM read_parquet($files))"
        at, record = connection.execute(
            "SELECT epoch_us(created_at) // 1000000, id FROM read_parquet($files)"
            " WHERE workload = 'Exchange' LIMIT 1",
            {"files": files},
        ).fetchall()[0]
        by_case = {
            str(one).lower(): str(one)
            for (one,) in connection.execute(
                "SELECT DISTINCT operation FROM read_parquet($files)", {"files": files}
            ).fetchall()
        }
        return Values(
            user=value("user_id", half("user_id", people), people),
            busy_user=value("user_id", "0", people),
            address=value("client_ip", half("client_ip", "client_ip <> ''"), "client_ip <> ''"),
            busy_address=value("client_ip", "0", "client_ip <> ''"),
            app=value("app_id", "0", "app_id <> ''"),
            operation=by_case[value("operation", "2")],
            rare_operation=by_case[value("operation", operations)],
            record=f"{at}:{record}",
        )


def filters(values: Values) -> list[Mapping[str, str]]:
    """What views are narrowed to: nothing, what rollups have as a column, and what few or none have."""
    return [
        {},
        {"workload": "Exchange"},
        {"result": "failed"},
        {"operation": values.operation},
        {"operation": values.rare_operation},
        {"user": values.user},
        {"user": values.busy_user},
        {"ip": values.address},
        {"ip": values.busy_address},
        {"app": values.app},
        {"user": values.user, "ip": values.address, "result": "ok"},
        {"user": values.user, "app": values.app, "workload": "SharePoint"},
    ]


def queries(lake: BoardLake, narrowed: list[Mapping[str, str]]) -> Iterator[str]:
    """The queries of the URLs of all views; each has a time that none before it had."""
    shift_s = 0
    for narrowing in narrowed:
        for span_s in SPANS.values():
            end_s = lake.end_s - shift_s
            start_s = max(end_s - span_s, lake.start_s)
            yield urlencode({"from": instant(start_s), "to": instant(end_s), **narrowing})
            shift_s = (shift_s + 3_600) % 43_200


def instant(seconds: int) -> str:
    """An instant as URLs have it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}"
