"""Who the simulated tenants are: their GUIDs, applications and secrets, derived from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from m365watch.common.errors import NeedsOperator

TRUSTED_SUBJECT = "system:serviceaccount:monitoring:m365watch"
"""The subject of a token such as Kubernetes gives to a pod."""
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
    """PEM of the application's certificates, for client assertions; None for none."""
    second_secret: str = field(default="", repr=False)
    """Another secret of the application, as there are two while one is exchanged; "" for none."""
    expired_secret: str = field(default="", repr=False)
    """A secret that has ended: AADSTS7000222; "" for none."""
    trusted_subject: str = TRUSTED_SUBJECT
    """Whose federated token of the simulated issuer stands for the application."""

    @property
    def identity_id(self) -> str:
        """The client ID of the managed identity that a machine in this tenant has, and its `oid`."""
        return str(UUID(int=UUID(self.tenant_id).int ^ 0x1D, version=4))

    @property
    def service_principal_id(self) -> str:
        """The `oid` of the application's tokens."""
        return str(UUID(int=UUID(self.client_id).int ^ UUID(self.tenant_id).int, version=4))


def derive_identities(
    seed: int, count: int = 1, *, certificate: bytes | None = None
) -> tuple[TenantIdentity, ...]:
    """`count` tenants, always the same for a seed; `certificate` is registered on each application."""
    return tuple(
        _identity(Random(f"{seed}/tenant/{number}"), number, certificate) for number in range(1, count + 1)
    )


def read_certificate(path: Path) -> bytes:
    """The certificate in the file, in PEM, for an application to have.

    Raises: NeedsOperator: the file holds none.
    """
    try:
        [certificate, *_] = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        fix = "give the file that m365watch certificate create wrote to be uploaded"
        raise NeedsOperator(f"{path} holds no certificate in PEM", fix=fix) from None
    return certificate.public_bytes(Encoding.PEM)


def _identity(random: Random, number: int, certificate: bytes | None) -> TenantIdentity:
    return TenantIdentity(
        tenant_id=_guid(random),
        client_id=_guid(random),
        client_secret=f"simulated~{random.getrandbits(128):032x}",
        domain=f"tenant{number}.example",
        partition=f"{random.choice(_REGIONS)}{random.randrange(10_000):04d}",
        certificate=certificate,
        second_secret=f"rotated~{random.getrandbits(128):032x}",
        expired_secret=f"expired~{random.getrandbits(128):032x}",
    )


def _guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
