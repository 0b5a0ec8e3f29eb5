"""Sign-ins: how they ended, by whom, from where, and with what."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.aggregates import COUNT, STEP, count_if

FAILURES = count_if("outcome = 'failed'")


def sign_ins(sql: str) -> Query:
    """A query over sign-ins."""
    return Query(sql, of_sign_ins=True)


FAILED = sign_ins(f"SELECT {FAILURES} FROM facts")
OUTCOMES = sign_ins(f"SELECT {STEP} AS t, outcome, {COUNT} FROM facts GROUP BY ALL")
ERRORS = sign_ins(
    f"SELECT error, {COUNT} AS number, count(DISTINCT user_id) FROM facts WHERE outcome = 'failed'"
    " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 12"
)
FIGURES = sign_ins(
    f"SELECT {COUNT}, {FAILURES}, count(DISTINCT user_id),"
    " count(DISTINCT CASE WHEN outcome = 'failed' THEN hash(user_id) END), count(DISTINCT client_ip),"
    " count(DISTINCT CASE WHEN session <> '' THEN hash(session) END) FROM facts"
)
PAIRS = sign_ins(
    f"SELECT client_ip, user_id, {COUNT} AS number, {FAILURES} FROM facts WHERE client_ip <> ''"
    " GROUP BY ALL ORDER BY number DESC, 1, 2"
)
"""Who came from where, the most frequent first."""


def _top(table: str, part: str, order: str, limit: int, *, only: str = "true") -> str:
    return (
        f"SELECT '{part}' AS part, row_number() OVER (ORDER BY {order} DESC, name) AS place, * FROM {table}"
        f" WHERE {only} QUALIFY place <= {limit}"
    )


_TOPS = " UNION ALL ".join(
    (
        _top("networks", "networks", "number", 40),
        _top("persons", "persons failing", "failures", 8, only="failures > 0"),
        _top("addresses", "addresses failing", "failures", 8, only="failures > 0"),
        _top("addresses", "shared addresses", "others", 40, only="others > 1"),
        _top("persons", "persons about", "others", 40, only="others > 1"),
    )
)
WHO_WHERE = sign_ins(
    f"WITH pairs AS MATERIALIZED (SELECT client_ip, network, user_id, sum(n) AS n, {FAILURES} AS failed"
    " FROM facts GROUP BY ALL),"
    f" networks AS (SELECT network AS name, {COUNT} AS number, CAST(sum(failed) AS BIGINT) AS failures,"
    " count(DISTINCT user_id) AS others, count(DISTINCT client_ip) AS more FROM pairs GROUP BY ALL),"
    f" addresses AS (SELECT client_ip AS name, {COUNT} AS number, CAST(sum(failed) AS BIGINT) AS failures,"
    " count(*) AS others, 0 AS more FROM pairs WHERE client_ip <> '' GROUP BY ALL),"
    f" persons AS (SELECT user_id AS name, {COUNT} AS number, CAST(sum(failed) AS BIGINT) AS failures,"
    " count(*) AS others, 0 AS more FROM pairs GROUP BY ALL)"
    f" SELECT part, name, number, failures, others, more FROM ({_TOPS}) ORDER BY part, place"
)
"""Which list, network or address or person, sign-ins, failures, people or addresses, addresses: one look at
who came from where says which networks there are, who and what fails most, and who shares what."""
BROWSERS = sign_ins(
    f"SELECT browser_name, {COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
SYSTEMS = sign_ins(
    "SELECT coalesce(nullif(system, ''), 'not said'), "
    f"{COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
APPLICATIONS = sign_ins(
    f"SELECT app_id, {COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
ODD_WAYS = sign_ins(
    f"SELECT way, user_id, client_ip, left(agent, 80), {COUNT} AS number, {FAILURES}, max(last_s) FROM facts"
    " WHERE way <> '' GROUP BY ALL ORDER BY max(last_s) DESC, number DESC LIMIT 60"
)
FIRSTS_MAX = 60


def _begun(table: str, part: str, one: str, other: str) -> str:
    """What is in a table of somebody for the first time after `$since_s`, who was in it before."""
    return (
        f"SELECT '{part}' AS part, user_id, {one} AS one, {other} AS other, address, first_at,"
        f" CAST(number AS BIGINT) AS number FROM {table} JOIN (SELECT user_id, min(first_at) AS at_first"
        f" FROM {table} GROUP BY ALL) USING (user_id) WHERE first_at >= $since_s AND at_first < $since_s"
    )


_LEAST = "min(first_at) AS first_at, sum(number) AS number, arg_min(address, first_at) AS address"
FIRSTS = sign_ins(
    "WITH known AS MATERIALIZED (SELECT user_id, network, system, browser_name, client_ip AS address,"
    " min(at_s) AS first_at, sum(n) AS number FROM facts WHERE outcome = 'ok' GROUP BY ALL),"
    f" networks AS (SELECT user_id, network, arg_min(system, first_at) AS system, {_LEAST} FROM known"
    " GROUP BY user_id, network),"
    f" devices AS (SELECT user_id, system, browser_name, {_LEAST} FROM known"
    " WHERE system <> '' OR browser_name <> 'not said' GROUP BY user_id, system, browser_name),"
    f" begun AS ({_begun('networks', 'networks', 'network', 'system')} UNION ALL"
    f" {_begun('devices', 'devices', 'system', 'browser_name')})"
    " SELECT part, user_id, one, other, address, first_at, number FROM begun"
    " QUALIFY row_number() OVER (PARTITION BY part ORDER BY first_at DESC, user_id, one, other)"
    f" <= {FIRSTS_MAX} ORDER BY part, first_at DESC, user_id, one, other"
)
"""Networks and devices (a system with a browser or program) that a person came from for the first time after
`$since_s`, and was known before: which list, who, what, the first one's system or browser, its address, when
that was, sign-ins. Which was first is looked for among what is alike: of every sign-in it takes 200 ms."""
ARRIVALS = sign_ins(
    "SELECT user_id, client_ip, min(at_s) FROM facts WHERE outcome = 'ok' AND client_ip <> ''"
    " GROUP BY ALL ORDER BY 1, 2"
)
"""When somebody came from an address for the first time."""
ANY = sign_ins("SELECT outcome FROM facts WHERE outcome = 'ok' LIMIT 1")
SESSIONS = sign_ins(
    "WITH several AS (SELECT session FROM facts WHERE session <> '' GROUP BY session"
    " HAVING min(hash(network, system, agent)) < max(hash(network, system, agent)))"
    " SELECT session, any_value(user_id), count(DISTINCT client_ip) AS addresses,"
    " count(DISTINCT network) AS networks, count(DISTINCT system) AS systems,"
    f" count(DISTINCT agent) AS agents, {COUNT}, max(last_s)"
    " FROM facts SEMI JOIN several USING (session) GROUP BY session"
    " ORDER BY networks DESC, addresses DESC, 8 DESC LIMIT 60"
)
"""Those in several networks, systems or programs, which are few: only of them is it counted in how many."""
VISITS = sign_ins(
    "WITH seen AS (SELECT user_id, client_ip, at_s, lag(client_ip) OVER come AS before,"
    " lead(client_ip) OVER come AS after FROM facts WHERE outcome = 'ok' AND client_ip <> ''"
    " WINDOW come AS (PARTITION BY user_id ORDER BY at_s, client_ip))"
    " SELECT user_id, client_ip, at_s FROM seen"
    " WHERE before IS DISTINCT FROM client_ip OR after IS DISTINCT FROM client_ip"
    " ORDER BY at_s DESC LIMIT 10000"
)
"""When somebody came from another address than the time before, or goes to another with the next."""
_IS_ACCOUNT = (
    "workload = 'AzureActiveDirectory' AND regexp_matches(lower(operation),"
    " '(add|delete|invite|disable|enable|restore) .*user|guest|strongauth|security info|authentication"
    "|risk|reset .*password|change .*password')"
    " AND lower(operation) NOT IN ('userloggedin', 'userloginfailed')"
)
ACCOUNTS = Query(
    "SELECT at_s, operation, user_id, client_ip, outcome, tenant_id FROM facts"
    f" WHERE {_IS_ACCOUNT} ORDER BY at_s DESC, user_id, operation, client_ip, outcome, tenant_id LIMIT 100",
    frozenset({"operation", "user_id", "client_ip", "outcome", "workload"}),
    exact=True,
    newest=100,
    every=_IS_ACCOUNT,
)
