"""The body of an answer as its sender meant it, never larger than a bound."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from isal import isal_zlib
from yarl import URL

from m365watch.common.errors import AnswerTooLarge, BadAnswer, RetryLater
from m365watch.http.aiohttp_transport import ConnectionPool
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.transport import ExchangeFailed, Failure, Looks, RawAnswer, Transport

if TYPE_CHECKING:
    from m365watch.http.probe import Looked


_GZIP_OR_ZLIB = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_AWAY_FROM_LOOP_BYTES = 1 << 17
"""Compressed bodies from this size on would hold up the loop: for 2 ms where they are like audit records,
for 0.1 s where they are made to."""

_STEP_BYTES = 1 << 17
"""Compressed bytes that are inflated in one go."""

_MEMBERS_MAX = 1_024
"""Members of one gzip body; a body of empty members could keep a core busy for long."""


async def inflate(body: bytes, encoding: str, *, bytes_max: int, where: str) -> bytes:
    """`body` without its content encoding: gzip or deflate, whole, at most `bytes_max`.

    Raises: BadAnswer for another encoding, a body cut short or damaged, or one that is too large.
    """
    window_bits = _GZIP_OR_ZLIB.get(encoding.strip().lower())
    if window_bits is None:
        raise BadAnswer("the body has a content encoding that was not asked for", where=where)
    if len(body) < _AWAY_FROM_LOOP_BYTES:
        return _inflate_whole(body, window_bits, bytes_max=bytes_max, where=where)
    return await asyncio.to_thread(_inflate_whole, body, window_bits, bytes_max=bytes_max, where=where)


def _inflate_whole(body: bytes, window_bits: int, *, bytes_max: int, where: str) -> bytes:
    parts: list[bytes] = []
    room_bytes, members, at = bytes_max, 0, 0
    inflater = isal_zlib.decompressobj(window_bits)
    while at < len(body):
        if inflater.eof:
            members += 1
            if members == _MEMBERS_MAX:
                raise BadAnswer(f"the compressed body has more than {_MEMBERS_MAX} members", where=where)
            inflater = isal_zlib.decompressobj(window_bits)
        # Bounded, because what a member leaves over of its step is copied.
        step = body[at : at + _STEP_BYTES]
        try:
            part = inflater.decompress(step, room_bytes + 1)
        except isal_zlib.error:  # type: ignore[misc]  # Its stub calls the class an instance.
            raise BadAnswer("the compressed body is damaged", where=where) from None
        room_bytes -= len(part)
        if room_bytes < 0:
            raise AnswerTooLarge(f"the body is larger than {bytes_max:,} bytes", where=where)
        parts.append(part)
        at += len(step) - len(inflater.unused_data)
    if not inflater.eof:
        raise BadAnswer("the compressed body is cut short", where=where)
    return parts[0] if len(parts) == 1 else b"".join(parts)


BODY_BYTES_MAX = 256 << 20
"""The largest body that is taken, before and after it is inflated."""

CONNECTIONS_MAX = 128
"""Open connections of all tenants together that are reached in the same way."""

TOTAL_S = 900.0
"""How long one request may take, whatever it does."""


class Answer(NamedTuple):
    """A whole answer of a server."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes
    """Without its content encoding."""


class Session:
    """Sends requests; made by `open_session`, shared by every tenant."""

    def __init__(self, transport: Transport, *, body_bytes_max: int, ways: Ways | None = None) -> None:
        """`transport` is closed with the session, or with the `ways` that the session is one of.

        Without these it stands for every network.
        """
        self._transport = transport
        self._body_bytes_max = body_bytes_max
        self._ways = ways

    def over(self, network: NetworkSettings) -> Session:
        """The session that reaches servers as `network` says; closed with this one.

        Whoever asks for one network twice gets the same connections.
        """
        return self if self._ways is None else self._ways.to(network)

    async def send(
        self, method: str, url: URL, *, headers: Mapping[str, str], where: str, form: bytes | None = None
    ) -> Answer:
        """The answer, whatever its status. `url` goes out as it is; a POST always says its length.

        Raises: Unavailable (no connection, time-out, reset); BadAnswer (cut short, damaged, too large).
        """
        body = b"" if form is None and method == "POST" else form
        failed: RetryLater
        try:
            return await self._opened(
                await self._transport.exchange(method, url, headers=headers, body=body), where=where
            )
        except ExchangeFailed as error:
            failed = error.failure.kind(str(error), where=where)
        # Out here it does not hold the frames below, and with them the request.
        raise failed

    async def look(self, url: URL, *, verified: bool = True) -> Looked:
        """What the server of `url` shows of itself: TLS, certificate and time, by the way of every request.

        Not `verified`, any certificate is taken, and nothing is asked.

        Raises: ExchangeFailed.
        """
        if not isinstance(self._transport, Looks):
            raise ExchangeFailed(Failure.NO_CONNECTION, "this transport shows nothing")
        return await self._transport.look(url, verified=verified)

    async def _opened(self, answer: RawAnswer, *, where: str) -> Answer:
        received = answer.body
        encoding = answer.headers.get("Content-Encoding")
        if encoding and received and encoding.lower() != "identity":
            received = await inflate(received, encoding, bytes_max=self._body_bytes_max, where=where)
        return Answer(answer.status, answer.headers, received)

    async def close(self) -> None:
        """Close every connection, also those of the sessions that came from it by `over`."""
        await (self._transport if self._ways is None else self._ways).close()

    async def __aenter__(self) -> Self:
        """The session itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self.close()


class Ways:
    """The sessions of one process, by the network that each leads by."""

    def __init__(self, open_way: Callable[[NetworkSettings], Transport], *, body_bytes_max: int) -> None:
        """`open_way` is called once for each network, when it is first asked for."""
        self._open_way = open_way
        self._body_bytes_max = body_bytes_max
        self._opened: dict[NetworkSettings, tuple[Session, Transport]] = {}

    def to(self, network: NetworkSettings) -> Session:
        """The session that leads by `network`."""
        if network not in self._opened:
            transport = self._open_way(network)
            session = Session(transport, body_bytes_max=self._body_bytes_max, ways=self)
            self._opened[network] = session, transport
        return self._opened[network][0]

    async def close(self) -> None:
        """Close every connection of all of them."""
        for _, transport in tuple(self._opened.values()):
            await transport.close()


def open_session(
    network: NetworkSettings = UNSET_NETWORK,
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
    connections_max: int = CONNECTIONS_MAX,
    stall_s: float = math.inf,
    total_s: float = TOTAL_S,
) -> Session:
    """A session of the running loop; whoever opens it closes it.

    An answer may give no byte for as long as the network's `read_timeout_in_seconds` says, and not above
    `stall_s`; a slow drip is no stall.
    """

    def open_way(way: NetworkSettings) -> ConnectionPool:
        return ConnectionPool(
            connections_max=connections_max,
            body_bytes_max=body_bytes_max,
            stall_s=min(stall_s, way.read_timeout_in_seconds),
            total_s=total_s,
            network=way,
        )

    return Ways(open_way, body_bytes_max=body_bytes_max).to(network)
