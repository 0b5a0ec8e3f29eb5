"""Channel `teams`: a workflow of Microsoft Teams that posts what its webhook receives."""

# Annotations stay objects here (`config.models.base.Section` says why).

from functools import partial
from typing import Literal

from pydantic import Field

from m365watch.config.models.base import SecretText
from m365watch.config.models.notifications import DigestAfter, Rate
from m365watch.notifications.channels.webhook_url import WEBHOOK_URL, WebhookUrlSection
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender


class TeamsSection(WebhookUrlSection):
    """A chat or channel of Microsoft Teams, by a workflow that posts what its webhook receives."""

    type: Literal["teams"] = Field(title="teams")

    # Source: Microsoft Teams, "Rate limiting for connectors": four a second.
    rate_limit_per_minute: Rate = 10
    digest_after: DigestAfter = 10

    webhook_url: SecretText = Field(title=WEBHOOK_URL)
    """The URL that the workflow shows once it is saved: whoever has it can post."""


def _build(channel: Channel[TeamsSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.http_sender import HttpSender
    from m365watch.notifications.channels.teams.teams_card import teams_payload

    return HttpSender(
        channel,
        context,
        url=channel.section.webhook_url,
        payload=partial(teams_payload, collector=context.collector),
        fix="save the workflow again in Teams, and give the URL that it shows as webhook_url",
    )


SPEC = ChannelSpec(
    type="teams",
    arrives="an Adaptive Card; what is taken is the workflow's word, which posts a little later",
    needs='in Teams, *Workflows*: "Post to a channel when a webhook request is received"; its URL',
    section=TeamsSection,
    build=_build,
)
