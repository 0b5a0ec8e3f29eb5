"""Posts to a real server on loopback: what it gets, and what its answers mean."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels_configured import channel_of, sender_of

from m365watch.common.errors import BadAnswer, NotificationsRefused, Throttled, Unavailable
from m365watch.http.client import open_session
from m365watch.registry.channel_specs import Channel, Sender, Sent
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.loopback import Fault, LoopbackServer, Received, Reply
from notify_scene import make_alert, new_of

SECRET = "a secret that both sides know"
Make = Callable[[str], Channel[Any]]


def webhook(url: str) -> Channel[Any]:
    url = f"{url}/in?sig=a%2Fb"
    return channel_of("webhook", "soc", webhook_url=url, signing_secret=SECRET, token="bearer")


def slack(url: str) -> Channel[Any]:
    return channel_of("slack", "chat", webhook_url=f"{url}/services/T/B/x")


def teams(url: str) -> Channel[Any]:
    url = f"{url}/workflows/x/triggers/manual/paths/invoke?sig=y"
    return channel_of("teams", "chat", webhook_url=url)


def pagerduty(url: str) -> Channel[Any]:
    return channel_of("pagerduty", "pager", routing_key="the-routing-key", endpoint=f"{url}/v2/enqueue")


def post(make: Make, reply: Reply, use: Callable[[Sender], Awaitable[Any]]) -> tuple[Any, list[Received]]:
    async def main() -> tuple[Any, list[Received]]:
        async with LoopbackServer(lambda _: reply) as server, open_session() as session:
            sender = sender_of(make(server.url), session=session, collector="soc-1", clock=FakeClock())
            return await use(sender), server.received

    return asyncio.run(main())


def send(make: Make, reply: Reply) -> tuple[Sent, list[Received]]:
    async def use(sender: Sender) -> Sent:
        return await sender.send(1, [new_of(make_alert())])

    return post(make, reply, use)


@pytest.mark.parametrize(
    ("make", "target", "has"),
    [
        (webhook, "/in?sig=a%2Fb", "alert"),
        (slack, "/services/T/B/x", "blocks"),
        (teams, "/workflows/x/triggers/manual/paths/invoke?sig=y", "attachments"),
        (pagerduty, "/v2/enqueue", "payload"),
    ],
)
def test_each_service_gets_its_document_at_its_address(make: Make, target: str, has: str) -> None:
    """As JSON in one POST, the address byte for byte as it was given."""
    sent, [received] = send(make, Reply(202))

    assert sent == Sent()
    assert (received.method, received.target) == ("POST", target)
    assert received.headers["Content-Type"] == "application/json"
    assert has in json.loads(received.body)


def test_a_post_to_a_webhook_is_signed() -> None:
    """Over the time and the body, so that nobody can repeat it later or change it."""
    _, [received] = send(webhook, Reply())
    timestamp = received.headers["X-M365watch-Timestamp"]
    wanted = hmac.new(SECRET.encode(), timestamp.encode() + b"." + received.body, hashlib.sha256).hexdigest()

    assert int(timestamp) == int(START.timestamp())
    assert received.headers["X-M365watch-Signature"] == f"v1={wanted}"
    assert received.headers["X-M365watch-Key"] == json.loads(received.body)["key"]
    assert received.headers["Authorization"] == "Bearer bearer"


@pytest.mark.parametrize("make", [slack, teams, pagerduty])
def test_nobody_else_is_shown_a_secret(make: Make) -> None:
    """Only PagerDuty's key is in a body, where it belongs."""
    _, [received] = send(make, Reply())

    assert not {name for name in received.headers if name.lower().startswith(("x-m365", "auth"))}
    assert (b"the-routing-key" in received.body) is (make is pagerduty)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(429, headers={"Retry-After": "30"}), Throttled),
        (Reply(500), Unavailable),
        (Reply(503, headers={"Retry-After": "30"}), Unavailable),
        (Reply(408), Unavailable),
        (Reply(fault=Fault.RESET), Unavailable),
        (Reply(body=b"cut", fault=Fault.CUT), BadAnswer),
        (Reply(301, headers={"Location": "https://elsewhere.example/"}), NotificationsRefused),
        (Reply(401), NotificationsRefused),
        (Reply(403, body=b"invalid_token", headers={"Content-Type": "text/plain"}), NotificationsRefused),
        (Reply(404), NotificationsRefused),
        (Reply(410), NotificationsRefused),
    ],
    ids=lambda value: str(value.status) + value.fault.name if isinstance(value, Reply) else "",
)
@pytest.mark.parametrize("make", [webhook, slack])
def test_an_answer_says_what_happens_next(make: Make, reply: Reply, kind: type[Exception]) -> None:
    """It may work later, or somebody has to do something; a redirect is followed nowhere."""
    with pytest.raises(kind) as raised:
        send(make, reply)

    told = str(raised.value)
    assert told.startswith("notifications ")
    assert "127.0.0.1" not in told
    assert "sig=" not in told
    if isinstance(raised.value, Throttled | Unavailable) and "Retry-After" in reply.headers:
        assert raised.value.after_s == 30
    if isinstance(raised.value, NotificationsRefused):
        assert "webhook_url" in raised.value.fix


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_with_one_notification_is_refused_by_name(status: int) -> None:
    """The next one may be taken: the target itself is not at fault."""
    said = {"Content-Type": "text/plain"}
    sent, _ = send(slack, Reply(status, body=b"invalid_blocks\n\x1b[31m", headers=said))

    assert sent == Sent({0: f"HTTP {status}: invalid_blocks  [31m"})


def test_a_wrong_routing_key_is_the_targets_fault() -> None:
    """PagerDuty answers 400 to that as well."""
    body = b'{"status":"invalid event","errors":["\'routing_key\' is invalid"]}'
    with pytest.raises(NotificationsRefused) as raised:
        send(pagerduty, Reply(400, body=body))

    assert "routing_key" in raised.value.fix


def test_a_check_posts_nothing() -> None:
    """`check` pages nobody."""

    async def use(sender: Sender) -> str:
        return await sender.check()

    seen, received = post(slack, Reply(), use)

    assert "nothing was posted" in seen
    assert received == []
