"""Channel `webhook`: JSON to any receiver, signed with a secret that both sides know."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from m365watch.config.models.base import FilePath, SecretText
from m365watch.config.models.notifications import Rate
from m365watch.config.secrets import secret_in
from m365watch.config.validation_report import KeyPath
from m365watch.notifications.channels.webhook_url import WebhookUrlSection
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender

SIGNING_CHARACTERS_MIN = 16
"""A shorter secret could be guessed from one signed post."""


class WebhookSection(WebhookUrlSection):
    """JSON to any receiver, one POST for each alert, signed with a secret that both sides know."""

    type: Literal["webhook"] = Field(title="webhook")

    rate_limit_per_minute: Rate = 300
    tells_closed: ClassVar[bool] = True

    signing_secret: SecretText | None = Field(
        default=None, title="a long random text, or ${NAME}, or the key signing_secret_file"
    )
    """What each post is signed with (HMAC-SHA256), at least 16 characters; `openssl rand -hex 32` makes one.
    Without it nothing is signed, and the receiver cannot tell our posts from others."""

    signing_secret_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds it, in place of `signing_secret`."""

    token: SecretText | None = Field(
        default=None, title="the token in quotes, or ${NAME}, or the key token_file"
    )
    """Sent as `Authorization: Bearer` where the receiver asks for it."""

    token_file: FilePath | None = Field(default=None, title="the path of a file that only its owner may read")
    """A file that holds the token, in place of `token`."""

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """A URL that is none, and a secret that can be guessed."""
        yield from super().disagreements(options, path)
        if 0 < len(secret_in(options, "signing_secret")) < SIGNING_CHARACTERS_MIN:
            why = f"has fewer than {SIGNING_CHARACTERS_MIN} characters; openssl rand -hex 32 makes a good one"
            yield (*path, "signing_secret"), why

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """Posts that anybody could have made."""
        if self.signing_secret is None:
            yield path, "is not signed; give signing_secret, so that the receiver can tell who posts"


def _build(channel: Channel[WebhookSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.http_sender import HttpSender
    from m365watch.notifications.channels.webhook.webhook_signature import proof_of
    from m365watch.notifications.notification_document import document_of

    return HttpSender(
        channel,
        context,
        url=channel.section.webhook_url,
        payload=partial(document_of, collector=context.collector),
        proof=partial(proof_of, section=channel.section, clock=context.clock),
        fix="correct webhook_url, signing_secret or token, or see to the receiver",
    )


SPEC = ChannelSpec(
    type="webhook",
    arrives="a signed POST of JSON, see below",
    needs="a receiver that answers 2xx once it has the alert",
    section=WebhookSection,
    build=_build,
)
