"""Sign-ins: how they ended, by whom, from where, and with what."""

from __future__ import annotations

from m365watch.board.lake_reader import Query

_STEP = "at_s // $step_s * $step_s"
_COUNT = "CAST(sum(n) AS BIGINT)"
FAILURES = "CAST(coalesce(sum(n) FILTER (outcome = 'failed'), 0) AS BIGINT)"


def sign_ins(sql: str) -> Query:
    """A query over sign-ins."""
    return Query(sql, of_sign_ins=True)


OUTCOMES = sign_ins(f"SELECT {_STEP} AS t, outcome, {_COUNT} FROM facts GROUP BY ALL")
ERRORS = sign_ins(
    f"SELECT error, {_COUNT} AS number, count(DISTINCT user_id) FROM facts WHERE outcome = 'failed'"
    " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 12"
)
FIGURES = sign_ins(
    f"SELECT {_COUNT}, {FAILURES}, count(DISTINCT user_id), count(DISTINCT user_id) FILTER (outcome ="
    " 'failed'), count(DISTINCT client_ip), count(DISTINCT session) FILTER (session <> '') FROM facts"
)
NETWORKS = sign_ins(
    f"SELECT network, {_COUNT} AS number, {FAILURES}, count(DISTINCT user_id),"
    " count(DISTINCT client_ip) FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 40"
)
PAIRS = sign_ins(
    f"SELECT client_ip, user_id, {_COUNT} AS number, {FAILURES} FROM facts WHERE client_ip <> ''"
    " GROUP BY ALL ORDER BY number DESC, 1, 2"
)
"""Who came from where, the most frequent first."""
USERS_FAILING = sign_ins(
    f"SELECT user_id, {FAILURES} AS failures, {_COUNT}, count(DISTINCT client_ip) FROM facts"
    " GROUP BY ALL HAVING failures > 0 ORDER BY failures DESC, 1 LIMIT 8"
)
ADDRESSES_FAILING = sign_ins(
    f"SELECT client_ip, {FAILURES} AS failures, {_COUNT}, count(DISTINCT user_id) FROM facts"
    " WHERE client_ip <> '' GROUP BY ALL HAVING failures > 0 ORDER BY failures DESC, 1 LIMIT 8"
)
PEOPLE_BY_ADDRESS = sign_ins(
    f"SELECT client_ip, count(DISTINCT user_id) AS persons, {_COUNT}, {FAILURES} FROM facts"
    " WHERE client_ip <> '' GROUP BY ALL HAVING persons > 1 ORDER BY persons DESC, 1 LIMIT 40"
)
ADDRESSES_BY_PERSON = sign_ins(
    f"SELECT user_id, count(DISTINCT client_ip) AS addresses, {_COUNT}, {FAILURES} FROM facts"
    " GROUP BY ALL HAVING addresses > 1 ORDER BY addresses DESC, 1 LIMIT 40"
)
BROWSERS = sign_ins(
    f"SELECT browser_name, {_COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
SYSTEMS = sign_ins(
    "SELECT coalesce(nullif(system, ''), 'not said'), "
    f"{_COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
APPLICATIONS = sign_ins(
    f"SELECT app_id, {_COUNT} AS number FROM facts GROUP BY ALL ORDER BY number DESC, 1 LIMIT 8"
)
ODD_WAYS = sign_ins(
    f"SELECT way, user_id, client_ip, left(agent, 80), {_COUNT} AS number, {FAILURES}, max(last_s) FROM facts"
    " WHERE way <> '' GROUP BY ALL ORDER BY max(last_s) DESC, number DESC LIMIT 60"
)
FIRST_SEEN = sign_ins(
    f"WITH known AS (SELECT user_id, network, system, min(at_s) AS first_at,"
    f" {_COUNT} AS number, {FAILURES} AS failures, any_value(client_ip) AS address FROM facts"
    " WHERE outcome = 'ok' GROUP BY ALL),"
    " begun AS (SELECT user_id, min(first_at) AS at_first FROM known GROUP BY ALL),"
    " networks AS (SELECT user_id, network, min(first_at) AS first_at, sum(number) AS number,"
    " any_value(address) AS address, any_value(system) AS system FROM known GROUP BY ALL)"
    " SELECT user_id, network, address, system, first_at, CAST(number AS BIGINT) FROM networks"
    " JOIN begun USING (user_id) WHERE first_at >= $since_s AND at_first < $since_s"
    " ORDER BY first_at DESC LIMIT 60"
)
"""Networks that a person came from for the first time after `$since_s`, and was known before."""
SESSIONS = sign_ins(
    "SELECT session, any_value(user_id), count(DISTINCT client_ip) AS addresses,"
    " count(DISTINCT network) AS networks, count(DISTINCT system) AS systems,"
    f" count(DISTINCT agent) AS agents, {_COUNT}, max(last_s)"
    " FROM facts WHERE session <> '' GROUP BY session"
    " HAVING networks > 1 OR systems > 1 OR agents > 1"
    " ORDER BY networks DESC, addresses DESC, 8 DESC LIMIT 60"
)
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
    f" WHERE {_IS_ACCOUNT} ORDER BY at_s DESC LIMIT 100",
    frozenset({"operation", "user_id", "client_ip", "outcome", "workload"}),
    exact=True,
    newest=100,
    every=_IS_ACCOUNT,
)
