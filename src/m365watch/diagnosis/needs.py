"""Which permissions a token has to carry, a row for each; pure.

Source: api-contract 1.2. One that serves a single service stops that service alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from m365watch.config.settings import ServiceSettings
from m365watch.feed.codes import PERMISSION_FIX


class Api(StrEnum):
    """Whose permissions they are; each API has tokens of its own."""

    MANAGEMENT = "Office 365 Management APIs"
    GRAPH = "Microsoft Graph"


@dataclass(frozen=True, slots=True)
class Need:
    """One permission."""

    api: Api
    any_of: tuple[str, ...]
    """One of these roles is enough; the first is the least."""
    service: str | None
    """The service that needs it; None: every other one does."""
    fix: str

    @property
    def lack(self) -> str:
        """What to say where it is missing."""
        needed_by = f", which {self.service} needs" if self.service else ""
        return f"{self.any_of[0]} is missing{needed_by}"

    def is_due(self, services: Sequence[ServiceSettings]) -> bool:
        """Whether something that is collected needs it."""
        if self.service is None:
            return any(one.service not in _OF_OTHER_APIS for one in services)
        return any(one.service == self.service for one in services)

    def stops(self, services: Sequence[ServiceSettings]) -> bool:
        """Whether nothing that is collected by this API works without it."""
        others = [one for one in services if one.service != self.service]
        if self.api is Api.MANAGEMENT:
            others = [one for one in others if one.service not in _OF_OTHER_APIS]
        return self.service is None or self.api is not Api.MANAGEMENT or not others


_HEALTH_FIX = (
    "grant the application ServiceHealth.Read.All of Microsoft Graph as application permission, "
    "with admin consent"
)
NEEDS = (
    Need(Api.MANAGEMENT, ("ActivityFeed.Read",), None, PERMISSION_FIX),
    Need(Api.MANAGEMENT, ("ActivityFeed.ReadDlp",), "dlp", PERMISSION_FIX),
    Need(Api.GRAPH, ("ServiceHealth.Read.All",), "service_health", _HEALTH_FIX),
)
_OF_OTHER_APIS = frozenset(need.service for need in NEEDS if need.api is not Api.MANAGEMENT)


def missing_roles(roles: Sequence[str], services: Sequence[ServiceSettings], api: Api) -> list[Need]:
    """What `services` need of `api` and a token with `roles` lacks."""
    return [
        need
        for need in NEEDS
        if need.api is api and need.is_due(services) and not set(need.any_of) & set(roles)
    ]


def apis_of(services: Sequence[ServiceSettings]) -> list[Api]:
    """The APIs that `services` are collected by, in the order of `Api`."""
    due = {need.api for need in NEEDS if need.is_due(services)}
    return [api for api in Api if api in due]
