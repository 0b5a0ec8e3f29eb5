"""The port below the session: one request to its host and the whole answer back, and why there was none."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from yarl import URL

from m365watch.common.errors import (
    AnswerTooLarge,
    BadAnswer,
    ConnectionClosed,
    RetryLater,
    Unavailable,
    Unreachable,
)

if TYPE_CHECKING:
    from m365watch.http.probe import Looked


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
    BODY_TOO_LARGE = (AnswerTooLarge, "the body is larger than {:,} bytes")
    PROXY_ANSWERED = (Unreachable, "the proxy answered HTTP {}")
    PROXY_REFUSED = (Unreachable, "the proxy answered HTTP 407: it wants a user name and a password it knows")
    PROXY_AWAY = (Unreachable, "the proxy cannot be reached")
    CERTIFICATE = (Unreachable, "the server's certificate was not accepted{}")
    TLS = (Unreachable, "the server's TLS was not accepted{}")
    AUTHORITIES = (Unreachable, "the CA bundle {}")
    NAME_UNKNOWN = (Unreachable, "the host's name cannot be resolved")
    NO_CONNECTION = (Unreachable, "no connection ({})")
    NO_OWN_ADDRESS = (Unreachable, "no connection from {}")
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


@runtime_checkable
class Looks(Protocol):
    """A transport that can also show what stands at the other end."""

    async def look(self, url: URL, *, verified: bool = True) -> Looked:
        """What the server of `url` shows of itself; not `verified`, nothing is asked of it.

        Raises: ExchangeFailed.
        """
        ...
