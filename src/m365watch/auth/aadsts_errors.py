"""The kinds of credentials, by the key of the configuration that each is set with."""

from __future__ import annotations

from enum import StrEnum


class CredentialKind(StrEnum):
    """What an application proves itself with; each value is a key of `credentials`."""

    SECRET = "client_secret"
    CERTIFICATE = "certificate_file"
    FEDERATED = "federated_token_file"
    MANAGED_IDENTITY = "managed_identity"


def kind_named(name: str) -> CredentialKind | None:
    """The kind of the credential under the key `name`, also of `second`; None where that says nothing."""
    key = name.rpartition(".")[2]
    if key == f"{CredentialKind.SECRET}_file":
        return CredentialKind.SECRET
    return CredentialKind(key) if key in set(CredentialKind) else None
