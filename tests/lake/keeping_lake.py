"""A lake for the tests of its upkeep: several days, tables and persons, many small files."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

from lake_place import WRITER_ID
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.outputs.lake.lake_output import app_id_of
from m365watch_testing.batches import make_batch, make_part

TODAY = date(2026, 11, 24)
EXCHANGE = "cloud.office365.management.exchange"
SHAREPOINT = "cloud.office365.management.sharepoint"
APP_ID = app_id_of("lake", WRITER_ID)
ANNA = "anna@contoso.example"
BATCHES_A_DAY = 3
RECORDS_A_BATCH = 24
__all__ = ["ANNA", "EXCHANGE", "SHAREPOINT", "Retention", "TableRetention"]


class FixedClock:
    """Noon of `TODAY`; a wait moves it on at once."""

    def __init__(self, now: datetime | None = None) -> None:
        self.elapsed_s = 0.0
        self._now = now or datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now + timedelta(seconds=self.elapsed_s)

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.elapsed_s += seconds


def a_record(number: int, *, day: date, **fields: object) -> bytes:
    """The `number`th record, of Exchange and SharePoint in turn, by one of six persons in turn."""
    at = datetime(day.year, day.month, day.day, 8, tzinfo=UTC) + timedelta(seconds=number % 3600)
    who = ("anna", "joanna", "ben", "carla", "dora", "emil")[number % 6]
    record = {
        "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
        "Id": str(UUID(int=number)),
        "Operation": "FileAccessed",
        "RecordType": 6,
        "Workload": ("Exchange", "SharePoint")[number // 6 % 2],
        "UserId": f"{who}@contoso.example",
        "ObjectId": f"document {number}",
    }
    return json.dumps(record | fields).encode()


def write(writer: AuditWriter, number: int, records: list[bytes]) -> None:
    """Append one batch."""
    writer.append(make_batch(number, [make_part(records, outputs=["lake"], blob=number)]))


def fill_days(directory: Path, days: int, *, batches_a_day: int = BATCHES_A_DAY) -> list[bytes]:
    """A lake of `days` days up to `TODAY`; its records. The batches are numbered from 1."""
    writer = AuditWriter(directory, app_id=APP_ID)
    everything: list[bytes] = []
    number = 0
    for back in reversed(range(days)):
        for _ in range(batches_a_day):
            number += 1
            start = number * RECORDS_A_BATCH
            records = [
                a_record(one, day=TODAY - timedelta(days=back))
                for one in range(start, start + RECORDS_A_BATCH)
            ]
            write(writer, number, records)
            everything += records
    return everything


def field_of(record: bytes, name: str) -> str:
    """A field of a record."""
    value: str = json.loads(record)[name]
    return value
