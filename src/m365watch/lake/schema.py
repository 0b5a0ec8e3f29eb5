"""The columns of the lake's tables: what each holds, its type, and where it comes from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import pyarrow as pa

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
BOARD_TRAIL = "board_trail"
"""The same for who has seen and done what on the board."""
NOTICES = "devo.collectors.out"
"""Devo's table of what collectors say of themselves."""
ALERT_RECORDS = "cloud.office365.alerts"
"""The table under which alerts are known where tables have Devo's names."""
PARTITION = "day"

INSTANT = pa.timestamp("us", tz="UTC")
"""The type of every time in the lake."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `says` is its line in the documentation."""

    name: str
    type: pa.DataType
    says: str


AUDIT_COLUMNS = (
    Column(
        PARTITION, pa.date32(), "Day of `created_at` (of `received_at` where that is null); the partition."
    ),
    Column("created_at", INSTANT, "`CreationTime`, read as UTC; null where it is no time."),
    Column("received_at", INSTANT, "When the collector had fetched the record's blob."),
    Column("tenant_id", pa.string(), "The tenant that was asked, whatever `OrganizationId` says."),
    Column("content_type", pa.string(), "The feed the record came by, for example `Audit.Exchange`."),
    Column(
        "devo_table", pa.string(), "Devo's table name, for example `cloud.office365.management.exchange`."
    ),
    Column("id", pa.string(), "`Id`."),
    Column("workload", pa.string(), "`Workload`, as sent."),
    Column("record_type", pa.int32(), "`RecordType`; null where it is no whole number."),
    Column("operation", pa.string(), "`Operation`, as sent; compare without regard to case."),
    Column("user_id", pa.string(), "`UserId`, as sent."),
    Column("user_type", pa.int32(), "`UserType`; null where it is no whole number."),
    Column("result", pa.string(), "`ResultStatus`, as sent; absent on SharePoint, OneDrive and Teams."),
    Column(
        "client_ip",
        pa.string(),
        "First of `ClientIP`, `ClientIPAddress`, `ActorIpAddress` that says anything: the address alone,"
        " without port and brackets, IPv4 where it was mapped into IPv6;"
        " text that is no address stays as sent.",
    ),
    Column("object_id", pa.string(), "`ObjectId`, as sent."),
    Column("session_id", pa.string(), "`SessionId`."),
    Column("app_id", pa.string(), "First of `ApplicationId`, `AppId`, `ClientAppId` that is not empty."),
    Column(
        "raw_bytes", pa.binary(), "The record's own bytes, only where they are not valid UTF-8; else null."
    ),
    Column(
        "raw",
        pa.string(),
        "The record, byte for byte; where `raw_bytes` is set, with U+FFFD in place of what is no UTF-8.",
    ),
)
"""In the order of `select *`; the widest comes last, so that a glance shows the others."""

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
        return pa.schema([field for field in self.schema if field.name != PARTITION])


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
