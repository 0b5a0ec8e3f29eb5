"""The columns of the lake's tables: what each holds, its type, where it comes from, and its uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec

import pyarrow as pa

from m365watch.records.derived_values import (
    ALERT_RECORD_TYPE,
    DONE,
    WITHOUT_STATUS,
    Outcome,
    Texts,
    alerted_user,
    outcome_of,
    plain_address,
)

if find_spec("dateutil") is None:
    # Arrow looks for it at each time with a zone, four and more for each file of a table, and each look goes
    # through all of Python's folders: 127 us. This is how Python is told that it is not there.
    sys.modules["dateutil"] = None  # type: ignore[assignment]

AUDIT = "audit"
"""The table's directory below the lake, and its name in SQL."""
COLLECTORS_OUT = "collectors_out"
"""The same for what collectors say of themselves."""
ALERTS = "alerts"
"""The same for what the detections have found."""
ALERTS_PREFIX = "alerts-"
"""How the names of the files of alerts begin."""
BOARD_TRAIL = "board_trail"
"""The same for who has seen and done what on the board."""
OUTBOX_FILE = "board.sqlite"
"""In the state directory: lines of the trail that are not in the lake yet wait in it."""
NOTICES = "devo.collectors.out"
"""Devo's table of what collectors say of themselves."""
ALERT_RECORDS = "cloud.office365.alerts"
"""The table under which alerts are known where tables have Devo's names."""
PARTITION = "day"

INSTANT = pa.timestamp("us", tz="UTC")
"""The type of every time in the lake."""


class Kind(StrEnum):
    """How a filter compares the values of a column."""

    TEXT = "text"
    """Whole, without regard to case."""
    PERSON = "person"
    """The same; what stands before @ is enough."""
    ADDRESS = "address"
    """An address, a network (10.0.0.0/8), or the text that stands there."""
    NUMBER = "number"
    """A whole number."""
    RESULT = "result"
    """ok, failed, or the word that the record has."""


@dataclass(frozen=True, slots=True)
class Filter:
    """How a filter asks for a column."""

    names: tuple[str, ...]
    """The first is the field's own name."""
    says: str
    kind: Kind = Kind.TEXT
    values: tuple[str, ...] = ()
    """All that there are, where they are few."""


@dataclass(frozen=True, slots=True)
class Fact:
    """How rollups count by a column; with it, it is a facet of the board's pages."""

    name: str
    dimension: str
    """Its name in a page's address."""
    sql: str
    """Its value for a row of `audit`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: all that writers, readers, filters, pages and the documentation have to know of it."""

    name: str
    type: pa.DataType
    says: str
    """Its line in the documentation."""
    fields: tuple[str, ...] = ()
    """The fields of a record (`WideHeader`) that it is made of; empty where the writer knows it otherwise."""
    meaning: Callable[[str], str | None] | None = None
    """What one of the fields means: the first that means anything counts. None: the text as sent."""
    made: Callable[[Texts], str] | None = None
    """What all of the fields say together."""
    of_types: Mapping[int, Callable[[Texts], str]] = field(default_factory=dict)
    """Record types of which the whole record tells it; empty where it does not."""
    older: str = ""
    """What stands for it, as SQL, in rows from before there was the column."""
    filter: Filter | None = None
    fact: Fact | None = None
    heading: str = ""
    """Above it in exports of search; empty where it is not in them."""
    has_contents: bool = False
    """Whether it may be a subject, the name of a file, or a text, which not everybody may see."""
    is_entity: bool = False
    """Whether its values lead to all that has them."""

    @property
    def shown(self) -> str:
        """Its value for a row of `audit`, as SQL; text is never null."""
        if not pa.types.is_string(self.type):
            return self.name
        return f"coalesce({', '.join(one for one in (self.name, self.older) if one)}, '')"

    @property
    def compared(self) -> str:
        """The same in lower case."""
        return f"lower({self.shown})" if pa.types.is_string(self.type) else self.name


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in sorted(texts))


_OLDER_OUTCOME = (
    "CASE WHEN lower(operation) = 'userloginfailed' THEN 'failure' WHEN lower(operation) = 'userloggedin'"
    f" OR lower(coalesce(workload, '')) IN ({_listed(WITHOUT_STATUS)}) THEN 'success'"
    f" WHEN lower(result) IN ({_listed(DONE)}) THEN 'success'"
    " WHEN coalesce(result, '') = '' THEN 'unknown' ELSE 'failure' END"
)
"""As far as the columns from before tell it: not of a sign-in that only its error's number calls failed."""

