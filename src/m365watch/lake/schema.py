"""The columns of the lake's tables: what each holds, its type, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

AUDIT = "audit"
"""The table's directory below the lake, and its name in SQL."""
PARTITION = "day"

_INSTANT = pa.timestamp("us", tz="UTC")


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
    Column("created_at", _INSTANT, "`CreationTime`, read as UTC; null where it is no time."),
    Column("received_at", _INSTANT, "When the collector had fetched the record's blob."),
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

AUDIT_SCHEMA = pa.schema([pa.field(column.name, column.type) for column in AUDIT_COLUMNS])
FILE_SCHEMA = pa.schema([field for field in AUDIT_SCHEMA if field.name != PARTITION])
"""What a Parquet file holds: Delta keeps the partition's value beside the file, not in it."""

STATISTICS = ("created_at", "received_at", "tenant_id", "devo_table", "record_type")
"""Columns whose smallest and largest value the table keeps per file, so that readers skip files."""
PLAIN_TEXTS = ("id", "object_id", "raw", "raw_bytes")
"""Columns whose values hardly repeat: a dictionary would cost time and save nothing."""
