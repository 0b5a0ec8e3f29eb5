"""The keys of `inputs.<name>.credentials`: who reads, of whom, and what that is proved with."""

# Annotations stay objects here (`kinds.Section` says why).

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models import values
from m365watch.config.models.base import (
    DESTINATION,
    MACHINE_IDENTITY,
    MOSTLY_NEEDED,
    FilePath,
    Guid,
    Instant,
    SecretText,
    Section,
    TenantGuids,
)
from m365watch.config.models.clouds import parse_base_url

_OWN_FILE = "the path of a file that only its owner may read"


def parse_identity(value: object) -> object:
    """True, False or the GUID of an identity."""
    if isinstance(value, str) and values.is_guid(value):
        return value.lower()
    try:
        return values.parse_switch(value)
    except ValueError:
        raise ValueError("is neither true nor a GUID") from None


def parse_audience(text: str) -> str:
    """The address unchanged, `{tenant}` and all."""
    parse_base_url(text.replace("{tenant}", "tenant"))
    return text


class ApplicationKeys(Section):
    """Who reads, and of whom."""

    client_id: Annotated[Guid | None, MOSTLY_NEEDED] = Field(
        default=None, title="the application (client) ID, a GUID"
    )
    """The id of the app registration in Entra. Needed with everything but `managed_identity`; beside that it
    names a multi-tenant application that trusts the identity."""

    tenant_id: TenantGuids = Field(title="the tenant's GUID, or a list of GUIDs")
    """The directory (tenant) ID; a list collects several tenants with one multi-tenant application."""


class ProofKeys(Section):
    """What an application proves itself with."""

    client_secret: SecretText | None = Field(
        default=None, title="the secret's value in quotes, or ${NAME}, or the key client_secret_file"
    )
    """The value of the client secret (not its ID), `${NAME}` to take it from the environment, or
    `keyring:SERVICE/NAME` to take it from the keyring, with `pip install keyring`."""

    client_secret_file: FilePath | None = Field(default=None, title=_OWN_FILE)
    """A file that holds the secret, in place of `client_secret`. A line break at its end is left out. It is
    read again whenever a token is asked for, so that a new secret needs no restart."""

    client_secret_expires_at: Instant | None = Field(
        default=None, title="an instant such as 2027-11-17T00:00:00Z"
    )
    """When the secret ends, as Entra shows it beside the secret; the secret itself does not tell."""

    certificate_file: FilePath | None = Field(
        default=None, title="the path of a certificate in PEM, DER or PFX"
    )
    """The certificate that is registered on the application, with an RSA key of 2,048 bits or more. It is
    read again when the file changes, so that a new one needs no restart."""

    private_key_file: FilePath | None = Field(default=None, title=_OWN_FILE)
    """The certificate's private key in PEM, where it is not in `certificate_file`; also read again."""

    private_key: SecretText | None = Field(
        default=None, title="${NAME}, with the key in PEM, or the key private_key_file"
    )
    """The private key itself, from the environment or the keyring; `\\n` may stand for its line breaks."""

    certificate_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key certificate_password_file"
    )
    """The password of the private key, or of the PFX."""

    certificate_password_file: FilePath | None = Field(default=None, title=_OWN_FILE)
    """A file that holds the password, in place of `certificate_password`."""

    federated_token_file: FilePath | None = Field(
        default=None, title="the path of a file that its issuer keeps fresh"
    )
    """A file with the token of another issuer that the application trusts (workload identity federation),
    such as the one that AZURE_FEDERATED_TOKEN_FILE names in Kubernetes. It is read each time it is needed."""

    managed_identity: Annotated[
        Annotated[bool | str, BeforeValidator(parse_identity)] | None, MACHINE_IDENTITY
    ] = Field(default=None, title="true, or the client ID of a user-assigned identity")
    """The identity that Azure gives this machine, App Service or container: `true` for the system-assigned
    one, or the client ID (not the object ID) of a user-assigned one. Without `client_id` the identity itself
    reads the tenant that it lives in. With `client_id` its token stands for an application, in any tenant,
    that trusts it by a federated credential."""


class SecondCredential(ProofKeys):
    """Another credential of the same application, so that the first can be renewed without a gap.

    It is tried when Entra refuses the first, or that cannot be used. What worked last is tried first from
    then on.
    """


class RotationKeys(Section):
    """What else belongs to the proof."""

    second: SecondCredential | None = Field(default=None, title="an object with another credential")
    """Another credential of the same application, for renewing the first without a gap."""

    assertion_audience: Annotated[Annotated[str, AfterValidator(parse_audience)] | None, DESTINATION] = Field(
        default=None, title="an https URL, in which {tenant} may stand for the tenant's GUID"
    )
    """Whom a certificate's assertion is meant for; left out, the address of the token endpoint that is
    called. Microsoft's page on the API prints `https://login.windows.net/{tenant}/oauth2/token`."""


class Credentials(RotationKeys, ProofKeys, ApplicationKeys):
    """The application that reads the audit records, and what it proves itself with.

    One of `client_secret`, `certificate_file`, `federated_token_file` and `managed_identity` is needed. Of
    several, those are tried first that need looking after least: `managed_identity`, `federated_token_file`,
    `certificate_file`, `client_secret`, and then those of `second` in the same order.
    """


class ResponseCredentials(RotationKeys, ProofKeys):
    """The application that responds, and what it proves itself with; the kinds are those of an input's."""

    client_id: Annotated[Guid | None, MOSTLY_NEEDED] = Field(
        default=None, title="the application (client) ID, a GUID"
    )
    """The id of an app registration of its own, in or consented to by the tenant of the alert."""
