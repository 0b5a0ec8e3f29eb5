"""The one HTTP session of a process: it sends a request and gives the whole answer, or says why not.

It never follows a redirect, keeps no cookie and reads no `.netrc`, so that a token goes only
where it was sent. A body is inflated at once, not as it drips in: that costs the least CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from yarl import URL

from m365watch.common.errors import RetryLater
from m365watch.http.client import inflate
from m365watch.http.pool import ConnectionPool
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.transport import ExchangeFailed, Failure, Looks, RawAnswer, Transport

if TYPE_CHECKING:
    from m365watch.http.probe import Looked

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

    An answer may give no byte for as long as the network's `read_timeout_s` says, and not above `stall_s`; a
    slow drip is no stall.
    """

    def open_way(way: NetworkSettings) -> ConnectionPool:
        return ConnectionPool(
            connections_max=connections_max,
            body_bytes_max=body_bytes_max,
            stall_s=min(stall_s, way.read_timeout_s),
            total_s=total_s,
            network=way,
        )

    return Ways(open_way, body_bytes_max=body_bytes_max).to(network)
