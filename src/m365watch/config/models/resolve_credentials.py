"""The checked keys of `credentials` turned into what an application proves itself with, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from m365watch.common.secret import Secret, secret_of
from m365watch.config.models.credentials import Credentials, ProofKeys, ResponseCredentials
from m365watch.config.models.settings import (
    CertificateSettings,
    CredentialSettings,
    FederatedSettings,
    IdentityEndpoint,
    ManagedIdentitySettings,
    SecretSettings,
)


def resolve_credentials(
    section: Credentials | ResponseCredentials, endpoint: IdentityEndpoint
) -> tuple[CredentialSettings, ...]:
    """Every credential of the section, in the order in which they are tried.

    What needs looking after least comes first, and `second` after all of the first.
    """
    found = list(_proofs(section, section, endpoint, before=""))
    if section.second is not None:
        found += _proofs(section.second, section, endpoint, before="second.")
    return tuple(found)


def _proofs(
    keys: ProofKeys, section: Credentials | ResponseCredentials, endpoint: IdentityEndpoint, *, before: str
) -> Iterator[CredentialSettings]:
    identity = keys.managed_identity
    if identity:
        yield ManagedIdentitySettings(
            client_id=identity if isinstance(identity, str) else None,
            endpoint=endpoint,
            vouches=section.client_id is not None,
            name=f"{before}managed_identity",
        )
    if keys.federated_token_file is not None:
        yield FederatedSettings(Path(keys.federated_token_file), name=f"{before}federated_token_file")
    if keys.certificate_file is not None:
        yield CertificateSettings(
            certificate=keys.certificate_file,
            key=keys.private_key_file,
            key_text=_pem(keys.private_key),
            password=secret_of(keys.certificate_password),
            audience=section.assertion_audience,
            name=f"{before}certificate_file",
        )
    if keys.client_secret is not None:
        yield SecretSettings(
            Secret(keys.client_secret.get_secret_value()),
            expires_at=keys.client_secret_expires_at,
            file=keys.client_secret_file,
            name=f"{before}client_secret{'_file' if keys.client_secret_file is not None else ''}",
        )


def _pem(given: SecretStr | None) -> Secret | None:
    r"""The key's text; `\n` stands for a line break where an environment file cannot hold one."""
    return None if given is None else Secret(given.get_secret_value().replace("\\n", "\n"))
