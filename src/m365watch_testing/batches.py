"""Records, parts and batches for tests; the same arguments always make the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, Header, TenantId, WideHeader
from m365watch.config.models.wire_values import TABLE_PREFIX

TENANT = TenantId("3f0c1c52-0000-4000-8000-000000000001")
RECEIVED_AT = datetime(2026, 11, 17, 9, 30, tzinfo=UTC)

_CONTENT_TYPES = {
    "AzureActiveDirectory": ContentType.AZURE_ACTIVE_DIRECTORY,
    "Exchange": ContentType.EXCHANGE,
    "SharePoint": ContentType.SHAREPOINT,
}


def make_record(number: int, *, workload: str = "Exchange", note: str = "") -> bytes:
    """The `number`th record as the service would write it; `note` lands in `ObjectId` unescaped."""
    created_at = RECEIVED_AT - timedelta(hours=1) + timedelta(seconds=number % 1800)
    return (
        f'{{"CreationTime":"{created_at:%Y-%m-%dT%H:%M:%S}","Id":"{UUID(int=number)}",'
        f'"Operation":"MailItemsAccessed","OrganizationId":"{TENANT}","RecordType":50,'
        f'"UserType":0,"Workload":"{workload}","UserId":"user{number % 40}@contoso.example",'
        f'"ClientIP":"192.0.2.{number % 250}","ObjectId":"{note}"}}'
    ).encode()


def make_records(count: int, *, start: int = 0, workload: str = "Exchange") -> list[bytes]:
    """`count` different records, numbered from `start`."""
    return [make_record(number, workload=workload) for number in range(start, start + count)]


def header_of(record: bytes) -> Header:
    """The wide header of `record`; an empty one where its bytes are not the JSON of a record."""
    try:
        return msgspec.json.decode(record, type=WideHeader)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return WideHeader()


def make_part(
    records: Sequence[bytes],
    *,
    outputs: Iterable[str],
    blob: int = 1,
    tables: Sequence[str] | None = None,
) -> BatchPart:
    """What goes on of blob `blob`; each record's table follows from its Workload unless given."""
    headers = [header_of(record) for record in records]
    workloads = [header.Workload or "general" for header in headers]
    first = workloads[0] if workloads else "general"
    return BatchPart(
        blob=BlobKey(blob),
        feed=Feed(TENANT, _CONTENT_TYPES.get(first, ContentType.GENERAL)),
        received_at=RECEIVED_AT,
        records=list(records),
        headers=headers,
        tables=list(tables or [TABLE_PREFIX + workload.lower() for workload in workloads]),
        missing_outputs=frozenset(outputs),
    )


def make_batch(number: int, parts: Sequence[BatchPart]) -> Batch:
    """The batch `number` of `parts`."""
    return Batch(number=number, parts=list(parts))


def make_simple_batch(number: int, records: Sequence[bytes], *, output: str) -> Batch:
    """A batch of one part, for one output."""
    return make_batch(number, [make_part(records, outputs=[output], blob=number)])
