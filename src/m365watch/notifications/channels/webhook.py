"""Notifications over HTTP: webhook, Slack, Teams and PagerDuty, and what their answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from yarl import URL

from m365watch import __version__
from m365watch.common.backoff import is_for_later
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, NotificationsRefused, RetryLater, Throttled, Unavailable
from m365watch.common.text import plain
from m365watch.config.models.targets import PagerDutyTarget, SlackTarget, TeamsTarget, WebhookTarget
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s
from m365watch.http.transport import ExchangeFailed
from m365watch.notifications.channel_port import Sent
from m365watch.notifications.channels.pagerduty import pagerduty_payload
from m365watch.notifications.channels.signature import KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from m365watch.notifications.channels.slack import slack_payload
from m365watch.notifications.channels.teams import teams_payload
from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_database import Outgoing
from m365watch.notifications.notification_document import document_of
from m365watch.notifications.notification_text import shortened

PostTarget = WebhookTarget | SlackTarget | TeamsTarget | PagerDutyTarget

ANSWER_CHARACTERS_MAX = 120
"""What is repeated of an answer that says no."""

_NEVER = frozenset({400, 413, 422})
"""What is wrong with this notification, and not with the next."""
_CURES = {
    WebhookTarget: "correct webhook_url, signing_secret or token, or see to the receiver",
    SlackTarget: "make a new incoming webhook in Slack, and give its URL as webhook_url",
    TeamsTarget: "save the workflow again in Teams, and give the URL that it shows as webhook_url",
    PagerDutyTarget: "give the integration key of a service's Events API v2 as routing_key",
}


@dataclass(frozen=True, slots=True)
class _Post:
    """What is sent."""

    url: URL
    headers: Mapping[str, str]
    body: bytes


class PostSender:
    """Posts each notification; a 2xx says that the target has it."""

    at_once_max = 1

    def __init__(self, target: PostTarget, session: Session, *, collector: str, clock: Clock) -> None:
        """`session` leads by any network; `collector` is the collector's name."""
        self._target = target
        self._session = session.over(target.network)
        self._collector = collector
        self._clock = clock
        self._where = f"notifications {target.name}"
        self._url = URL(
            target.endpoint if isinstance(target, PagerDutyTarget) else target.url.reveal(), encoded=True
        )

    async def open(self, *, last: int, position: str, newest: int) -> int:  # noqa: ARG002 - it keeps nothing
        """Nothing to make ready; what the target has cannot be told."""
        return last

    async def send(self, outgoing: Outgoing) -> Sent:
        """Post it. Raises: RetryLater, NotificationsRefused."""
        [notification] = outgoing.notifications
        post = self._post(notification)
        answer = await self._session.send(
            "POST", post.url, headers=post.headers, form=post.body, where=self._where
        )
        if 200 <= answer.status < 300:
            return Sent()
        if answer.status in _NEVER and not _is_about_us(answer):
            return Sent({0: f"HTTP {answer.status}{_said(answer)}"})
        raise self._error(answer)

    async def look(self) -> str:
        """Whether the host answers over verified TLS. Raises: Unavailable."""
        host = self._url.host
        if self._url.scheme != "https":
            return await self._look_at_this_machine()
        try:
            await self._session.look(self._url.origin())
        except ExchangeFailed as error:
            raise Unavailable(f"{host}: {error}", where=self._where) from None
        return f"{host} answers over TLS; nothing was posted"

    async def _look_at_this_machine(self) -> str:
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

    def _post(self, notification: Notification) -> _Post:
        target, headers = self._target, {"Content-Type": "application/json"}
        headers["User-Agent"] = f"m365watch/{__version__}"
        match target:
            case WebhookTarget():
                body = msgspec.json.encode(document_of(notification, collector=self._collector))
                headers |= self._proof(target, notification, body)
            case SlackTarget():
                body = msgspec.json.encode(slack_payload(notification, collector=self._collector))
            case TeamsTarget():
                body = msgspec.json.encode(teams_payload(notification, collector=self._collector))
            case PagerDutyTarget():
                key = target.routing_key.reveal()
                body = msgspec.json.encode(
                    pagerduty_payload(notification, routing_key=key, collector=self._collector)
                )
        return _Post(self._url, headers, body)

    def _proof(self, target: WebhookTarget, notification: Notification, body: bytes) -> dict[str, str]:
        """The headers by which the receiver knows who posts, and whether it had this before."""
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {KEY_HEADER: notification.key, TIMESTAMP_HEADER: timestamp}
        if target.signing_secret is not None:
            secret = target.signing_secret.reveal()
            headers[SIGNATURE_HEADER] = sign(secret, timestamp=timestamp, body=body)
        if target.token is not None:
            headers["Authorization"] = f"Bearer {target.token.reveal()}"
        return headers

    def _error(self, answer: Answer) -> RetryLater | NotificationsRefused:
        what = f"the receiver answered HTTP {answer.status}{_said(answer)}"
        after_s = retry_after_s(answer.headers, now=self._clock.now())
        if answer.status == 429:
            return Throttled(what, where=self._where, after_s=after_s)
        if is_for_later(answer.status):
            return Unavailable(what, where=self._where, after_s=after_s)
        if answer.status < 200:
            return BadAnswer(what, where=self._where)
        return NotificationsRefused(what, fix=_CURES[type(self._target)], where=self._where)


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
