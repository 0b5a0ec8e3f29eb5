"""A target tried by hand: a notification that says that it is a test, or the way to it alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Any

from m365watch.common.errors import CollectorError, NeedsOperator
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import Notification, Standing, Tiding, make_notification
from m365watch.registry.channel_specs import CHANNELS, Channel, Sender
from m365watch.registry.checks import Check, Checked, bad, good

_AGAIN = "see that the receiver is up and that this machine may reach it, and try again"
_REFUSED = "see what the receiver says, and that it is of the type that the target has"


def make_test(channel: Channel[Any], tiding: Tiding, *, tenant: str, now_ms: int) -> Notification:
    """A notification that shows how alerts look at the target, of the least severity that it wants."""
    text = f"{channel.name}\0{now_ms}"
    alert = Alert(
        id=AlertId(hashlib.blake2b(text.encode(), digest_size=16).hexdigest()),
        rule_id="test",
        title="A test of the notifications",
        severity=Severity(channel.section.min_severity),
        tenant=tenant,
        group=("test",),
        entities=(("user", "test@contoso.example"),),
        first_at_ms=now_ms,
        last_at_ms=now_ms,
        count=1,
        evidence=(),
        explanation="Nothing has happened: this is a test of m365watch's notifications.",
        detection="test",
        check=("Nothing: an alert has here what to look at next.",),
    )
    state = AlertState.CLOSED if tiding is Tiding.CLOSED else AlertState.OPEN
    standing = Standing(alert, state, "the test is over" if state is AlertState.CLOSED else "")
    return make_notification(tiding, standing, thread=alert.id, made_at_ms=now_ms, is_test=True)


async def send_test(
    channel: Channel[Any], sender: Sender, *, tenant: str, now_ms: int, limit_s: float
) -> Checked:
    """Send a test; an incident that it opens is resolved at once."""
    tidings = CHANNELS.by_name[channel.type].test
    if not tidings:
        seen = "the collector alone may send there; `m365watch check` tries it"
        return good(Check.NOTIFICATION, seen, subject=channel.name)
    made = [make_test(channel, Tiding(one), tenant=tenant, now_ms=now_ms) for one in tidings]
    return await _tried(channel, _send(sender, made), limit_s=limit_s)


async def check_channel(channel: Channel[Any], sender: Sender, *, limit_s: float) -> Checked:
    """Try the way to the target, and send nothing."""
    return await _tried(channel, sender.check(), limit_s=limit_s)


class _Refused(Exception):
    """The receiver has refused the notification; the text says with which words."""


async def _send(sender: Sender, made: list[Notification]) -> str:
    await sender.open(last=0, position="", newest=0)
    for number, notification in enumerate(made, 1):
        sent = await sender.send(number, [notification])
        if sent.refused:
            raise _Refused(next(iter(sent.refused.values())))
    return "a test was sent and taken"


async def _tried(channel: Channel[Any], trying: Awaitable[str], *, limit_s: float) -> Checked:
    try:
        async with asyncio.timeout(limit_s):
            return good(Check.NOTIFICATION, await trying, subject=channel.name)
    except TimeoutError:
        seen, fix = f"no answer in {limit_s:g} s", _AGAIN
    except _Refused as error:
        seen, fix = f"the receiver refuses a notification: {error}", _REFUSED
    except CollectorError as error:
        seen, fix = error.what, error.fix if isinstance(error, NeedsOperator) else _AGAIN
    return bad(Check.NOTIFICATION, seen, fix=fix, subject=channel.name)
