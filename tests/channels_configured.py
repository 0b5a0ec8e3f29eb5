"""Notification channels as a configuration has them, without the file."""

from __future__ import annotations

from typing import Any, cast

from m365watch.common.clock import Clock, SystemClock, system_random
from m365watch.config.models.notifications import ChannelSection
from m365watch.http.client import Session
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.notifications.factory import make_sender
from m365watch.outputs.factory import refuse_to_make
from m365watch.registry.channel_specs import CHANNELS, Channel, ChannelContext, Sender

URL = "https://hook.example/x?sig=a%2Fb"


def wanting(**keys: object) -> ChannelSection:
    """What a target wants, of no kind."""
    return ChannelSection.model_validate({"type": "any", **keys})


def channel_of(
    kind: str, name: str, *, network: NetworkSettings = UNSET_NETWORK, **keys: Any
) -> Channel[Any]:
    """A channel of the kind, with these keys."""
    section = CHANNELS.by_name[kind].section.model_validate({"type": kind, **keys})
    return Channel(name, section, network)


def slack(name: str, **keys: Any) -> Channel[Any]:
    """A channel of Slack."""
    return channel_of("slack", name, webhook_url=URL, **keys)


def sender_of(
    channel: Channel[Any], *, session: object = None, clock: Clock | None = None, collector: str = "c"
) -> Sender:
    """What carries notifications to the channel, as a run builds it; some do without a session."""
    context = ChannelContext(
        cast(Session, session), clock or SystemClock(), system_random(1), collector, (), refuse_to_make
    )
    return make_sender(channel, context)
