"""A file of records as a source: each line is served as it stands, spread over the last days.

Source of the routes: api-contract 4.1.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path

import msgspec

from m365watch.common.model import ContentType
from m365watch_simulator.organization.records import SimulatedRecord

_EXCHANGE = frozenset({1, 2, 3, 19, 50})
_SHAREPOINT = frozenset({4, 6, 14, 36, 37, 54, 55, 56})
_DLP = frozenset({11, 13, 33, 63, 107})
_REST = timedelta(hours=1)


class _Route(msgspec.Struct):
    RecordType: int | str | None = None
    Workload: str | None = None


class ReplaySource:
    """The records of an NDJSON file, oldest line first, in even steps over `days` before `now`.

    What a record itself says about its time stays as it is; `happened_at` only says when the
    service got it. Blank lines are left out.
    """

    def __init__(self, path: Path, *, now: datetime, days: float) -> None:
        """Read the whole file.

        Raises: OSError: it cannot be read.
        """
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        start = now - timedelta(days=days)
        step = (now - _REST - start) / max(len(lines), 1)
        self._records = [
            SimulatedRecord(content_type_of_record(line), start + number * step, line)
            for number, line in enumerate(lines)
        ]

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """The lines that are given out for [start, end)."""
        return self._records[self._place(start) : self._place(end)]

    def _place(self, instant: datetime) -> int:
        return bisect_left(self._records, instant, key=attrgetter("happened_at"))


def content_type_of_record(record: bytes) -> ContentType:
    """In which content type the service publishes `record`, by Workload and RecordType."""
    try:
        route = msgspec.json.decode(record, type=_Route)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ContentType.GENERAL
    if route.RecordType in _DLP:
        return ContentType.DLP
    if route.Workload == "AzureActiveDirectory":
        return ContentType.AZURE_ACTIVE_DIRECTORY
    if route.Workload == "Exchange" and route.RecordType in _EXCHANGE:
        return ContentType.EXCHANGE
    if route.Workload in ("SharePoint", "OneDrive") and route.RecordType in _SHAREPOINT:
        return ContentType.SHAREPOINT
    return ContentType.GENERAL
