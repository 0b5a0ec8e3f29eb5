"""Records one by one: the evidence of an alert, and what somebody or something did."""

from __future__ import annotations

from m365watch.board.lake_reader import Query
from m365watch.lake.rollups.facts import TRACES

_TOLD = "record, at_s, workload, operation, user_id, client_ip, outcome, object, session, app_id"


def traces(sql: str, *, newest: int = 0) -> Query:
    """A query over records."""
    return Query(sql, of=TRACES, exact=True, newest=newest)


BY_ID = traces(
    f"SELECT {_TOLD}, tenant_id, raw FROM facts WHERE record IN (SELECT unnest($ids))"
    " ORDER BY at_s, record LIMIT 200"
)
"""The records of these ids."""