AUDIT_COLUMNS = (
    Column(
        PARTITION, pa.date32(), "Day of `created_at` (of `received_at` where that is null); the partition."
    ),
    Column(
        "created_at", INSTANT, "`CreationTime`, read as UTC; null where it is no time.", ("CreationTime",)
    ),
    Column("received_at", INSTANT, "When the collector had fetched the record's blob."),
    Column(
        "tenant_id",
        pa.string(),
        "The tenant that was asked, whatever `OrganizationId` says.",
        filter=Filter(("tenant", "tenantid"), "the tenant's id"),
        fact=Fact("tenant_id", "tenant", "lower(tenant_id)"),
        heading="tenant",
    ),
    Column(
        "content_type",
        pa.string(),
        "The feed the record came by, for example `Audit.Exchange`.",
        filter=Filter(("feed", "contenttype"), "the feed it came by: Audit.Exchange"),
    ),
    Column(
        "devo_table",
        pa.string(),
        "Devo's table name, for example `cloud.office365.management.exchange`.",
        filter=Filter(("table",), "Devo's name of its table"),
    ),
    Column("id", pa.string(), "`Id`.", ("Id",), filter=Filter(("id",), "the record's own id"), heading="id"),
    Column(
        "workload",
        pa.string(),
        "`Workload`, as sent.",
        ("Workload",),
        filter=Filter(("workload",), "Exchange, SharePoint, AzureActiveDirectory ..."),
        fact=Fact("workload", "workload", "coalesce(workload, '')"),
        heading="workload",
    ),
    Column(
        "record_type",
        pa.int32(),
        "`RecordType`; null where it is no whole number.",
        ("RecordType",),
        filter=Filter(("type", "recordtype"), "the number of the record type", Kind.NUMBER),
        fact=Fact("record_type", "type", "record_type"),
        heading="record type",
    ),
    Column(
        "operation",
        pa.string(),
        "`Operation`, as sent; compare without regard to case.",
        ("Operation",),
        filter=Filter(("operation", "op"), "what was done: New-InboxRule"),
        fact=Fact("operation", "operation", "coalesce(operation, '')"),
        heading="operation",
        is_entity=True,
    ),
    Column("user_id", pa.string(), "`UserId`, as sent.", ("UserId",), heading="user id"),
    Column(
        "actor",
        pa.string(),
        "Whom the record is about: the user that one of Microsoft's own alerts names, else `UserId`.",
        ("UserId",),
        of_types={ALERT_RECORD_TYPE: alerted_user},
        older="user_id",
        filter=Filter(("user", "actor", "userid"), "who did it: ann, or ann@contoso.example", Kind.PERSON),
        fact=Fact("user_id", "user", "lower(coalesce(actor, user_id, ''))"),
        heading="user",
        is_entity=True,
    ),
    Column(
        "user_type",
        pa.int32(),
        "`UserType`; null where it is no whole number.",
        ("UserType",),
        filter=Filter(("usertype",), "the number of the user type: 0 regular, 2 administrator", Kind.NUMBER),
        fact=Fact("user_type", "usertype", "user_type"),
        heading="user type",
    ),
    Column(
        "result",
        pa.string(),
        "`ResultStatus`, as sent; absent on SharePoint, OneDrive and Teams.",
        ("ResultStatus",),
        filter=Filter(
            ("result",), "ok, failed, or the record's own word", Kind.RESULT, values=("ok", "failed")
        ),
        heading="result",
    ),
    Column(
        "outcome",
        pa.string(),
        "`success`, `failure` or `unknown`, as the detection rules have it: a sign-in that failed is a"
        " `failure`, though its `ResultStatus` says `Success`.",
        ("Operation", "ErrorNumber", "Workload", "ResultStatus"),
        made=outcome_of,
        older=_OLDER_OUTCOME,
        filter=Filter(("outcome",), "what came of it: success, failure or unknown", values=tuple(Outcome)),
        fact=Fact(
            "outcome",
            "result",
            f"CASE coalesce(outcome, {_OLDER_OUTCOME}) WHEN 'failure' THEN 'failed' ELSE 'ok' END",
        ),
        heading="outcome",
    ),
    Column(
        "client_ip",
        pa.string(),
        "First of `ClientIP`, `ClientIPAddress`, `ActorIpAddress` that says anything: the address alone,"
        " without port and brackets, IPv4 where it was mapped into IPv6;"
        " text that is no address stays as sent.",
        ("ClientIP", "ClientIPAddress", "ActorIpAddress"),
        meaning=plain_address,
        filter=Filter(("ip", "clientip"), "from where: an address, or 10.0.0.0/8", Kind.ADDRESS),
        fact=Fact("client_ip", "ip", "lower(coalesce(client_ip, ''))"),
        heading="address",
        is_entity=True,
    ),
    Column(
        "object_id",
        pa.string(),
        "`ObjectId`, as sent.",
        ("ObjectId",),
        filter=Filter(("object", "objectid"), "what it was done to: *invoice*"),
        heading="object",
        has_contents=True,
    ),
    Column(
        "session_id",
        pa.string(),
        "`SessionId`.",
        ("SessionId",),
        filter=Filter(("session", "sessionid"), "the session's id"),
        heading="session",
        is_entity=True,
    ),
    Column(
        "app_id",
        pa.string(),
        "First of `ApplicationId`, `AppId`, `ClientAppId` that is not empty.",
        ("ApplicationId", "AppId", "ClientAppId"),
        meaning=lambda text: text or None,
        filter=Filter(("app", "appid", "application"), "the application's id"),
        fact=Fact("app_id", "app", "lower(coalesce(app_id, ''))"),
        heading="application",
        is_entity=True,
    ),
    Column(
        "raw_bytes", pa.binary(), "The record's own bytes, only where they are not valid UTF-8; else null."
    ),
    Column(
        "raw",
        pa.string(),
        "The record, byte for byte; where `raw_bytes` is set, with U+FFFD in place of what is no UTF-8.",
    ),
)
"""In the order of `select *`; the widest comes last, so that a glance shows the others.

A column is added here, and to `WideHeader` where it is made of a field that is not decoded yet. Lakes that
lack it get it when a writer opens them; in older files it is null.
"""
COMPARED = {column.filter.names[0]: column.compared for column in AUDIT_COLUMNS if column.filter}
"""SQL of a column in lower case, by its name in filters."""

