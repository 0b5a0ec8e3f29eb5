"""Channel `slack`: an incoming webhook of Slack."""

# Annotations stay objects here (`config.models.base.Section` says why).

from functools import partial
from typing import Literal

from pydantic import Field

from m365watch.config.models.base import SecretText
from m365watch.config.models.notifications import DigestAfter, Rate
from m365watch.notifications.channels.webhook_url import WEBHOOK_URL, WebhookUrlSection
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender


class SlackSection(WebhookUrlSection):
    """A channel of Slack, by one of its incoming webhooks."""

    type: Literal["slack"] = Field(title="slack")

    # Source: Slack, "Rate limits": one post a second to a webhook.
    rate_limit_per_minute: Rate = 20
    digest_after: DigestAfter = 10

    webhook_url: SecretText = Field(title=WEBHOOK_URL)
    """The webhook's URL, https://hooks.slack.com/services/... : whoever has it can post to the channel."""


def _build(channel: Channel[SlackSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.http_sender import HttpSender
    from m365watch.notifications.channels.slack.slack_message import slack_payload

    return HttpSender(
        channel,
        context,
        url=channel.section.webhook_url,
        payload=partial(slack_payload, collector=context.collector),
        fix="make a new incoming webhook in Slack, and give its URL as webhook_url",
    )


SPEC = ChannelSpec(
    type="slack",
    arrives="a post with the facts, the explanation and what to look at next",
    needs="in Slack: an app with an incoming webhook; its URL",
    section=SlackSection,
    build=_build,
)
