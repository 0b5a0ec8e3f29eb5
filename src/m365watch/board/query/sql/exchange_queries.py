"""Exchange: what administrators and owners change, and who reads whose mail."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query, Sieve
from m365watch.board.query.sql.aggregates import (
    COUNT,
    STEP,
    STEPS_ROWS_MAX,
    changes_of,
    count_if,
    has_word,
    marked,
    most_by,
    most_by_pairs,
)
from m365watch.lake.rollups.facts import CHANGES, IS_DELETION, IS_FOREIGN, MAILBOXES

BY_PEOPLE = "workload = 'Exchange' AND coalesce(user_type, 0) NOT IN (3, 4)"
"""Microsoft's own administrators and services change hundreds of settings a day; they are left out."""
IS_RULE = has_word("inboxrule", "sweeprule")
IS_FORWARDING = (
    "(lower(operation) IN ('set-mailbox', 'set-remotedomain', 'set-hostedoutboundspamfilterpolicy')"
    " AND forwards)"
)
IS_FLOW = has_word("transportrule", "connector", "journalrule", "remotedomain", "accepteddomain")
IS_PERMISSION = has_word(
    *("mailboxpermission", "recipientpermission", "folderpermission", "managementroleassignment"),
    "mailboxauditbypass",
)
FIGURES = (IS_RULE, IS_FORWARDING, IS_FLOW, IS_PERMISSION)
COUNTS = Sieve((*FIGURES, *map(marked, FIGURES)), of=CHANGES, only=BY_PEOPLE)
"""How many changes of each kind there are, and how many of them stand out."""


def mailboxes(sql: str, *, only: str = "true") -> Query:
    """A query over what was done in mailboxes."""
    return Query(sql, of=MAILBOXES, only=only)


RULES, FORWARDING, FLOW, PERMISSIONS = (changes_of(one, COUNTS, "tenant_id") for one in FIGURES)
_READ = "starts_with(lower(operation), 'mailitemsaccessed')"
_THROTTLED = "throttled = 'true'"
_SYNCED = f"{_READ} AND access = 'Sync'"
MAILBOX_FIGURES = mailboxes(
    f"SELECT {', '.join(map(count_if, (IS_FOREIGN, IS_DELETION, _SYNCED, _THROTTLED)))} FROM facts"
)
ACTIVITY = Query(
    f"SELECT {STEP} AS t, operation, {COUNT} FROM facts WHERE {BY_PEOPLE} GROUP BY ALL",
    frozenset({"operation", "workload", "user_type"}),
    rows_max=STEPS_ROWS_MAX,
)
ACTIVITY_BY_USER_TYPE = Query(
    f"SELECT {STEP} AS t, CAST(coalesce(user_type, -1) AS VARCHAR), {COUNT} FROM facts"
    " WHERE workload = 'Exchange' GROUP BY ALL",
    frozenset({"workload", "user_type"}),
)
ADMINISTRATION = Query(
    f"SELECT operation, {COUNT} AS number, count(DISTINCT user_id) FROM facts"
    f" WHERE {BY_PEOPLE} AND record_type = 1 GROUP BY ALL ORDER BY number DESC, 1 LIMIT 10",
    of=CHANGES,
)
FOREIGN = mailboxes(
    f"SELECT mailbox, user_id, client_ip, operation, program, max(logon), {COUNT} AS number, max(last_s)"
    f" FROM facts WHERE {IS_FOREIGN} GROUP BY mailbox, user_id, client_ip, operation, program"
    " ORDER BY max(last_s) DESC, number DESC LIMIT 100",
    only=IS_FOREIGN,
)
READING = mailboxes(
    f"SELECT {STEP} AS t, CASE WHEN throttled = 'true' THEN 'throttled' WHEN access = '' THEN 'not said'"
    f" ELSE lower(access) END, {COUNT} FROM facts WHERE {_READ} GROUP BY ALL"
)


_SYNC = count_if("access = 'Sync'")
DELETING = mailboxes(
    f"SELECT user_id, {COUNT} AS number, count(DISTINCT mailbox), max(last_s) FROM facts"
    f" WHERE {IS_DELETION} GROUP BY ALL ORDER BY number DESC, 1 LIMIT 10",
    only=IS_DELETION,
)


_READ_SUMS = {"number": COUNT, "synced": _SYNC}
READ_FROM = mailboxes(most_by_pairs(("client_ip",), _READ_SUMS, order=("number",), most=10, only="is_read"))
READ_WITH = mailboxes(
    most_by(("app_id", "program", "folder"), _READ_SUMS, order=("number",), most=10, only="is_read")
)
"""Column, value, how often mail was read and synchronised, by how many people; the most frequent of each."""
