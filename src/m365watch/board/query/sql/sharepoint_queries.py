"""SharePoint and OneDrive: who takes which files, and whom they are shared with."""

from __future__ import annotations

from dataclasses import replace

from m365watch.board.query.query_planner import Query, Sieve
from m365watch.board.query.sql.aggregates import (
    COUNT,
    STEP,
    STEPS_ROWS_MAX,
    begins,
    changes_of,
    count_if,
    has_word,
    most_by,
    most_by_pairs,
)
from m365watch.lake.rollups.facts import CHANGES, FILES

IN_SITES = "workload IN ('SharePoint', 'OneDrive')"
IS_DELETION = f"({begins('file', 'folder', 'list', 'site')} AND {has_word('deleted', 'recycled')})"
_DOWNLOADS, _UPLOADS, _DELETIONS, _MALWARE = (
    count_if(f"deed = '{one}'") for one in ("download", "upload", "deletion", "malware")
)
IS_ANONYMOUS = "anonymous"
IS_GUEST = "guest"
IS_SHARING = (
    "record_type = 14 AND NOT starts_with(lower(operation), 'sitecollectionadmin')"
    " AND NOT starts_with(lower(operation), 'sharingpolicy')"
)


def files(sql: str) -> Query:
    """A query over what was done with files, pages and lists."""
    return Query(sql, of=FILES)


FIGURES = files(f"SELECT {_DOWNLOADS}, {_UPLOADS}, {_DELETIONS}, {_MALWARE} FROM facts")
_IS_OUTSIDE = f"{IS_SHARING} AND ({IS_GUEST} OR {IS_ANONYMOUS})"
IS_GUARD = (
    f"{begins('sitecollectionadmin', 'sharingpolicy', 'filemalware', 'fileversionsall')} AND {IN_SITES}"
)
IS_LINK = "lower(operation) IN ('anonymouslinkcreated', 'anonymouslinkupdated', 'anonymouslinkused')"
"""One record of a link for anybody: beside it stands a SharingSet that says so as well."""
FIGURES_SHARED = (f"{IS_SHARING} AND {IS_GUEST}", f"{IS_SHARING} AND {IS_LINK}")
_IS_OPEN = f"{IS_SHARING} AND {IS_ANONYMOUS}"
_IS_MALWARE = f"starts_with(lower(operation), 'filemalware') AND {IN_SITES}"
COUNTS = Sieve((*FIGURES_SHARED, _IS_OPEN, IS_SHARING, _IS_OUTSIDE, IS_GUARD, _IS_MALWARE), of=CHANGES)
"""How much is shared, and how many changes there are of what guards it."""


SHARING, SHARING_OUTSIDE = (changes_of(one, COUNTS, worst=_IS_OPEN) for one in (IS_SHARING, _IS_OUTSIDE))
GUARDING = changes_of(IS_GUARD, COUNTS, worst=_IS_MALWARE)
SPARKS = Query(
    f"SELECT workload, at_s // $spark_s * $spark_s, {COUNT} FROM facts WHERE {IN_SITES} GROUP BY ALL",
    frozenset({"workload"}),
)
ACTIVITY = Query(
    f"SELECT {STEP} AS t, operation, {COUNT} FROM facts WHERE {IN_SITES} GROUP BY ALL",
    frozenset({"operation", "workload"}),
    rows_max=STEPS_ROWS_MAX,
)
_DEEDS = " UNION ALL ".join(
    f"SELECT '{part}' AS part, {name} AS name, {COUNT} AS number, count(*) AS others FROM deeds"
    f" WHERE {only} GROUP BY ALL"
    for part, name, only in (("operations", "operation", "true"), ("deleting", "user_id", IS_DELETION))
)
DEEDS = Query(
    f"WITH deeds AS MATERIALIZED (SELECT user_id, operation, sum(n) AS n FROM facts WHERE {IN_SITES}"
    f" GROUP BY ALL), placed AS (SELECT *,"
    f" row_number() OVER (PARTITION BY part ORDER BY number DESC, name) AS place FROM ({_DEEDS}))"
    " SELECT part, name, number, others FROM placed WHERE place <= 12 ORDER BY part, place",
    frozenset({"operation", "workload", "user_id"}),
)
"""Which operations are the most frequent, with their people, and who deletes most, from one look."""


_TAKEN = {"number": COUNT, "downloads": _DOWNLOADS, "uploads": _UPLOADS}
_MOST_TAKEN = ("downloads", "number")
_IS_NAMED = "name <> ''"


def tops_of(*columns: str) -> Query:
    """Column of ours, value, times, downloads, uploads, people; of each column those with most downloads."""
    return files(most_by(columns, _TAKEN, order=_MOST_TAKEN, most=12, shown=_IS_NAMED))


EVERY_TOP = replace(tops_of("site", "client_ip", "user_id", "extension", "program"), is_long=True)
"""All of them in one look, where no small rollup has what a view is narrowed by."""
TOPS = {
    **dict.fromkeys(
        ("user_id", "client_ip"),
        files(most_by_pairs(("user_id", "client_ip"), _TAKEN, order=_MOST_TAKEN, most=12, shown=_IS_NAMED)),
    ),
    **dict.fromkeys(("extension", "program"), tops_of("extension", "program")),
    "site": tops_of("site"),
}
"""Those that one small rollup has, together."""


PLACES = files(
    f"SELECT client_ip, {COUNT} AS number, {_DOWNLOADS}, {_UPLOADS}, {_DELETIONS} FROM facts"
    " WHERE client_ip <> '' GROUP BY ALL ORDER BY number DESC, 1"
)
"""Address, records, downloads, uploads, deletions; the most frequent first."""
DOMAINS = Query(
    f"SELECT domain, {COUNT} AS number, count(DISTINCT user_id) FROM facts"
    f" WHERE {IS_SHARING} AND {IS_GUEST} GROUP BY ALL HAVING domain <> '' ORDER BY number DESC, 1 LIMIT 12",
    of=CHANGES,
)
