"""The URL of a webhook, which is a secret: its path and query say who may post."""

# Annotations stay objects here (`config.models.base.Section` says why).

import re
from collections.abc import Iterator, Mapping

from pydantic import Field

from m365watch.config.models.base import FilePath, SecretText
from m365watch.config.models.clouds import URL_CHARACTERS, parse_base_url
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.secrets import secret_in
from m365watch.config.validation_report import KeyPath

WEBHOOK_URL = "the webhook's https URL in quotes, or ${NAME}, or the key webhook_url_file"


class WebhookUrlSection(ChannelSection):
    """A target that is told by posts to a URL."""

    webhook_url: SecretText = Field(title=WEBHOOK_URL)
    """Where to post to."""

    webhook_url_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the URL, in place of `webhook_url`."""

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """A URL that is none; it is shown nowhere."""
        if url := secret_in(options, "webhook_url"):
            try:
                _check_url(url)
            except ValueError as error:
                what, _, why = str(error).partition("; ")
                yield (*path, "webhook_url"), f"{what}; {why or 'give the URL as the receiver shows it'}"


def _check_url(text: str) -> None:
    """Nothing of path and query, which are the webhook's own.

    Raises: ValueError: it is not https (http is for loopback only), or has a user name or a fragment.
    """
    if not URL_CHARACTERS.fullmatch(text):
        raise ValueError("has a space or a character that no URL has")
    scheme, _, rest = text.partition("://")
    parse_base_url(f"{scheme}://{re.split('[/?]', rest, maxsplit=1)[0]}")
