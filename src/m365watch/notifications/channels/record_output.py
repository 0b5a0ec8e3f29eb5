"""Notifications as records of an output: batches of their own, numbered by the file of notifications.

The output is made a second time, with a folder or connections of its own, and is asked when it is opened
what it has: so a file gets every record exactly once, and a wire whatever it promises for records.
"""

from __future__ import annotations

from collections.abc import Callable

from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnusable
from m365watch.common.model import Batch, BatchPart, BlobKey, ContentType, Feed, TenantId
from m365watch.config.models.targets import OutputTarget
from m365watch.notifications.channel_port import Sent
from m365watch.notifications.channels.records import TABLE, record_of
from m365watch.notifications.notification_database import Outgoing
from m365watch.records.headers import read_headers
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output, TellsRecords

RECORDS_AT_ONCE = 200
NAME_SUFFIX = "-alerts"
"""What the second output is called after, of which the name of the first is the beginning."""


class RecordSender:
    """Hands batches of records to the output."""

    at_once_max = RECORDS_AT_ONCE

    def __init__(
        self,
        target: OutputTarget,
        *,
        build: Callable[[OutputSettings], Output],
        collector: str,
        clock: Clock,
    ) -> None:
        """`build` makes outputs; nothing is touched before `open`."""
        self._settings = target.output.for_alerts(f"{target.output.name}{NAME_SUFFIX}", TABLE)
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

    async def send(self, outgoing: Outgoing) -> Sent:
        """Deliver the batch. Raises: OutputUnavailable, OutputUnusable."""
        batch = self._batch(outgoing)
        places = {record: place for place, record in enumerate(batch.parts[0].records)}
        if self._made is None:
            raise OutputUnusable("it is not open", fix="open it first", where=self._settings.name)
        receipt = await self._made.deliver(batch)
        self._position = receipt.position or self._position
        refused = {places[one.record]: one.reason for one in receipt.refused if one.record in places}
        return Sent(refused, self._position)

    async def look(self) -> str:
        """The output itself is tried by whoever tries the outputs."""
        return f"output {self._settings.name.removesuffix(NAME_SUFFIX)}, which is tried with the outputs"

    async def close(self) -> None:
        """Leave in order."""
        if self._made is not None:
            made, self._made = self._made, None
            await made.close()

    def _batch(self, outgoing: Outgoing) -> Batch:
        records = [record_of(one, collector=self._collector) for one in outgoing.notifications]
        headers = read_headers(b"[" + b",".join(records) + b"]", records, wide=True) or []
        feed = Feed(TenantId(_tenant_of(outgoing)), ContentType.GENERAL)
        now = self._clock.now()
        part = BatchPart(
            blob=BlobKey(outgoing.number),
            feed=feed,
            received_at=now,
            records=records,
            headers=headers,
            tables=[TABLE] * len(records),
            missing_outputs=frozenset({self._settings.name}),
        )
        return Batch(outgoing.number, [part])


def _tenant_of(outgoing: Outgoing) -> str:
    tenants = {one.standing.alert.tenant for one in outgoing.notifications if one.standing is not None}
    return tenants.pop() if len(tenants) == 1 else ""