NOTICE_COLUMNS = (
    Column(PARTITION, pa.date32(), "Day of `time`; the partition."),
    Column("time", INSTANT, "When it was said."),
    Column(
        "level", pa.string(), "`info`, `warning` (odd, nothing lost) or `error` (lost, or a person needed)."
    ),
    Column("collector_name", pa.string(), "The collector's name (`globals.name`)."),
    Column("collector_version", pa.string(), "Its version."),
    Column("collector_image", pa.string(), "What it runs from; always with the word `office365`."),
    Column("job_id", pa.string(), "The number of its job (`globals.id`); null where there is none."),
    Column("input_name", pa.string(), "The input that the line is about; null where it is about none."),
    Column("service_name", pa.string(), "The service that the line is about; null where it is about none."),
    Column("module_name", pa.string(), "The part of the collector that speaks."),
    Column(
        "msg", pa.string(), "The line; an error begins as Devo writes it: `ApiError [CODE:0411] reason:`."
    ),
)

_TEXTS = pa.list_(pa.string())
ENTITY = pa.struct([pa.field("kind", pa.string()), pa.field("value", pa.string())])

ALERT_COLUMNS = (
    Column(PARTITION, pa.date32(), "Day of `first_seen_at`; the partition."),
    Column("first_seen_at", INSTANT, "When the first of its records was created."),
    Column("last_seen_at", INSTANT, "When the last of its records was created."),
    Column("tenant_id", pa.string(), "The tenant."),
    Column("id", pa.string(), "The alert's id, as `m365watch alerts` has it."),
    Column("detection", pa.string(), "The rule's number in the catalogue; empty for rules of your own."),
    Column("rule_id", pa.string(), "The rule's id."),
    Column("title", pa.string(), "The rule's title."),
    Column("severity", pa.string(), "`informational`, `low`, `medium`, `high` or `critical`."),
    Column("severity_rank", pa.int32(), "The same as a number to sort by: 0 informational to 4 critical."),
    Column("state", pa.string(), "`open`, `acknowledged` or `closed`."),
    Column("reason", pa.string(), "What whoever changed the state has noted; null where nobody has."),
    Column("changed_by", pa.string(), "Who changed the state last; null where nobody has."),
    Column("changed_at", INSTANT, "When; null where nobody has."),
    Column("user_id", pa.string(), "The first user whom it is about; null where it names none."),
    Column("client_ip", pa.string(), "The first address that it is about; null where it names none."),
    Column("entities", pa.list_(ENTITY), "All that it is about: pairs of `kind` and `value`."),
    Column("records", pa.int64(), "How many records it rests on."),
    Column("evidence", _TEXTS, "The `id` of these records in `audit`, the earliest ones, at most 50."),
    Column("explanation", pa.string(), "What happened, in words."),
    Column("techniques", _TEXTS, "Techniques of ATT&CK, for example `T1114.003`."),
    Column("tactics", _TEXTS, "Tactics of ATT&CK."),
    Column("next_steps", _TEXTS, "What to look at next."),
    Column("containment", _TEXTS, "The names of the steps that contain it, as `respond` has them."),
    Column("risk", pa.int32(), "The points that it puts on whom it is about."),
    Column("notes", _TEXTS, "What is to be kept in mind: a bound that was met, for example."),
    Column("grouped_by", _TEXTS, "The values that its records have in common."),
    Column("formerly", _TEXTS, "Ids that it had before: a late record has moved its start, or joined two."),
)

