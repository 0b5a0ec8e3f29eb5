"""Who comes into Exchange: sign-ins to mailboxes, and what people of other organisations do."""

from __future__ import annotations

from m365watch.board.query.domains import is_own
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.aggregates import COUNT, STEP
from m365watch.lake.rollups.facts import CHANGES, IS_BY_OUTSIDER, IS_FOREIGN, MAILBOXES

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
