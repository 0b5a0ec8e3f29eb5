"""Notifications as records of an output: batches of their own, numbered by the file of notifications.

The output is made a second time, with a folder or connections of its own, and is asked when it is opened
what it has: so a file gets every record exactly once, and a wire whatever it promises for records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnusable
from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, TenantId
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_document import document_of
from m365watch.notifications.notification_text import iso_of
from m365watch.records.headers import read_headers
from m365watch.registry.channel_specs import Sent
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output, TellsRecords

TABLE = "cloud.office365.alerts"
"""Devo's name of the table that the records are of."""
RECORDS_AT_ONCE = 200
NAME_SUFFIX = "-alerts"
"""What the second output is called after, of which the name of the first is the beginning."""


class RecordSender:
    """Hands batches of records to the output."""

    at_once_max = RECORDS_AT_ONCE

    def __init__(
        self,
        output: OutputSettings,
        *,
        build: Callable[[OutputSettings], Output],
        collector: str,
        clock: Clock,
    ) -> None:
        """`build` makes outputs; nothing is touched before `open`."""
        self._settings = output.for_alerts(f"{output.name}{NAME_SUFFIX}", TABLE)
        self._build = build
        self._made: Output | None = None
        self._collector = collector
        self._clock = clock
        self._position = ""

    async def open(self, *, last: int, position: str, newest: int) -> int:
        """The number of the last batch that the output has. Raises: OutputUnusable, OutputUnavailable."""
        self._position = position
        await self.close()
        self._made = self._build(self._settings)
        if not newest and isinstance(self._made, TellsRecords):
            # The file of notifications is new. What is there is of one that was lost: it stays, and counts.
            last = newest = await self._made.take_over()
        return await self._made.open(last_batch=last, position=position, newest_batch=newest)

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:
        """Deliver the batch. Raises: OutputUnavailable, OutputUnusable."""
        batch = self._batch(number, notifications)
        places = {record: place for place, record in enumerate(batch.parts[0].records)}
        if self._made is None:
            raise OutputUnusable("it is not open", fix="open it first", where=self._settings.name)
        receipt = await self._made.deliver(batch)
        self._position = receipt.position or self._position
        refused = {places[one.record]: one.reason for one in receipt.refused if one.record in places}
        return Sent(refused, self._position)

    async def check(self) -> str:
        """The output itself is tried by whoever tries the outputs."""
        return f"output {self._settings.name.removesuffix(NAME_SUFFIX)}, which is tried with the outputs"

    async def close(self) -> None:
        """Leave in order."""
        if self._made is not None:
            made, self._made = self._made, None
            await made.close()

    def _batch(self, number: int, notifications: Sequence[Notification]) -> Batch:
        records = [record_of(one, collector=self._collector) for one in notifications]
        headers = read_headers(b"[" + b",".join(records) + b"]", records, wide=True) or []
        feed = Feed(TenantId(_tenant_of(notifications)), ContentType.GENERAL)
        now = self._clock.now()
        part = BatchPart(
            blob=BlobKey(number),
            feed=feed,
            received_at=now,
            records=records,
            headers=headers,
            tables=[TABLE] * len(records),
            missing_outputs=frozenset({self._settings.name}),
        )
        return Batch(number, [part])


def _tenant_of(notifications: Sequence[Notification]) -> str:
    tenants = {one.standing.alert.tenant for one in notifications if one.standing is not None}
    return tenants.pop() if len(tenants) == 1 else ""


def record_of(notification: Notification, *, collector: str) -> bytes:
    """One line of JSON with the fields that every record has, and the notification's own."""
    standing = notification.standing
    head: dict[str, Any] = {
        "CreationTime": iso_of(notification.made_at_ms),
        "Id": notification.key,
        "Operation": "AlertDigest" if standing is None else f"Alert{str(notification.tiding).title()}",
        "OrganizationId": "" if standing is None else standing.alert.tenant,
        "UserId": "" if standing is None else standing.alert.entity("user"),
        "Workload": "M365watch",
    }
    return msgspec.json.encode(head | document_of(notification, collector=collector))
