"""Exchange: what administrators and owners change, and who reads whose mail."""

from __future__ import annotations

from m365watch.board.query.internal_domains import is_own
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
from m365watch.lake.rollups.facts import CHANGES, IS_BY_OUTSIDER, IS_DELETION, IS_FOREIGN, MAILBOXES

PAIRS_MAX = 500
"""Pairs of a person and an operation that are told of outsiders."""
LOGINS = Query(
    f"SELECT {STEP} AS t, logon, {COUNT} FROM facts WHERE lower(operation) = 'mailboxlogin' GROUP BY ALL",
    of=MAILBOXES,
)
"""Instant, kind of the sign-in as a number, count."""
_BY_PEOPLE = "coalesce(user_type, 0) NOT IN (3, 4)"
"""Microsoft's own administrators and services are from outside in nearly all that they do."""
_ORDERED = f"GROUP BY ALL ORDER BY number DESC, 1, 2 LIMIT {PAIRS_MAX}"
OUTSIDE_CHANGES = Query(
    f"SELECT user_id, operation, {COUNT} AS number, count(DISTINCT object), max(last_s) FROM facts"
    f" WHERE record_type = 1 AND {_BY_PEOPLE} AND {IS_BY_OUTSIDER} AND NOT ({is_own('user_id')}) {_ORDERED}",
    of=CHANGES,
    only=IS_BY_OUTSIDER,
)
"""Who, operation, how often, on how many objects, and the last: cmdlets of which Exchange says so itself, but
for those of colleagues: an organisation may have several tenants."""
_DOMAIN, _OWNERS = (f"split_part({one}, '@', -1)" for one in ("user_id", "mailbox"))
OUTSIDE_MAILBOXES = Query(
    f"SELECT user_id, operation, {COUNT} AS number, count(DISTINCT mailbox), max(last_s) FROM facts"
    f" WHERE {IS_FOREIGN} AND {_BY_PEOPLE} AND contains(user_id, '@') AND contains(mailbox, '@')"
    f" AND {_DOMAIN} <> {_OWNERS} AND NOT ({is_own('user_id')}) {_ORDERED}",
    of=MAILBOXES,
    only=IS_FOREIGN,
)
"""The same of mailboxes, by what Exchange's word means: who came is of a domain that is not the tenant's own.

Source: the API's schema, ExternalAccess of mailboxes' records.
"""


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
