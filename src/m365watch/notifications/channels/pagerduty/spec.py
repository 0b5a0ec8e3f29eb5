"""Channel `pagerduty`: PagerDuty's Events API v2, or any receiver of the same events."""

# Annotations stay objects here (`config.models.base.Section` says why).

from functools import partial
from typing import Literal

from pydantic import Field

from m365watch.config.models.base import BaseUrl, FilePath, SecretText
from m365watch.config.models.notifications import ChannelSection, DigestAfter, Rate
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender


class PagerDutySection(ChannelSection):
    """A service of PagerDuty, or any that takes its events (Events API v2)."""

    type: Literal["pagerduty"] = Field(title="pagerduty")

    rate_limit_per_minute: Rate = 60
    digest_after: DigestAfter = 30

    routing_key: SecretText = Field(title="the integration key in quotes, or ${NAME}, or routing_key_file")
    """The integration key of the service, for the Events API v2."""

    routing_key_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the key, in place of `routing_key`."""

    endpoint: BaseUrl = Field(
        default="https://events.pagerduty.com/v2/enqueue", title="an https URL (http for loopback hosts only)"
    )
    """Where events go; in PagerDuty's European region https://events.eu.pagerduty.com/v2/enqueue."""


def _build(channel: Channel[PagerDutySection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.http_sender import HttpSender
    from m365watch.notifications.channels.pagerduty.pagerduty_event import pagerduty_payload

    routing_key = channel.section.routing_key.get_secret_value()
    return HttpSender(
        channel,
        context,
        url=channel.section.endpoint,
        payload=partial(pagerduty_payload, routing_key=routing_key, collector=context.collector),
        fix="give the integration key of a service's Events API v2 as routing_key",
    )


SPEC = ChannelSpec(
    type="pagerduty",
    arrives="an incident for each alert; acknowledged and resolved with it",
    needs="a service with an Events API v2 integration; its key",
    section=PagerDutySection,
    build=_build,
    test=("new", "closed"),
)
