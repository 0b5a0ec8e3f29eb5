"""Which permissions an application needs, and which its tokens carry.

Source: api-contract 1.2. A permission that serves a single service stops that service alone.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import structlog

from m365watch.common import base64url
from m365watch.config.models.settings import ServiceSettings, TenantSettings

CLAIMS_LENGTH_MAX = 65_536
PERMISSION_FIX = (
    "grant the application ActivityFeed.Read (and ActivityFeed.ReadDlp for `dlp`) of Office 365 Management "
    "APIs as application permission, with admin consent"
)


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


def claims_of(token: str) -> dict[str, object] | None:
    """What the token says of itself; None where it cannot be read. Nothing is verified, nothing is kept."""
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > CLAIMS_LENGTH_MAX:
        return None
    try:
        text = base64url.decoded(parts[1])
        said = msgspec.json.decode(text)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def roles_of(claims: dict[str, object]) -> list[str]:
    """The application permissions that the token carries."""
    listed = claims.get("roles")
    return [str(role) for role in listed] if isinstance(listed, list) else []


MEMORY = "permissions"
"""The name under which the ledger remembers the roles of each tenant's token."""

_log = structlog.get_logger(__name__)
_BODY = msgspec.json.Decoder(dict[str, list[str]])


class GrantedRoles:
    """The application permissions of each tenant's last token for the Management API."""

    def __init__(self) -> None:
        """No token has been seen."""
        self._roles: dict[str, list[str]] = {}
        self._warned: dict[str, list[Need]] = {}
        self.is_changed = False
        """Whether something is new since this was last set to False."""

    def note(self, tenant: TenantSettings, token: str) -> None:
        """Remember the roles of a new token, and log what it lacks, once."""
        claims = claims_of(token)
        if claims is None:
            return
        roles = roles_of(claims)
        if self._roles.get(_key(tenant)) != roles:
            self._roles[_key(tenant)] = roles
            self.is_changed = True
        missing = self.missing(tenant)
        if missing and self._warned.get(_key(tenant)) != missing:
            lacking = "; ".join(need.lack for need in missing)
            _log.warning(f"{tenant.tenant_id}: {lacking}; {missing[0].fix}")
        self._warned[_key(tenant)] = missing

    def missing(self, tenant: TenantSettings) -> list[Need]:
        """What the tenant's services need and its last token lacks; nothing where no token was seen."""
        roles = self._roles.get(_key(tenant))
        return [] if roles is None else missing_roles(roles, tenant.services, Api.MANAGEMENT)

    def add(self, body: str | None) -> None:
        """Take over what another run has seen, as `body` says it; nothing where it cannot be read."""
        try:
            before = _BODY.decode(body or "{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self._roles = before | self._roles

    def body(self) -> str:
        """Everything as JSON, for the ledger to remember."""
        return msgspec.json.encode(self._roles).decode()


def _key(tenant: TenantSettings) -> str:
    """Inputs of one tenant may have applications of their own."""
    return f"{tenant.input_name}/{tenant.tenant_id}"
