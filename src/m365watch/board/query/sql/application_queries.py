"""Applications and roles: who consents to what, who gets which rights, and how the gates are set."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query, Sieve
from m365watch.board.query.sql.aggregates import changes_of, marked
from m365watch.lake.rollups.facts import CHANGES, IS_NAMING

IN_DIRECTORY = "record_type = 8"
IS_CONSENT = (
    "regexp_matches(lower(operation), 'consent|permission ?grant|app role assignment')"
    " AND NOT starts_with(lower(operation), 'set ')"
)
IS_CREDENTIAL = (
    "regexp_matches(lower(operation), 'certificates and secrets|credentials|owner (to|from) (app|serv)')"
)
IS_APPLICATION = (
    "regexp_matches(lower(operation), '(application|service principal)') AND NOT (" + IS_CONSENT + ")"
)
IS_ROLE = "regexp_matches(lower(operation), 'role') AND NOT contains(lower(operation), 'app role')"
IS_GATE = (
    "regexp_matches(lower(operation), 'polic|federat|domain|partner|feature|company settings|cross-tenant')"
)
_IS_CHANGE = f"(({IS_CREDENTIAL}) OR ({IS_APPLICATION}))"
_IS_OTHER = f"({IS_APPLICATION}) AND NOT ({IS_CREDENTIAL})"
FIGURES = (IS_CONSENT, IS_CREDENTIAL, _IS_OTHER, IS_ROLE, IS_GATE)
_SHOWN = (IS_CONSENT, _IS_CHANGE, IS_ROLE, IS_GATE)
COUNTS = Sieve(
    (*FIGURES, *map(marked, FIGURES), _IS_CHANGE, marked(_IS_CHANGE)), of=CHANGES, only=IN_DIRECTORY
)
"""How many there are of everything that the page shows, and how many of them stand out."""


CONSENTS, CREDENTIALS, ROLES, GATES = (changes_of(one, COUNTS) for one in _SHOWN)
PRIVILEGED = Query(
    "WITH deeds AS (SELECT user_id, operation, sum(n) AS times FROM facts"
    " WHERE (record_type IN (1, 8, 18) OR user_type = 2) AND coalesce(user_type, 0) NOT IN (3, 4)"
    " AND contains(user_id, '@') AND lower(operation) NOT IN ('userloggedin', 'userloginfailed')"
    " GROUP BY ALL)"
    " SELECT user_id, CAST(sum(times) AS BIGINT) AS number, count(*),"
    " list(operation ORDER BY times DESC, operation)[1] FROM deeds"
    " GROUP BY user_id ORDER BY number DESC, 1 LIMIT 12",
    frozenset({"user_id", "operation", "record_type", "user_type"}),
)
NAMED = Query(
    f"SELECT lower(object), raw FROM facts WHERE {IS_NAMING}"
    " AND lower(object) IN (SELECT unnest($ids)) ORDER BY at_s DESC, record LIMIT 500",
    of=CHANGES,
    exact=True,
    only=IS_NAMING,
)
"""Id in lower case, the record: who made an application, consented to it or gave it a secret has named it."""
