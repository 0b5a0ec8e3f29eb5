"""Which permissions a token has to carry, a row for each; pure.

Source: api-contract 1.2. One that serves a single service stops that service alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from m365watch.config.models.settings import ServiceSettings
from m365watch.sources.management_api.codes import PERMISSION_FIX


class Api(StrEnum):
    """Whose permissions they are; each API has tokens of its own."""

    MANAGEMENT = "Office 365 Management APIs"
    GRAPH = "Microsoft Graph"


@dataclass(frozen=True, slots=True)
class Need:
    """One permission."""

    api: Api
    role: str
    service: str | None
    """The service that needs it; None: every one of the Management API does."""
    fix: str
    announcements: frozenset[str] = frozenset()
    """Of `service_health`: the kinds of announcements that need it."""

    @property
    def lack(self) -> str:
        """What to say where it is missing."""
        whose = f" for its {' and '.join(sorted(self.announcements))}" if self.announcements else ""
        needed_by = f", which {self.service} needs{whose}" if self.service else ""
        return f"{self.role} is missing{needed_by}"

    def is_due(self, services: Sequence[ServiceSettings]) -> bool:
        """Whether something that is collected needs it."""
        return any(self._is_of(one) for one in services)

    def _is_of(self, service: ServiceSettings) -> bool:
        if self.service is None:
            return service.service not in _OF_OTHER_APIS
        return service.service == self.service and (
            not self.announcements or bool(self.announcements.intersection(service.announcements))
        )


def _of_graph(role: str, *announcements: str) -> Need:
    fix = f"grant the application {role} of Microsoft Graph as application permission, with admin consent"
    return Need(Api.GRAPH, role, "service_health", fix, frozenset(announcements))


NEEDS = (
    Need(Api.MANAGEMENT, "ActivityFeed.Read", None, PERMISSION_FIX),
    Need(Api.MANAGEMENT, "ActivityFeed.ReadDlp", "dlp", PERMISSION_FIX),
    _of_graph("ServiceHealth.Read.All", "overviews", "issues"),
    _of_graph("ServiceMessage.Read.All", "messages"),
)
_OF_OTHER_APIS = frozenset(need.service for need in NEEDS if need.api is not Api.MANAGEMENT)


def missing_roles(roles: Sequence[str], services: Sequence[ServiceSettings], api: Api) -> list[Need]:
    """What `services` need of `api` and a token with `roles` lacks."""
    return [need for need in _due(services, api) if need.role not in roles]


def stops_all(missing: Sequence[Need], services: Sequence[ServiceSettings], api: Api) -> bool:
    """Whether without these nothing is collected that `api` serves."""
    if api is Api.MANAGEMENT:
        served = [one.service for one in services if one.service not in _OF_OTHER_APIS]
        lacking = {need.service for need in missing}
        return None in lacking or (bool(missing) and set(served) <= lacking)
    return bool(missing) and len(missing) == len(_due(services, api))


def _due(services: Sequence[ServiceSettings], api: Api) -> list[Need]:
    return [need for need in NEEDS if need.api is api and need.is_due(services)]


def apis_of(services: Sequence[ServiceSettings]) -> list[Api]:
    """The APIs that `services` are collected by, in the order of `Api`."""
    due = {need.api for need in NEEDS if need.is_due(services)}
    return [api for api in Api if api in due]
