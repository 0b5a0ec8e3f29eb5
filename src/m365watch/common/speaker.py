"""Who speaks in a collector's notices, and about which input and service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from m365watch import __version__
from m365watch.common.model import Feed
from m365watch.config.models.settings import Settings

_TENANT = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_FEED = re.compile(rf"({_TENANT.pattern})/([A-Za-z]+\.[A-Za-z]+)")
"""How a text names a feed: see `model.Feed`."""


@dataclass(frozen=True, slots=True)
class InputName:
    """Where a feed stands in the configuration."""

    input_name: str
    service_name: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks in all notices of a collector."""

    collector_name: str
    collector_image: str
    job_id: str | None = None
    inputs: Mapping[str, InputName] = field(default_factory=dict)
    """By the name of the feed, as `str(Feed)` gives it."""

    def input_of(self, text: str) -> tuple[str | None, str | None]:
        """The names of input and service of the first feed that `text` names.

        The input alone where it names a tenant only; two times None where it names neither.
        """
        for found in _FEED.finditer(text):
            if name := self.inputs.get(found[0]):
                return name.input_name, name.service_name
        for found in _TENANT.finditer(text):
            for feed, name in self.inputs.items():
                if feed.startswith(f"{found[0]}/"):
                    return name.input_name, None
        return None, None


def speaker_of(settings: Settings) -> Speaker:
    """The speaker for a collector with these settings."""
    inputs = {}
    for tenant in settings.tenants:
        for service in tenant.services:
            if (content_type := service.service.content) is not None:
                feed = Feed(tenant.tenant_id, content_type)
                inputs[str(feed)] = InputName(tenant.input_name, service.service.value)
    return Speaker(
        collector_name=settings.collector_name,
        collector_image=collector_image(settings.collector_image),
        job_id=settings.job_id,
        inputs=inputs,
    )


def collector_image(named: str | None) -> str:
    """The image that notices name, always with the word `office365`, by which Devo's query finds them.

    `named` is what the environment says (COLLECTOR_IMAGE); without it, the product and its version.
    """
    own = f"m365watch/office365:{__version__}"
    if not named:
        return own
    return named if re.search(r"\boffice365\b", named) else f"{named} ({own})"
