"""Credentials as a configuration hands them to a run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from m365watch.auth.credentials.certificate.spec import CertificateSettings
from m365watch.auth.credentials.client_secret.spec import ClientSecretSettings
from m365watch.auth.credentials.federated_token.spec import FederatedTokenSettings
from m365watch.auth.credentials.managed_identity.spec import ManagedIdentitySettings
from m365watch.config.credential_validation import IdentityEndpoint


def client_secret(
    secret: str,
    *,
    expires_at: datetime | None = None,
    file: Path | None = None,
    name: str = "client_secret",
) -> ClientSecretSettings:
    """The secret, or the one that `file` has later."""
    return ClientSecretSettings(
        client_secret=SecretStr(secret),
        client_secret_file=file,
        client_secret_expires_at=expires_at,
        name=name,
    )


def certificate(
    file: Path,
    *,
    key: Path | None = None,
    key_text: str | None = None,
    password: str | None = None,
    audience: str | None = None,
    name: str = "certificate_file",
) -> CertificateSettings:
    """The certificate in `file`."""
    return CertificateSettings(
        certificate_file=file,
        private_key_file=key,
        private_key=None if key_text is None else SecretStr(key_text),
        certificate_password=None if password is None else SecretStr(password),
        assertion_audience=audience,
        name=name,
    )


def federated_token(file: Path) -> FederatedTokenSettings:
    """The token in `file`."""
    return FederatedTokenSettings(federated_token_file=file, name="federated_token_file")


def managed_identity(
    client_id: str | None = None, *, endpoint: IdentityEndpoint | None = None
) -> ManagedIdentitySettings:
    """The identity of that id, or the machine's own."""
    return ManagedIdentitySettings(
        managed_identity=client_id or True, endpoint=endpoint or IdentityEndpoint(), name="managed_identity"
    )
