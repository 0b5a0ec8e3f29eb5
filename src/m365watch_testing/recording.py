"""A transport that reaches nobody: it keeps each request as it would have left, and answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from multidict import CIMultiDict
from yarl import URL

from m365watch.http.transport import RawAnswer


@dataclass(frozen=True, slots=True)
class SentRequest:
    """One request, as the session gave it to its transport."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def line(self) -> str:
        """Method and whole address."""
        return f"{self.method} {self.url}"

    @property
    def place(self) -> tuple[str, str]:
        """Where a connection would be made to: scheme and authority, as they are written."""
        return self.url.scheme, self.url.raw_authority


@dataclass(slots=True)
class RecordingTransport:
    """Implements `entra.transport.Transport`."""

    answer: Callable[[SentRequest], RawAnswer]
    sent: list[SentRequest] = field(default_factory=list)
    """Every request, in order."""

    async def exchange(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None
    ) -> RawAnswer:
        """What `answer` says to the request, which is kept."""
        request = SentRequest(method, url, dict(headers), body)
        self.sent.append(request)
        return self.answer(request)

    async def close(self) -> None:
        """Nothing is open."""


def raw_answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> RawAnswer:
    """An answer as it comes from a connection."""
    return RawAnswer(status, CIMultiDict(headers or {}), body)
