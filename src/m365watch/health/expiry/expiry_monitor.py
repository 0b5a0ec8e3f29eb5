"""The applications of a configuration: who reads several tenants with one credential needs one warning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from m365watch.common.model import TenantId
from m365watch.config.models.settings import Cloud, CredentialSettings, SecretSettings, TenantSettings


@dataclass(frozen=True, slots=True)
class Application:
    """An application, and the tenants that it reads with the same credentials."""

    tenants: tuple[TenantSettings, ...]
    """At least one; in the order of the configuration."""

    @property
    def input_name(self) -> str:
        """The first input that names it."""
        return self.tenants[0].input_name

    @property
    def client_id(self) -> str:
        """Its id in Entra."""
        return self.tenants[0].client_id

    @property
    def credentials(self) -> tuple[CredentialSettings, ...]:
        """What it may prove itself with."""
        return self.tenants[0].credentials

    @property
    def tenant_ids(self) -> list[TenantId]:
        """The tenants, each once."""
        return list(dict.fromkeys(tenant.tenant_id for tenant in self.tenants))

    @property
    def needs_asking(self) -> bool:
        """Whether Graph alone can know the end of one of its secrets, and there is a Graph to ask."""
        return bool(self.tenants[0].cloud.graph_url and self.client_id) and any(
            isinstance(one, SecretSettings) and one.expires_at is None for one in self.credentials
        )

    def to_ask(self, *, first: str, count_max: int) -> list[TenantSettings]:
        """The tenants in which the application may be registered, the likeliest first.

        That is the tenant `first`, where it was found before, then the one that the requests are counted for.
        """
        by_id = {tenant.tenant_id: tenant for tenant in reversed(self.tenants)}
        ordered = sorted(
            map(by_id.__getitem__, self.tenant_ids),
            key=lambda one: (one.tenant_id != first, one.tenant_id != one.publisher_id),
        )
        return ordered[:count_max]


def list_applications(tenants: Iterable[TenantSettings]) -> list[Application]:
    """The applications of `tenants`, in their order."""
    found: dict[tuple[str, Cloud, tuple[CredentialSettings, ...]], list[TenantSettings]] = {}
    for tenant in tenants:
        found.setdefault((tenant.client_id, tenant.cloud, tenant.credentials), []).append(tenant)
    return [Application(tuple(group)) for group in found.values()]
