"""A kind of credential that is not of this package: a visa, shown in a secret's place."""

# Annotations stay objects here, for pydantic.

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from m365watch.common.errors import CredentialsRefused
from m365watch.config.models.base import UPLOAD, FilePath, Instant, SecretText
from m365watch.config.models.credentials import CredentialFile, CredentialSettings
from m365watch.registry.credential_specs import (
    Credential,
    CredentialContext,
    CredentialEnd,
    CredentialSpec,
    Prompt,
    Source,
)


class VisaSettings(CredentialSettings):
    """A visa."""

    type: ClassVar[str] = "visa"

    visa_file: Annotated[FilePath, UPLOAD] = Field(title="the path of a visa")
    """The visa, with its stamp."""

    visa_expires_at: Instant | None = Field(default=None, title="an instant")
    """When it ends, as the stamp says."""

    password: SecretText | None = Field(default=None, title="the password, or the key password_file")
    """Opens the visa."""

    password_file: FilePath | None = Field(default=None, title="the path of a file")
    """A file that holds the password."""

    @classmethod
    def judge_file(cls, key: str, file: CredentialFile) -> str | None:
        if not file.content.startswith(b"visa "):
            raise ValueError("holds no visa; give one with a stamp")
        return super().judge_file(key, file)

    def end(self) -> CredentialEnd:
        ends = () if self.visa_expires_at is None else (self.visa_expires_at,)
        source = Source.CONFIGURATION if ends else Source.UNKNOWN
        return CredentialEnd(self.type, source, ends, key=self.name)

    def fault(self) -> CredentialsRefused | None:
        if self.visa_file.read_text().endswith("torn"):
            return CredentialsRefused("the visa is torn", fix="have it printed again")
        return None


class Visa:
    """Shows what is behind the word."""

    def __init__(self, client_id: str, settings: VisaSettings) -> None:
        self.client_id = client_id
        self.name = settings.name
        self._file = settings.visa_file

    async def proof(self, token_url: str) -> Mapping[str, str]:
        del token_url
        return {"client_secret": self._file.read_text().removeprefix("visa ")}


def _build(settings: VisaSettings, context: CredentialContext) -> Credential:
    return Visa(context.client_id, settings)


SPEC = CredentialSpec(
    type="visa",
    aliases=("stamp",),
    label="visa",
    upkeep=1,
    section=VisaSettings,
    build=_build,
    fixes={7000215: "have credentials.visa_file stamped again"},
    prompts=(
        Prompt(key="visa_file", about="stamped by the embassy", question="file of the visa"),
        Prompt(key="visa_expires_at", about="as stamped", question="when it ends", usual=""),
    ),
    renew="have a new visa stamped and name it in {place}",
    known_by="visa_expires_at",
    unknown_fix="set visa_expires_at in {place}",
)
