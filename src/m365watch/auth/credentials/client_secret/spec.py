"""Credential `client_secret`: the application's own password."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from m365watch.config.models.base import OWN_FILE, FilePath, Instant, SecretText
from m365watch.config.models.credentials import CredentialSettings
from m365watch.config.models.values import parse_instant
from m365watch.config.secrets import FileGuard, read_guarded_secret
from m365watch.registry.credential_specs import (
    Credential,
    CredentialContext,
    CredentialEnd,
    CredentialSpec,
    Prompt,
    Source,
)


class ClientSecretSettings(CredentialSettings):
    """The application's own password."""

    type: ClassVar[str] = "client_secret"

    client_secret: SecretText = Field(
        title="the secret's value in quotes, or ${NAME}, or the key client_secret_file"
    )
    """The value of the client secret (not its ID), `${NAME}` to take it from the environment, or
    `keyring:SERVICE/NAME` to take it from the keyring, with `pip install keyring`."""

    client_secret_file: FilePath | None = Field(default=None, title=OWN_FILE)
    """A file that holds the secret, in place of `client_secret`. A line break at its end is left out. It is
    read again whenever a token is asked for, so that a new secret needs no restart."""

    client_secret_expires_at: Instant | None = Field(
        default=None, title="an instant such as 2027-11-17T00:00:00Z"
    )
    """When the secret ends, as Entra shows it beside the secret; the secret itself does not tell."""

    @property
    def asks_graph(self) -> bool:
        """Where nobody said when it ends."""
        return self.client_secret_expires_at is None

    def secret_now(self, last: SecretStr | None = None) -> SecretStr:
        """As its file has it, or where that has none just now `last`, or else what it had at the start.

        Who may read the file was judged at the start.
        """
        if self.client_secret_file is not None:
            try:
                guard = FileGuard(allows_readable=True)
                return SecretStr(read_guarded_secret(self.client_secret_file, guard)[0])
            except ValueError:
                """The last one serves."""
        return last or self.client_secret

    def end(self) -> CredentialEnd:
        """What `client_secret_expires_at` says."""
        if self.client_secret_expires_at is None:
            return CredentialEnd(self.type, key=self.name)
        return CredentialEnd(self.type, Source.CONFIGURATION, (self.client_secret_expires_at,), key=self.name)


class ClientSecret:
    """Sends the secret that its file has now; while that has none, the one that it had last."""

    def __init__(self, client_id: str, settings: ClientSecretSettings) -> None:
        """Nothing is read yet."""
        self.client_id = client_id
        self.name = settings.name
        self._settings = settings
        self._secret = settings.client_secret

    async def proof(self, token_url: str) -> Mapping[str, str]:  # noqa: ARG002 - the same everywhere
        """The field `client_secret`."""
        if self._settings.client_secret_file is not None:
            self._secret = await asyncio.to_thread(self._settings.secret_now, self._secret)
        return {"client_secret": self._secret.get_secret_value()}


def _build(settings: ClientSecretSettings, context: CredentialContext) -> Credential:
    return ClientSecret(context.client_id, settings)


def _instant(text: str) -> str:
    try:
        return f"{parse_instant(text):%Y-%m-%dT%H:%M:%SZ}"
    except ValueError as error:
        raise ValueError(f"{error}; give a date such as 2027-11-17") from None


SPEC = CredentialSpec(
    type="client_secret",
    aliases=("secret",),
    label="client secret",
    upkeep=3,
    section=ClientSecretSettings,
    build=_build,
    fixes={
        7000215: "put the secret's value (not its id) into credentials.client_secret",
        7000218: "set credentials.client_secret",
        7000222: "create a new client secret in Entra and put its value into credentials.client_secret",
    },
    prompts=(
        Prompt(
            key="client_secret_file",
            about="the secret's value; only its owner may read it",
            question="value of the client secret",
            is_typed=True,
        ),
        Prompt(
            key="client_secret_expires_at",
            about="as Entra shows it; warned of weeks ahead",
            question="when it ends, as Entra shows it beside the secret",
            usual="",
            check=_instant,
        ),
    ),
    renew="create a new client secret in Entra and put its value into {place}",
    known_by="client_secret_expires_at",
    unknown_fix="set client_secret_expires_at in {place} to be warned in time",
)
