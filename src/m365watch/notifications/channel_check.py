"""A target tried by hand: a notification that says that it is a test, or the way to it alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass

from m365watch.common.errors import CollectorError, NeedsOperator
from m365watch.config.models.targets import OutputTarget, PagerDutyTarget, TargetSettings
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.channel_port import Sender
from m365watch.notifications.notification import Notification, Standing, Tiding, make_notification
from m365watch.notifications.notification_database import Outgoing

_AGAIN = "see that the receiver is up and that this machine may reach it, and try again"
_REFUSED = "see what the receiver says, and that it is of the type that the target has"
KINDS = {
    "WebhookTarget": "webhook",
    "SlackTarget": "slack",
    "TeamsTarget": "teams",
    "PagerDutyTarget": "pagerduty",
    "EmailTarget": "email",
    "SyslogTarget": "syslog",
    "OutputTarget": "output",
}
"""The types of targets, as the configuration names them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What trying a target came to."""

    name: str
    kind: str
    is_good: bool
    seen: str
    fix: str = ""
    """What to do; never missing where it is not good."""


def kind_of(target: TargetSettings) -> str:
    """The target's type, as the configuration names it."""
    return KINDS[type(target).__name__]


def make_test(target: TargetSettings, tiding: Tiding, *, tenant: str, now_ms: int) -> Notification:
    """A notification that shows how alerts look at the target, of the least severity that it wants."""
    text = f"{target.name}\0{now_ms}"
    alert = Alert(
        id=AlertId(hashlib.blake2b(text.encode(), digest_size=16).hexdigest()),
        rule_id="test",
        title="A test of the notifications",
        severity=Severity(target.wishes.severity_min),
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
    target: TargetSettings, sender: Sender, *, tenant: str, now_ms: int, limit_s: float
) -> Trial:
    """Send a test; an incident that it opens is resolved at once."""
    if isinstance(target, OutputTarget):
        seen = f"output {target.output.name} is written by the collector alone; `m365watch check` tries it"
        return Trial(target.name, kind_of(target), is_good=True, seen=seen)
    made = [make_test(target, Tiding.NEW, tenant=tenant, now_ms=now_ms)]
    if isinstance(target, PagerDutyTarget):
        made.append(make_test(target, Tiding.CLOSED, tenant=tenant, now_ms=now_ms))
    return await _tried(target, _send(sender, made), limit_s=limit_s)


async def look_at(target: TargetSettings, sender: Sender, *, limit_s: float) -> Trial:
    """Try the way to the target, and send nothing."""
    return await _tried(target, sender.look(), limit_s=limit_s)


class _Refused(Exception):
    """The receiver has refused the notification; the text says with which words."""


async def _send(sender: Sender, made: list[Notification]) -> str:
    await sender.open(last=0, position="", newest=0)
    for number, notification in enumerate(made, 1):
        sent = await sender.send(Outgoing(number, [notification]))
        if sent.refused:
            raise _Refused(next(iter(sent.refused.values())))
    return "a test was sent and taken"


async def _tried(target: TargetSettings, trying: Awaitable[str], *, limit_s: float) -> Trial:
    name, kind = target.name, kind_of(target)
    try:
        async with asyncio.timeout(limit_s):
            return Trial(name, kind, is_good=True, seen=await trying)
    except TimeoutError:
        return Trial(name, kind, is_good=False, seen=f"no answer in {limit_s:g} s", fix=_AGAIN)
    except _Refused as error:
        seen = f"the receiver refuses a notification: {error}"
        return Trial(name, kind, is_good=False, seen=seen, fix=_REFUSED)
    except CollectorError as error:
        fix = error.fix if isinstance(error, NeedsOperator) else _AGAIN
        return Trial(name, kind, is_good=False, seen=error.what, fix=fix)
