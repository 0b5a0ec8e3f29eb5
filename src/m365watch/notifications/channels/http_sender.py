"""Notifications posted over HTTP, and what the answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from pydantic import SecretStr
from yarl import URL

from m365watch import __version__
from m365watch.common.backoff import is_for_later
from m365watch.common.errors import BadAnswer, NotificationsRefused, RetryLater, Throttled, Unavailable
from m365watch.common.text import plain
from m365watch.http.client import Answer
from m365watch.http.retry_after import retry_after_s
from m365watch.http.transport import ExchangeFailed
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_text import shortened
from m365watch.registry.channel_specs import Channel, ChannelContext, Sent

ANSWER_CHARACTERS_MAX = 120
"""What is repeated of an answer that says no."""

_NEVER = frozenset({400, 413, 422})
"""What is wrong with this notification, and not with the next."""


class HttpSender:
    """Posts each notification; a 2xx says that the target has it."""

    at_once_max = 1

    def __init__(
        self,
        channel: Channel[Any],
        context: ChannelContext,
        *,
        url: str | SecretStr,
        payload: Callable[[Notification], Mapping[str, Any]],
        fix: str,
        proof: Callable[[Notification, bytes], Mapping[str, str]] = lambda *_: {},
    ) -> None:
        """`payload` makes the JSON, `proof` headers for its bytes; `fix` is what to do if it refuses us."""
        self._session = context.session.over(channel.network)
        self._clock = context.clock
        self._where = f"notifications {channel.name}"
        self._url = URL(url if isinstance(url, str) else url.get_secret_value(), encoded=True)
        self._payload = payload
        self._proof = proof
        self._fix = fix

    async def open(self, *, last: int, position: str, newest: int) -> int:  # noqa: ARG002 - it keeps nothing
        """Nothing to make ready; what the target has cannot be told."""
        return last

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:  # noqa: ARG002
        """Post it. Raises: RetryLater, NotificationsRefused."""
        [notification] = notifications
        body = msgspec.json.encode(self._payload(notification))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"m365watch/{__version__}",
            **self._proof(notification, body),
        }
        answer = await self._session.send("POST", self._url, headers=headers, form=body, where=self._where)
        if 200 <= answer.status < 300:
            return Sent()
        if answer.status in _NEVER and not _is_about_us(answer):
            return Sent({0: f"HTTP {answer.status}{_said(answer)}"})
        raise self._error(answer)

    async def check(self) -> str:
        """Whether the host answers over verified TLS. Raises: Unavailable."""
        host = self._url.host
        if self._url.scheme != "https":
            return await self._check_this_machine()
        try:
            await self._session.look(self._url.origin())
        except ExchangeFailed as error:
            raise Unavailable(f"{host}: {error}", where=self._where) from None
        return f"{host} answers over TLS; nothing was posted"

    async def _check_this_machine(self) -> str:
        """Whether somebody listens at the port, for http is for loopback only."""
        host, port = self._url.host or "", self._url.port
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            what = f"{host}:{port}: {error.strerror or 'no connection'}"
            raise Unavailable(what, where=self._where) from None
        writer.close()
        return f"{host}:{port} on this machine takes connections; nothing was posted"

    async def close(self) -> None:
        """The session is its owner's."""

    def _error(self, answer: Answer) -> RetryLater | NotificationsRefused:
        what = f"the receiver answered HTTP {answer.status}{_said(answer)}"
        after_s = retry_after_s(answer.headers, now=self._clock.now())
        if answer.status == 429:
            return Throttled(what, where=self._where, after_s=after_s)
        if is_for_later(answer.status):
            return Unavailable(what, where=self._where, after_s=after_s)
        if answer.status < 200:
            return BadAnswer(what, where=self._where)
        return NotificationsRefused(what, fix=self._fix, where=self._where)


def _said(answer: Answer) -> str:
    """What a short answer in plain text says, as Slack's do; pages and documents are left out."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text = answer.body[: ANSWER_CHARACTERS_MAX * 4].decode("utf-8", "replace").strip()
    if kind not in {"text/plain", "application/json"} or not text or text[:1] == "<":
        return ""
    return f": {shortened(plain(text), ANSWER_CHARACTERS_MAX)}"


def _is_about_us(answer: Answer) -> bool:
    """Whether a refusal is of the target's key, not of the notification: PagerDuty answers 400 to both."""
    return b"routing_key" in answer.body or b"routing key" in answer.body.lower()
