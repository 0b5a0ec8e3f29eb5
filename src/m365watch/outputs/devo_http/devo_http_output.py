"""Devo's HTTP endpoint: where a tag's lines are posted, and what its answers mean."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from isal import isal_zlib
from yarl import URL

from m365watch.common.backoff import is_for_later
from m365watch.common.clock import Clock
from m365watch.common.errors import (
    ConnectionClosed,
    OutputClosed,
    OutputUnavailable,
    OutputUnusable,
    RetryLater,
)
from m365watch.common.text import one_line
from m365watch.http.retry_after import retry_after_s
from m365watch.http.session import Answer, Session
from m365watch.outputs.devo_http.spec import DevoHttpSettings

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

    def __init__(self, settings: DevoHttpSettings, session: Session, *, clock: Clock) -> None:
        """`session` is not closed here."""
        self._settings = settings
        self._session = session
        self._clock = clock
        self._where = f"output {settings.name}"

    async def post(self, tag: str, body: bytes) -> bool:
        """Whether the endpoint has taken `body`; False where that is too large for it.

        Raises: OutputUnusable: a person has to act; OutputUnavailable: anything else. What was sent may
        have arrived all the same.
        """
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if self._settings.compresses:
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
        settings = self._settings
        token = quote(settings.token.reveal(), safe="")
        domain, host, tag = (quote(part, safe="") for part in (settings.domain, settings.host, tag))
        return URL(f"{settings.endpoint}/stream/{domain}/token!{token}/{host}/{tag}", encoded=True)

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
        token = self._settings.token.reveal()
        said = answer.body.decode("utf-8", "replace")
        words = one_line(said, hide=(token, quote(token, safe="")))
        return f' ("{words}")' if words and not words.startswith("<") else ""
