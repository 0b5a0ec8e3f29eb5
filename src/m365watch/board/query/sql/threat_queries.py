"""Mail threats, DLP, Microsoft's alerts, compliance, Teams and AI: verdicts and changes one by one."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query, Sieve
from m365watch.board.query.sql.aggregates import COUNT, newest_of
from m365watch.lake.rollups.facts import CHANGES

IS_MAIL = "record_type = 28"
IS_CLICK = "record_type = 41"
IS_CLEANUP = "record_type IN (29, 41, 47, 64, 65)"
IS_DLP = "record_type IN (11, 13, 33, 63)"
IS_ALERT = "record_type IN (40, 98)"
IS_COMPLIANCE = (
    "(record_type IN (18, 24, 31, 295, 296, 297) OR (record_type = 1"
    " AND regexp_matches(lower(operation), 'adminauditlog|auditbypass|unifiedaudit|organizationconfig')))"
)
IS_TEAMS = "record_type = 25"
IS_FLOW = "record_type = 30"
IS_COPILOT = "record_type = 261"
_SENSITIVE = f"{IS_COPILOT} AND sensitive"
FIGURES = (IS_MAIL, IS_CLICK, IS_DLP, IS_ALERT, IS_COMPLIANCE, IS_TEAMS, IS_COPILOT)
COUNTS = Sieve((*FIGURES, IS_CLEANUP, IS_FLOW, _SENSITIVE), of=CHANGES)
"""How many there are of everything that the page shows."""


def told(condition: str) -> Query:
    """Records that fulfil a condition of `COUNTS`, with their own text, the newest first."""
    return newest_of(condition, COUNTS, "workload", most=100)


def most(value: str, condition: str) -> Query:
    """Value of a column of ours, times; the most frequent first."""
    return Query(
        f"SELECT {value} AS value, {COUNT} AS number FROM facts WHERE {condition}"
        " GROUP BY ALL HAVING value <> '' ORDER BY number DESC, 1 LIMIT 10",
        of=CHANGES,
    )


MAIL = told(IS_MAIL)
CLEANUP = told(IS_CLEANUP)
DLP = told(IS_DLP)
ALERTS = told(IS_ALERT)
COMPLIANCE = told(IS_COMPLIANCE)
TEAMS = told(IS_TEAMS)
FLOWS = told(IS_FLOW)
COPILOT = told(_SENSITIVE)
MAIL_BY_ACTION = most("verdict", IS_MAIL)
MAIL_BY_SENDER = most("sender", IS_MAIL)
MAIL_BY_RECIPIENT = most("recipient", IS_MAIL)
COPILOT_BY_HOST = most("host", IS_COPILOT)
COPILOT_BY_USER = most("user_id", IS_COPILOT)
