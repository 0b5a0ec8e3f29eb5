"""SharePoint and OneDrive: who takes which files, and whom they are shared with."""

from __future__ import annotations

from m365watch.board.lake_reader import Query
from m365watch.board.queries.counting import COUNT, STEP, count_if
from m365watch.lake.rollups.facts import CHANGES, FILES

IN_SITES = "workload IN ('SharePoint', 'OneDrive')"
IS_DOWNLOAD = "regexp_matches(lower(operation), '^file(syncdownloaded|downloaded)')"
IS_UPLOAD = "regexp_matches(lower(operation), '^file(syncuploaded|uploaded)')"
IS_DELETION = "regexp_matches(lower(operation), '^(file|folder|list|site).*(deleted|recycled)')"
_DOWNLOADS, _UPLOADS, _DELETIONS, _MALWARE = (
    count_if(f"deed = '{one}'") for one in ("download", "upload", "deletion", "malware")
)
_IN_SHAREPOINT, _IN_ONEDRIVE = (count_if(f"workload = '{one}'") for one in ("SharePoint", "OneDrive"))
IS_ANONYMOUS = "anonymous"
IS_GUEST = "guest"
IS_SHARING = (
    "record_type = 14 AND NOT starts_with(lower(operation), 'sitecollectionadmin')"
    " AND NOT starts_with(lower(operation), 'sharingpolicy')"
)


def files(sql: str) -> Query:
    """A query over what was done with files, pages and lists."""
    return Query(sql, of=FILES)


FIGURES = files(
    f"SELECT {_IN_SHAREPOINT}, {_IN_ONEDRIVE}, {_DOWNLOADS}, {_UPLOADS}, {_DELETIONS}, {_MALWARE} FROM facts"
)
SHARING_FIGURES = Query(
    f"SELECT {count_if(IS_GUEST)}, {count_if(IS_ANONYMOUS)} FROM facts WHERE {IS_SHARING}",
    of=CHANGES,
)
SPARKS = Query(
    f"SELECT workload, at_s // $spark_s * $spark_s, {COUNT} FROM facts WHERE {IN_SITES} GROUP BY ALL",
    frozenset({"workload"}),
)
ACTIVITY = Query(
    f"SELECT {STEP} AS t, operation, {COUNT} FROM facts WHERE {IN_SITES} GROUP BY ALL",
    frozenset({"operation", "workload"}),
)
OPERATIONS = Query(
    f"SELECT operation, {COUNT} AS number, count(DISTINCT user_id) FROM facts WHERE {IN_SITES}"
    " GROUP BY ALL ORDER BY number DESC, 1 LIMIT 12",
    frozenset({"operation", "workload", "user_id"}),
)


def top_of(column: str, *, limit: int = 12) -> Query:
    """Value of a column of ours, times, downloads, uploads, people; most downloads first."""
    return files(
        f"SELECT {column}, {COUNT} AS number, {_DOWNLOADS} AS downloads, {_UPLOADS}, count(DISTINCT user_id)"
        f" FROM facts WHERE {column} <> '' GROUP BY ALL ORDER BY downloads DESC, number DESC, 1 LIMIT {limit}"
    )


SHARING = Query(
    "SELECT at_s, operation, user_id, client_ip, outcome, object, raw, record FROM facts"
    f" WHERE {IS_SHARING} AND ({IS_GUEST} OR {IS_ANONYMOUS} OR $everything)"
    " ORDER BY at_s DESC, record LIMIT 200",
    of=CHANGES,
    exact=True,
    newest=200,
)
DOMAINS = Query(
    f"SELECT domain, {COUNT} AS number, count(DISTINCT user_id) FROM facts"
    f" WHERE {IS_SHARING} AND {IS_GUEST} GROUP BY ALL HAVING domain <> '' ORDER BY number DESC, 1 LIMIT 12",
    of=CHANGES,
)
DELETING = Query(
    f"SELECT user_id, {COUNT} AS number, count(DISTINCT operation) FROM facts"
    f" WHERE {IN_SITES} AND {IS_DELETION} GROUP BY ALL ORDER BY number DESC, 1 LIMIT 12",
    frozenset({"user_id", "operation", "workload"}),
)
GUARDING = Query(
    "SELECT at_s, operation, user_id, client_ip, outcome, object, raw, record FROM facts"
    " WHERE regexp_matches(lower(operation),"
    " '^(sitecollectionadmin|sharingpolicy|filemalware|fileversionsall)')"
    f" AND {IN_SITES} ORDER BY at_s DESC, record LIMIT 200",
    of=CHANGES,
    exact=True,
    newest=200,
)
