"""Who the simulated tenants are: their GUIDs, applications and secrets, derived from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from uuid import UUID

_REGIONS = ("emea", "na", "apac")


@dataclass(frozen=True, slots=True)
class TenantIdentity:
    """One tenant, with the one application that collects from it."""

    tenant_id: str
    """GUID in lower case."""
    client_id: str
    client_secret: str = field(repr=False)
    domain: str
    """Accepted in place of the GUID at the token endpoint."""
    partition: str = "emea0036"
    """The part of the service's store that content ids end in."""
    certificate: bytes | None = field(default=None, repr=False)
    """PEM of the application's certificate, for client assertions."""

    @property
    def service_principal_id(self) -> str:
        """The `oid` of the application's tokens."""
        return str(UUID(int=UUID(self.client_id).int ^ UUID(self.tenant_id).int, version=4))


def derive_identities(seed: int, count: int = 1) -> tuple[TenantIdentity, ...]:
    """`count` tenants, always the same for a seed."""
    return tuple(_identity(Random(f"{seed}/tenant/{number}"), number) for number in range(1, count + 1))


def _identity(random: Random, number: int) -> TenantIdentity:
    return TenantIdentity(
        tenant_id=_guid(random),
        client_id=_guid(random),
        client_secret=f"simulated~{random.getrandbits(128):032x}",
        domain=f"tenant{number}.example",
        partition=f"{random.choice(_REGIONS)}{random.randrange(10_000):04d}",
    )


def _guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
