"""The port below the session: one request to its host and the whole answer back, and why there was none."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from yarl import URL

from m365watch.errors import BadAnswer, ConnectionClosed, RetryLater, Unavailable


class RawAnswer(NamedTuple):
    """A whole answer as it came, its body still in its content encoding."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes


class Failure(Enum):
    """Why an exchange gave no whole answer: what that is to the caller, and in which words."""

    CUT_SHORT = (BadAnswer, "the body was cut short")
    NOT_HTTP = (BadAnswer, "the answer is not HTTP")
    HEAD_TOO_LARGE = (BadAnswer, "the answer's head is larger than {} bytes")
    BODY_TOO_LARGE = (BadAnswer, "the body is larger than {} bytes")
    PROXY_ANSWERED = (Unavailable, "the proxy answered HTTP {}")
    PROXY_REFUSED = (Unavailable, "the proxy answered HTTP 407: it wants a user name and a password it knows")
    PROXY_AWAY = (Unavailable, "the proxy cannot be reached")
    CERTIFICATE = (Unavailable, "the server's certificate was not accepted{}")
    TLS = (Unavailable, "the server's TLS was not accepted{}")
    AUTHORITIES = (Unavailable, "the CA bundle {}")
    NAME_UNKNOWN = (Unavailable, "the host's name cannot be resolved")
    NO_CONNECTION = (Unavailable, "no connection ({})")
    NO_OWN_ADDRESS = (Unavailable, "no connection from {}")
    OUT_OF_TIME = (Unavailable, "no answer in time")
    CLOSED = (ConnectionClosed, "the connection was broken: the server closed it")
    BROKEN = (Unavailable, "the connection was broken")

    def __init__(self, kind: type[RetryLater], words: str) -> None:
        """`words` may have a place for one detail."""
        self.kind = kind
        self.words = words


class ExchangeFailed(Exception):
    """An exchange gave no whole answer; it says so without any word of the request or the answer."""

    def __init__(self, failure: Failure, detail: object = "") -> None:
        """`detail` goes into the words of `failure`."""
        super().__init__(failure.words.format(detail))
        self.failure = failure


class Transport(Protocol):
    """Carries requests and answers."""

    async def exchange(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None
    ) -> RawAnswer:
        """The answer, whatever its status; a `body` that is not None is sent with its length.

        Raises: ExchangeFailed.
        """
        ...

    async def close(self) -> None:
        """Close every connection; what is under way fails."""
        ...
