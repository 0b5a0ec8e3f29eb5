"""The kinds of credentials, by the key of the configuration that each is set with."""

from __future__ import annotations

from enum import StrEnum

from m365watch.config.settings import (
    CertificateSettings,
    CredentialSettings,
    FederatedSettings,
    ManagedIdentitySettings,
    SecretSettings,
)


class CredentialKind(StrEnum):
    """What an application proves itself with; each value is a key of `credentials`."""

    SECRET = "client_secret"
    CERTIFICATE = "certificate_file"
    FEDERATED = "federated_token_file"
    MANAGED_IDENTITY = "managed_identity"


def kind_of(settings: CredentialSettings) -> CredentialKind:
    """The kind that `settings` are of."""
    match settings:
        case SecretSettings():
            return CredentialKind.SECRET
        case CertificateSettings():
            return CredentialKind.CERTIFICATE
        case FederatedSettings():
            return CredentialKind.FEDERATED
        case ManagedIdentitySettings():
            return CredentialKind.MANAGED_IDENTITY
