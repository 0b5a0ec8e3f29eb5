"""The `devo_http` output as the pipeline sees it: one batch at a time, several tags at once."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence

from m365watch import __version__
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.http.session import Session, open_session
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.devo_http.devo_http_output import Endpoint
from m365watch.outputs.devo_http.posts import Delivery, Post, plan_posts
from m365watch.outputs.devo_http.spec import DevoHttpSettings
from m365watch.outputs.network.connection_status import Condition

REQUESTS_AT_ONCE_MAX = 4
"""Requests of one batch that are open together, each of another tag."""

TRY_S = 10.0
"""How long the endpoint gets at `open` to show that it takes something."""

_ANSWER_BYTES_MAX = 1 << 20
_NOTICE_TAG = "devo.collectors.out.local.info"


class DevoHttpOutput:
    """Lines posted to Devo's HTTP endpoint.

    At least once: a request whose answer is lost may have arrived, and is posted again.
    """

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = True

    def __init__(self, settings: DevoHttpSettings, *, clock: Clock) -> None:
        """Nothing is connected before `open`."""
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._tags = Tags(settings.tags, where=f"output {settings.name}")
        self._session: Session | None = None
        self._endpoint: Endpoint | None = None
        self._delivery: Delivery | None = None
        self._condition = Condition(where=f"output {settings.name}", over="Devo takes what is posted again")

    @property
    def trouble(self) -> CollectorError | None:
        """Why the endpoint did not take what was posted last; None if it did, or nothing was posted."""
        return self._condition.trouble

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - it keeps none
        newest_batch: int | None = None,  # noqa: ARG002 - it finds nothing of an earlier run
    ) -> int:
        """Answer `last_batch`: what was posted can neither be found again nor taken back.

        Where notices are sent, one is posted to see whether the endpoint takes it: if not, that is told
        and stands in `trouble`.
        """
        timeout_s = self._settings.timeout_s
        self._session = open_session(
            self._settings.network,
            body_bytes_max=_ANSWER_BYTES_MAX,
            connections_max=REQUESTS_AT_ONCE_MAX,
            stall_s=timeout_s,
            total_s=timeout_s,
        )
        self._endpoint = Endpoint(self._settings, self._session, clock=self._clock)
        if self._settings.sends_notices:
            await self._try()
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Have every line of `batch` taken, but those that fit into no request.

        What was taken before a failure is not posted again with the same batch.

        Raises: OutputUnavailable, OutputUnusable: something of the batch was not taken.
        """
        if self._delivery is None or self._delivery.number != batch.number:
            self._delivery = plan_posts(
                batch,
                self._tags,
                adds_devo_fields=self._settings.adds_devo_fields,
                body_bytes_max=self._settings.request_bytes_max,
            )
        delivery = self._delivery
        try:
            await self._post_all(delivery)
        except (OutputUnavailable, OutputUnusable) as error:
            self._condition.note(self, error)
            raise
        self._condition.passed(self)
        self._delivery = None
        return Receipt(refused=tuple(delivery.refused))

    async def write_tagged(self, lines: Sequence[tuple[str, bytes]], /) -> None:
        """Post lines that are no records, each under its tag.

        Raises: OutputUnavailable, OutputUnusable: some of them were not taken.
        """
        by_tag: dict[str, list[bytes]] = {}
        for tag, line in lines:
            by_tag.setdefault(tag, []).append(line + b"\n")
        for tag, sent in by_tag.items():
            await self._reach().post(tag, b"".join(sent))
        if self._delivery is None:  # Otherwise there is a batch that is not taken, whatever else is.
            self._condition.passed(self)

    async def _try(self) -> None:
        """Post one notice, and take note of what comes of it."""
        line = json.dumps(
            {
                "msg": f"output {self.name}: the way to Devo is tried",
                "time": f"{self._clock.now():%Y-%m-%dT%H:%M:%S.%fZ}",
                "level": "info",
                "collector_version": __version__,
                "module_name": "outputs.devo_http",
            }
        )
        where = f"output {self.name}"
        try:
            async with asyncio.timeout(min(TRY_S, self._settings.timeout_s)):
                await self.write_tagged([(_NOTICE_TAG, line.encode())])
        except TimeoutError:
            self._condition.note(self, OutputUnavailable("no answer in time", where=where))
        except (OutputUnavailable, OutputUnusable) as error:
            self._condition.note(self, error)

    async def flush(self) -> None:
        """Nothing to find out: what was delivered was acknowledged."""

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = self._endpoint = None

    async def _post_all(self, delivery: Delivery) -> None:
        """Post what is left of every tag, the tags in turn, until all is taken or something fails."""
        waiting = deque(delivery.lanes.values())
        failures: list[OutputUnavailable | OutputUnusable] = []

        async def work() -> None:
            while waiting and not failures:
                lane = waiting.popleft()
                while lane and not failures:
                    try:
                        await self._post_next(lane, delivery)
                    except (OutputUnavailable, OutputUnusable) as error:
                        failures.append(error)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(REQUESTS_AT_ONCE_MAX, len(waiting))):
                tasks.create_task(work(), name=f"post {self.name}")
        if failures:
            raise failures[0]

    async def _post_next(self, lane: deque[Post], delivery: Delivery) -> None:
        """Post the first of `lane`; where it is too large, its halves take its place."""
        post = lane[0]
        body = post.body()
        taken = await self._reach().post(post.tag, body)
        lane.popleft()
        if taken:
            return
        if len(post.lines) > 1:
            lane.extendleft(reversed(post.halves()))
            return
        [line] = post.lines
        reason = f"the endpoint takes no request of {len(body)} bytes (HTTP 413)"
        delivery.refused.append(RefusedRecord(line.blob, line.record, reason))

    def _reach(self) -> Endpoint:
        if self._endpoint is None:
            raise OutputUnavailable("it is not open", where=f"output {self.name}")
        return self._endpoint
