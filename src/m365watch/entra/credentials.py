"""What an application proves itself with at the token endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from m365watch.config.settings import CredentialSettings, Secret, SecretSettings
from m365watch.entra.kinds import CredentialKind


class Credential(Protocol):
    """A proof of who asks; the token endpoint's address is the audience of a signed one."""

    client_id: str
    kind: CredentialKind
    """Decides what a person is told to do where it is refused."""

    async def proof(self, token_url: str) -> Mapping[str, str]:
        """The form fields that carry the proof to `token_url`; each value is a secret."""
        ...


class ClientSecret:
    """The application's own password."""

    kind = CredentialKind.SECRET

    def __init__(self, client_id: str, secret: Secret) -> None:
        """`secret` is the secret's value, not its id."""
        self.client_id = client_id
        self._secret = secret

    async def proof(self, token_url: str) -> Mapping[str, str]:  # noqa: ARG002 - the same everywhere
        """The field `client_secret`."""
        return {"client_secret": self._secret.reveal()}


def make_credentials(client_id: str, settings: Sequence[CredentialSettings]) -> tuple[Credential, ...]:
    """What the application `client_id` may prove itself with, in the order of `settings`."""
    return tuple(ClientSecret(client_id, one.secret) for one in settings if isinstance(one, SecretSettings))
