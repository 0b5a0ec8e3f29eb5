"""What an application proves itself with at the token endpoint, and what gives it a token without."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from m365watch.common.clock import Clock
from m365watch.common.secret import Secret
from m365watch.config.models.settings import (
    CertificateSettings,
    CredentialSettings,
    FederatedSettings,
    ManagedIdentitySettings,
    SecretSettings,
)
from m365watch.config.secrets import FileGuard
from m365watch.config.secrets_secrets import read_guarded_secret
from m365watch.http.session import Session

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Proof(Protocol):
    """A proof of who asks; the token endpoint's address is the audience of a signed one."""

    client_id: str
    name: str
    """The key below `credentials` that it stands under, as messages name it."""

    async def proof(self, token_url: str) -> Mapping[str, str]:
        """The form fields that carry the proof to `token_url`; each value is a secret.

        Raises: CredentialsRefused, RetryLater: the credential itself is not to be had.
        """
        ...


@runtime_checkable
class TokenGiver(Protocol):
    """What gives the token itself, so that Entra's token endpoint is not asked."""

    name: str
    """The key below `credentials` that it stands under, as messages name it."""

    async def token(self, audience: str) -> Mapping[str, object]:
        """The answer with `access_token` in it, in the token endpoint's form.

        Raises: CredentialsRefused, RetryLater.
        """
        ...


Credential = Proof | TokenGiver


class ClientSecret:
    """The application's own password."""

    def __init__(
        self, client_id: str, secret: Secret, *, name: str = "client_secret", file: Path | None = None
    ) -> None:
        """`secret` is the secret's value, not its id; `file` is where it was read from."""
        self.client_id = client_id
        self.name = name
        self._secret = secret
        self._file = file

    async def proof(self, token_url: str) -> Mapping[str, str]:  # noqa: ARG002 - the same everywhere
        """The field `client_secret`, as its file has it now; while that has none, as it had it last."""
        if self._file is not None:
            self._secret = await asyncio.to_thread(read_again, self._file, self._secret)
        return {"client_secret": self._secret.reveal()}


def read_again(file: Path, last: Secret) -> Secret:
    """The secret in the file; `last` where it has none just now. Who may read it was judged at the start."""
    try:
        return Secret(read_guarded_secret(file, FileGuard(allows_readable=True))[0])
    except ValueError:
        return last


def make_credentials(
    client_id: str, settings: Sequence[CredentialSettings], *, session: Session, clock: Clock, cloud: str = ""
) -> tuple[Credential, ...]:
    """What the application `client_id` may prove itself with, in the order of `settings`.

    `cloud` is the name of the cloud, which decides whom an identity's token is asked for.
    """
    return tuple(_make(client_id, one, session=session, clock=clock, cloud=cloud) for one in settings)


def _make(
    client_id: str, settings: CredentialSettings, *, session: Session, clock: Clock, cloud: str
) -> Credential:
    """One credential; what it needs is imported only now."""
    match settings:
        case SecretSettings():
            return ClientSecret(client_id, settings.secret, name=settings.name, file=settings.file)
        case CertificateSettings():
            # What reads keys and signs takes 60 ms to import, and a secret does without.
            from m365watch.auth.credentials.client_certificate import CertificateAssertion

            return CertificateAssertion(client_id, settings, clock=clock)
        case FederatedSettings():
            from m365watch.auth.credentials.federated import FederatedToken

            return FederatedToken(client_id, settings, clock=clock)
        case ManagedIdentitySettings():
            from m365watch.auth.credentials.managed_identity import IdentityAssertion, IdentityTokens

            tokens = IdentityTokens(settings, session=session, clock=clock)
            return (
                IdentityAssertion(client_id, tokens, clock=clock, cloud=cloud) if settings.vouches else tokens
            )
