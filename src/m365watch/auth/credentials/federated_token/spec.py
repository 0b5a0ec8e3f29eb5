"""Credential `federated_token`: the token of another issuer that the application trusts."""

# Annotations stay objects here (`config.models.base.Section` says why).

from typing import ClassVar

from pydantic import Field

from m365watch.config.models.base import FilePath
from m365watch.config.models.credentials import CredentialFile, CredentialSettings
from m365watch.registry.credential_specs import Credential, CredentialContext, CredentialSpec, Prompt


class FederatedTokenSettings(CredentialSettings):
    """Another issuer's token, in a file that this issuer keeps fresh."""

    type: ClassVar[str] = "federated_token"

    federated_token_file: FilePath = Field(title="the path of a file that its issuer keeps fresh")
    """A file with the token of another issuer that the application trusts (workload identity federation),
    such as the one that AZURE_FEDERATED_TOKEN_FILE names in Kubernetes. It is read each time it is needed."""

    @classmethod
    def judge_file(cls, key: str, file: CredentialFile) -> str | None:  # noqa: ARG003 - there is one
        """Others may read it, for it lives an hour or so; a warning says so."""
        return file.guard.judge_token(file.path, file.status)


def _build(settings: FederatedTokenSettings, context: CredentialContext) -> Credential:
    from m365watch.auth.credentials.federated_token.federated_token import FederatedToken

    return FederatedToken(context.client_id, settings, clock=context.clock)


_TRUST = (
    "make the application's federated credential in Entra name the issuer, subject and audience of the token "
    "in credentials.federated_token_file"
)
_NO_JWT = "have the issuer write a JSON Web Token, and nothing else, into credentials.federated_token_file"
_FRESH = "see to it that the issuer keeps the token in credentials.federated_token_file fresh"

SPEC = CredentialSpec(
    type="federated_token",
    aliases=("federated",),
    label="federated token",
    upkeep=1,
    section=FederatedTokenSettings,
    build=_build,
    fixes={
        **dict.fromkeys((50012, 50013, 70021, 700027, 700030, 700211, 700212, 700213), _TRUST),
        50027: _NO_JWT,
        700024: _FRESH,
        700229: "put a token of an application, not of a user, into credentials.federated_token_file",
        7000218: _FRESH,
    },
    prompts=(
        Prompt(
            key="federated_token_file",
            about="another issuer's token, which that issuer keeps fresh",
            question="file with the issuer's token",
            variable="AZURE_FEDERATED_TOKEN_FILE",
        ),
    ),
    renewed_by="its issuer",
)