TRAIL_COLUMNS = (
    Column(PARTITION, pa.date32(), "Day of `time`; the partition."),
    Column("time", INSTANT, "When it was answered."),
    Column(
        "number",
        pa.int64(),
        "The line's number, for each board by itself: its time in microseconds, or the next free one.",
    ),
    Column(
        "name",
        pa.string(),
        "Who it was: a user, `local user`, or a token; empty for strangers.",
    ),
    Column("role", pa.string(), "`viewer`, `analyst` or `admin`."),
    Column("address", pa.string(), "Where the request came from."),
    Column("session", pa.string(), "What tells one of their sessions from another."),
    Column(
        "action",
        pa.string(),
        "`sign_in`, `sign_out`, `refused`, `view`, `export`, `api`, `try` or `change`.",
    ),
    Column("status", pa.int32(), "The status of the answer."),
    Column("path", pa.string(), "What was asked for: `/record`, `/export/exchange/rules.csv`."),
    Column("query", pa.string(), "The rest of the URL: time, filters, the record's or the alert's id."),
    Column("says", pa.string(), "What was changed or tried."),
)


_SQL_TYPES = {
    INSTANT: "TIMESTAMPTZ",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
}


@dataclass(frozen=True)
class TableShape:
    """What the writers and the upkeep of one table have to know of it."""

    name: str
    """Its directory below the lake, and its name in SQL."""
    columns: tuple[Column, ...]
    statistics: tuple[str, ...]
    """Columns whose smallest and largest value the table keeps per file, so that readers skip files."""
    plain_texts: tuple[str, ...]
    """Columns whose values hardly repeat, and by whose order nothing is found: a dictionary would cost time
    and save nothing."""
    distinct: tuple[str, ...] = ()
    """Columns whose values hardly repeat, and whose least and greatest are looked at all the same."""
    long: tuple[str, ...] = ()
    """Columns that are compressed in fresh files: of the others a dictionary leaves so little that it takes
    longer to begin compressing than it is worth. Empty: all are."""
    devo_table: str = ""
    """Devo's name for all of it; empty where a column says that of each row."""

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @cached_property
    def file_schema(self) -> pa.Schema:
        """What a Parquet file holds: Delta keeps the partition's value beside the file, not in it."""
        return pa.schema([column for column in self.schema if column.name != PARTITION])

    def rows_in(self, files: str) -> str:
        """The rows of a bound list of files, as SQL: null where a file is from before a column."""
        anchor = ", ".join(f"CAST(NULL AS {_SQL_TYPES[one.type]}) AS {one.name}" for one in self.file_schema)
        return (
            f"(FROM read_parquet({files}, union_by_name=true) UNION ALL BY NAME SELECT {anchor} WHERE false)"
        )


AUDIT_TABLE = TableShape(
    AUDIT,
    AUDIT_COLUMNS,
    statistics=("created_at", "received_at", "tenant_id", "devo_table", "record_type"),
    plain_texts=("id", "object_id", "raw", "raw_bytes"),
    distinct=("created_at",),
    long=("created_at", "user_id", "object_id", "raw", "raw_bytes"),
)
NOTICE_TABLE = TableShape(
    COLLECTORS_OUT,
    NOTICE_COLUMNS,
    statistics=("time", "level"),
    plain_texts=("msg",),
    devo_table=NOTICES,
)
ALERT_TABLE = TableShape(
    ALERTS,
    ALERT_COLUMNS,
    statistics=("first_seen_at", "last_seen_at", "tenant_id", "severity_rank", "state"),
    plain_texts=("id", "explanation"),
    devo_table=ALERT_RECORDS,
)
TRAIL_TABLE = TableShape(
    BOARD_TRAIL,
    TRAIL_COLUMNS,
    statistics=("time", "name", "action"),
    plain_texts=("query", "says"),
)
TABLES = (AUDIT_TABLE, NOTICE_TABLE, ALERT_TABLE, TRAIL_TABLE)
OF_ALL_TENANTS = (NOTICE_TABLE, TRAIL_TABLE)
"""Tables that speak of every tenant, and are therefore for those alone who may see all of them."""
AUDIT_SCHEMA = AUDIT_TABLE.schema
