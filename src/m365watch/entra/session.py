"""The one HTTP session of a process: it sends a request and gives the whole answer, or says why not.

It never follows a redirect, keeps no cookie and reads no `.netrc`, so that a token goes only
where it was sent. A body is inflated at once, not as it drips in: that costs the least CPU.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from m365watch import __version__
from m365watch.entra.inflate import inflate
from m365watch.entra.proxies import proxy_for
from m365watch.errors import BadAnswer, RetryLater, Unavailable

BODY_BYTES_MAX = 256 << 20
"""The largest body that is taken, before and after it is inflated."""

CONNECTIONS_MAX = 128
"""Open connections of the process, all tenants together."""

CONNECT_S = 30.0
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

    def __init__(self, client: aiohttp.ClientSession, *, body_bytes_max: int) -> None:
        """`client` is closed with the session."""
        self._client = client
        self._body_bytes_max = body_bytes_max

    async def send(
        self, method: str, url: URL, *, headers: Mapping[str, str], where: str, form: bytes | None = None
    ) -> Answer:
        """The answer, whatever its status. `url` goes out as it is; a POST always says its length.

        Raises: Unavailable (no connection, time-out, reset); BadAnswer (cut short, damaged, too large).
        """
        proxy = proxy_for(url.scheme, url.host or "")
        body = b"" if form is None and method == "POST" else form
        try:
            async with self._client.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                proxy=proxy.url if proxy else None,
                proxy_headers=proxy.headers if proxy else None,
            ) as response:
                received = await self._read(response, where=where)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(error, where=where) from None
        encoding = response.headers.get("Content-Encoding")
        if encoding and received and encoding.lower() != "identity":
            received = await inflate(received, encoding, bytes_max=self._body_bytes_max, where=where)
        return Answer(response.status, response.headers, received)

    async def _read(self, response: aiohttp.ClientResponse, *, where: str) -> bytes:
        chunks: list[bytes] = []
        room_bytes = self._body_bytes_max
        while chunk := await response.content.readany():
            chunks.append(chunk)
            room_bytes -= len(chunk)
            if room_bytes < 0:
                raise BadAnswer(f"the body is larger than {self._body_bytes_max} bytes", where=where)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

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
    client = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max),
        timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, sock_read=stall_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"m365watch/{__version__}",
        },
        skip_auto_headers=("Content-Type",),
    )
    return Session(client, body_bytes_max=body_bytes_max)


_FAILURES: tuple[tuple[type[Exception], type[RetryLater], str], ...] = (
    (aiohttp.ClientPayloadError, BadAnswer, "the body was cut short"),
    (aiohttp.ClientHttpProxyError, Unavailable, "the proxy answered HTTP {error.status}"),
    (aiohttp.ClientResponseError, BadAnswer, "the answer is not HTTP"),
    (TimeoutError, Unavailable, "no answer in time"),
    (aiohttp.ClientConnectorCertificateError, Unavailable, "the server's certificate was not accepted"),
    (ssl.SSLError, Unavailable, "the server's TLS was not accepted"),
    (aiohttp.ClientProxyConnectionError, Unavailable, "the proxy cannot be reached"),
    (aiohttp.ClientConnectorDNSError, Unavailable, "the host's name cannot be resolved"),
    (aiohttp.ClientConnectorError, Unavailable, "no connection ({error.strerror})"),
    (Exception, Unavailable, "the connection was broken"),
)
"""What the library's errors mean for the caller, special ones first."""


def _failure(error: Exception, *, where: str) -> RetryLater:
    """`error` in our own words: the library's may quote headers."""
    _, becomes, what = next(row for row in _FAILURES if isinstance(error, row[0]))
    return becomes(what.format(error=error), where=where)
