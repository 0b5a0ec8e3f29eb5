"""Devo's HTTP endpoint: where a tag's lines are posted, and what its answers mean."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from isal import isal_zlib
from yarl import URL

from m365watch import __version__
from m365watch.common.backoff import is_for_later
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    ConnectionClosed,
    OutputClosed,
    OutputUnavailable,
    OutputUnusable,
    RetryLater,
)
from m365watch.common.model import Batch, BlobKey, Receipt, RefusedRecord
from m365watch.common.text import one_line
from m365watch.config.defaults import MEBIBYTE_BYTES
from m365watch.http.client import Answer, Session, open_session
from m365watch.http.retry_after import retry_after_s
from m365watch.outputs.devo.line_format import add_fields, list_fields
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.devo_http.spec import DevoHttpSection
from m365watch.outputs.network.connection_status import Condition

_GZIP_LEVEL = 1
_GZIP = 31
_TOO_LARGE = 413
_TOKEN = ("the token is refused", "set `token` to one that may send over HTTP to this domain")
_MENDS = {
    401: _TOKEN,
    403: _TOKEN,
    404: ("the address is not known there", "correct `endpoint` and `domain`"),
}
_REDIRECTED = ("a redirect is not followed, since the address carries the token", "correct `endpoint`")
_UNKNOWN = ("the request is refused", "check `endpoint`, `domain`, `token` and the tags")
"""What each answer means, and what a person has to do about it."""


class Endpoint:
    """Posts lines. The token is part of the address, so no address is in any error."""

    def __init__(self, settings: DevoHttpSection, session: Session, *, clock: Clock) -> None:
        """`session` is not closed here."""
        self._config = settings.config
        self._host = settings.host
        self._session = session
        self._clock = clock
        self._where = f"output {settings.name}"

    async def post(self, tag: str, body: bytes) -> bool:
        """Whether the endpoint has taken `body`; False where that is too large for it.

        Raises: OutputUnusable: a person has to act; OutputUnavailable: anything else. What was sent may
        have arrived all the same.
        """
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._config.compression == "gzip":
            packed = await asyncio.to_thread(isal_zlib.compress, body, _GZIP_LEVEL, _GZIP)
            if len(packed) < len(body):
                body = packed
                headers["Content-Encoding"] = "gzip"
        try:
            answer = await self._session.send(
                "POST", self._url(tag), headers=headers, where=self._where, form=body
            )
        except RetryLater as error:
            kind = OutputClosed if isinstance(error, ConnectionClosed) else OutputUnavailable
            raise kind(error.what, where=self._where) from None
        if 200 <= answer.status < 300:
            return True
        if answer.status == _TOO_LARGE:
            return False
        raise self._failure(answer)

    def _url(self, tag: str) -> URL:
        """Source: Devo's page of the HTTP endpoint, mode `stream`."""
        config = self._config
        token = quote(config.token.get_secret_value(), safe="")
        domain, host, tag = (quote(part, safe="") for part in (config.domain, self._host, tag))
        return URL(f"{config.endpoint}/stream/{domain}/token!{token}/{host}/{tag}", encoded=True)

    def _failure(self, answer: Answer) -> OutputUnavailable | OutputUnusable:
        """What an answer other than 2xx and 413 means for the batch."""
        status = answer.status
        what = f"Devo answered HTTP {status}{self._words(answer)}"
        if is_for_later(status):
            after_s = retry_after_s(answer.headers, now=self._clock.now())
            return OutputUnavailable(what, where=self._where, after_s=after_s)
        means, fix = _REDIRECTED if 300 <= status < 400 else _MENDS.get(status, _UNKNOWN)
        return OutputUnusable(f"{what}: {means}", fix=fix, where=self._where)

    def _words(self, answer: Answer) -> str:
        """The answer's own words, if they are words: without the token, on one line."""
        token = self._config.token.get_secret_value()
        said = answer.body.decode("utf-8", "replace")
        words = one_line(said, hide=(token, quote(token, safe="")))
        return f' ("{words}")' if words and not words.startswith("<") else ""


class Line(NamedTuple):
    """One record and the bytes that are sent for it."""

    blob: BlobKey
    record: bytes
    sent: bytes


@dataclass(frozen=True, slots=True)
class Post:
    """What one request carries."""

    tag: str
    lines: list[Line]

    def body(self) -> bytes:
        """One record a line."""
        return b"".join([line.sent + b"\n" for line in self.lines])

    def halves(self) -> tuple[Post, Post]:
        """The same lines in two posts; neither is empty if there are two lines."""
        middle = len(self.lines) // 2
        return Post(self.tag, self.lines[:middle]), Post(self.tag, self.lines[middle:])


@dataclass(slots=True)
class Delivery:
    """What of one batch the endpoint has not taken yet."""

    number: int
    lanes: dict[str, deque[Post]] = field(default_factory=dict)
    """The posts of each tag, in the order of the records."""
    refused: list[RefusedRecord] = field(default_factory=list)


def plan_posts(batch: Batch, tags: Tags, *, adds_devo_fields: bool, body_bytes_max: int) -> Delivery:
    """The posts of `batch`, each body at most `body_bytes_max`; a record that fits into none is refused."""
    delivery = Delivery(batch.number)
    room: dict[str, int] = {}
    for part in batch.parts:
        fields = list_fields(part) if adds_devo_fields else b""
        for record, table in zip(part.records, part.tables, strict=True):
            tag = tags.tag_of(table)
            line = Line(part.blob, record, add_fields(record, fields) if fields else record)
            size = len(line.sent) + 1
            if (reason := _refusal(record, size, body_bytes_max)) is not None:
                delivery.refused.append(RefusedRecord(part.blob, record, reason))
                continue
            lane = delivery.lanes.setdefault(tag, deque())
            if not lane or room[tag] < size:
                lane.append(Post(tag, []))
                room[tag] = body_bytes_max
            lane[-1].lines.append(line)
            room[tag] -= size
    return delivery


def _refusal(record: bytes, size: int, body_bytes_max: int) -> str | None:
    if b"\n" in record:
        return "a line break inside the record"
    if size > body_bytes_max:
        return f"a line of {size:,} bytes, more than the {body_bytes_max:,} of a request"
    return None


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

    def __init__(self, settings: DevoHttpSection, *, clock: Clock) -> None:
        """Nothing is connected before `open`."""
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._tags = Tags(settings)
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
        timeout_s = self._settings.config.timeout_secs
        self._session = open_session(
            self._settings.http_route[1],
            body_bytes_max=_ANSWER_BYTES_MAX,
            connections_max=REQUESTS_AT_ONCE_MAX,
            stall_s=timeout_s,
            total_s=timeout_s,
        )
        self._endpoint = Endpoint(self._settings, self._session, clock=self._clock)
        if self._settings.sends_events:
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
                body_bytes_max=self._settings.config.request_megabytes_max * MEBIBYTE_BYTES,
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
            async with asyncio.timeout(min(TRY_S, self._settings.config.timeout_secs)):
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
