"""Credential `managed_identity`: the identity that Azure gives this machine."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, InstanceOf

from m365watch.config.credential_validation import IdentityEndpoint, find_endpoint
from m365watch.config.document import Document
from m365watch.config.models import values
from m365watch.config.models.base import MACHINE_IDENTITY
from m365watch.config.models.credentials import NO_KEY, CredentialSettings
from m365watch.registry.credential_specs import Credential, CredentialContext, CredentialSpec, Prompt


def _parse_identity(value: object) -> object:
    """True, False or the GUID of an identity."""
    if isinstance(value, str) and values.is_guid(value):
        return value.lower()
    try:
        return values.parse_switch(value)
    except ValueError:
        raise ValueError("is neither true nor a GUID") from None


class ManagedIdentitySettings(CredentialSettings):
    """The identity that Azure gives this machine."""

    type: ClassVar[str] = "managed_identity"

    managed_identity: Annotated[bool | str, BeforeValidator(_parse_identity), MACHINE_IDENTITY] = Field(
        title="true, or the client ID of a user-assigned identity"
    )
    """The identity that Azure gives this machine, App Service or container: `true` for the system-assigned
    one, or the client ID (not the object ID) of a user-assigned one. Without `client_id` the identity itself
    reads the tenant that it lives in. With `client_id` its token stands for an application, in any tenant,
    that trusts it by a federated credential."""

    endpoint: Annotated[InstanceOf[IdentityEndpoint], NO_KEY] = IdentityEndpoint()
    """Where the machine gives out its tokens."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Mapping[str, Any]:
        """The endpoint."""
        return {"endpoint": find_endpoint(environment)}

    @classmethod
    def disagreements(
        cls,
        section: Document,
        credentials: Document,
        files: Mapping[str, bytes],  # noqa: ARG003 - there are none
    ) -> Iterator[tuple[str, str]]:
        """An identity stands for another application, and not for itself."""
        client_id, identity = credentials.get("client_id"), section.get("managed_identity")
        if isinstance(client_id, str) and isinstance(identity, str) and client_id.lower() == identity.lower():
            why = "is that of the managed identity itself; remove the key, or give that of an application"
            yield "client_id", why


def _build(settings: ManagedIdentitySettings, context: CredentialContext) -> Credential:
    from m365watch.auth.credentials.managed_identity.identity_tokens import IdentityAssertion, IdentityTokens

    tokens = IdentityTokens(settings, session=context.session, clock=context.clock)
    if not context.client_id:
        return tokens
    return IdentityAssertion(context.client_id, tokens, clock=context.clock, cloud=context.cloud)


def _identity(text: str) -> str:
    if text.lower() in {"true", "system"}:
        return "true"
    try:
        return values.parse_guid(text)
    except ValueError:
        raise ValueError('is neither "system" nor the client ID of an identity, a GUID') from None


_TRUST = (
    "give the application in Entra a federated credential for the managed identity that "
    "credentials.managed_identity names"
)

SPEC = CredentialSpec(
    type="managed_identity",
    aliases=("managed",),
    label="managed identity",
    upkeep=0,
    section=ManagedIdentitySettings,
    build=_build,
    fixes={
        **dict.fromkeys((50013, 50027, 70021, 700027, 700030, 700211, 700212, 700213, 700229), _TRUST),
        7000218: "see that this machine's identity of credentials.managed_identity gives a token",
    },
    prompts=(
        Prompt(
            key="managed_identity",
            about="the identity that Azure gives this machine",
            question="client ID of a user-assigned identity; empty for the system's own",
            usual="true",
            check=_identity,
        ),
    ),
    renewed_by="Azure",
)
