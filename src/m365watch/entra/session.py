"""The one HTTP session of a process: it sends a request and gives the whole answer, or says why not.

It never follows a redirect, keeps no cookie and reads no `.netrc`, so that a token goes only
where it was sent. A body is inflated at once, not as it drips in: that costs the least CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from yarl import URL

from m365watch.entra.inflate import inflate
from m365watch.entra.pool import ConnectionPool
from m365watch.entra.transport import ExchangeFailed, RawAnswer, Transport
from m365watch.errors import RetryLater

if TYPE_CHECKING:
    from m365watch.entra.looking import Looked

BODY_BYTES_MAX = 256 << 20
"""The largest body that is taken, before and after it is inflated."""

CONNECTIONS_MAX = 128
"""Open connections of the process, all tenants together."""

STALL_S = 60.0
"""How long an answer may give no byte at all; a slow drip is no stall."""

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

    def __init__(self, transport: Transport, *, body_bytes_max: int) -> None:
        """`transport` is closed with the session."""
        self._transport = transport
        self._body_bytes_max = body_bytes_max

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
        return await self._transport.look(url, verified=verified)

    async def _opened(self, answer: RawAnswer, *, where: str) -> Answer:
        received = answer.body
        encoding = answer.headers.get("Content-Encoding")
        if encoding and received and encoding.lower() != "identity":
            received = await inflate(received, encoding, bytes_max=self._body_bytes_max, where=where)
        return Answer(answer.status, answer.headers, received)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        """The session itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self.close()


def open_session(
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
    connections_max: int = CONNECTIONS_MAX,
    stall_s: float = STALL_S,
    total_s: float = TOTAL_S,
) -> Session:
    """A session of the running loop; whoever opens it closes it."""
    pool = ConnectionPool(
        connections_max=connections_max, body_bytes_max=body_bytes_max, stall_s=stall_s, total_s=total_s
    )
    return Session(pool, body_bytes_max=body_bytes_max)
