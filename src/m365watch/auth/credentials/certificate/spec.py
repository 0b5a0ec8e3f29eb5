"""Credential `certificate`: one that is registered on the application, and its key."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr

from m365watch.common.errors import CredentialsRefused
from m365watch.common.file_access import read_small_file
from m365watch.config.document import Document
from m365watch.config.models.base import DESTINATION, OWN_FILE, UPLOAD, FilePath, SecretText
from m365watch.config.models.clouds import parse_base_url
from m365watch.config.models.credentials import OF_APPLICATION, CredentialFile, CredentialSettings
from m365watch.config.secrets import UNREAD
from m365watch.http.tls import PEM_CERTIFICATE, PEM_KEY, PFX
from m365watch.registry.credential_specs import (
    CERTIFICATE,
    Credential,
    CredentialContext,
    CredentialEnd,
    CredentialSpec,
    Prompt,
    Source,
)

FILE_BYTES_MAX = 1_048_576
_DER = b"\x30"


def _with_line_breaks(key: SecretStr) -> SecretStr:
    r"""`\n` stands for a line break where an environment file cannot hold one."""
    return SecretStr(key.get_secret_value().replace("\\n", "\n"))


def _parse_audience(text: str) -> str:
    """The address unchanged, `{tenant}` and all."""
    parse_base_url(text.replace("{tenant}", "tenant"))
    return text


class CertificateSettings(CredentialSettings):
    """A certificate that is registered on the application, and its key; read when it is used."""

    type: ClassVar[str] = CERTIFICATE

    certificate_file: Annotated[FilePath, UPLOAD] = Field(
        title="the path of a certificate in PEM, DER or PFX"
    )
    """The certificate that is registered on the application, with an RSA key of 2,048 bits or more. It is
    read again when the file changes, so that a new one needs no restart."""

    private_key_file: Annotated[FilePath | None, UPLOAD] = Field(default=None, title=OWN_FILE)
    """The certificate's private key in PEM, where it is not in `certificate_file`; also read again."""

    private_key: Annotated[SecretText, AfterValidator(_with_line_breaks)] | None = Field(
        default=None, title="${NAME}, with the key in PEM, or the key private_key_file"
    )
    """The private key itself, from the environment or the keyring; `\\n` may stand for its line breaks."""

    certificate_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key certificate_password_file"
    )
    """The password of the private key, or of the PFX."""

    certificate_password_file: FilePath | None = Field(default=None, title=OWN_FILE)
    """A file that holds the password, in place of `certificate_password`."""

    assertion_audience: Annotated[
        Annotated[str, AfterValidator(_parse_audience)] | None, DESTINATION, OF_APPLICATION
    ] = Field(default=None, title="an https URL, in which {tenant} may stand for the tenant's GUID")
    """Whom a certificate's assertion is meant for; left out, the address of the token endpoint that is
    called. Microsoft's page on the API prints `https://login.windows.net/{tenant}/oauth2/token`."""

    @classmethod
    def judge_file(cls, key: str, file: CredentialFile) -> str | None:
        """A certificate is public where no key is beside it."""
        has_key = PEM_KEY.search(file.content) is not None
        if key == "private_key_file":
            if not has_key and not file.content.startswith(_DER):
                raise ValueError("holds no private key in PEM; give the key that belongs to certificate_file")
        elif not PEM_CERTIFICATE.search(file.content) and not file.content.startswith(_DER):
            raise ValueError("holds no certificate; give one in PEM, DER or PFX")
        is_secret = has_key or PFX.match(file.content) or key == "private_key_file"
        return file.guard.check(file.path, file.status) if is_secret else None

    @classmethod
    def disagreements(
        cls,
        section: Document,
        credentials: Document,  # noqa: ARG003 - it is about the key alone
        files: Mapping[str, bytes],
    ) -> Iterator[tuple[str, str]]:
        """One private key, in one place."""
        text, file = section.get("private_key"), section.get("private_key_file")
        if text is not None and file is not None:
            yield "private_key", "is given beside private_key_file; keep one of the two"
        if isinstance(text, str) and text not in ("", UNREAD) and not _is_key(text):
            yield "private_key", "holds no private key in PEM; give the text of the whole file"
        if text is None and file is None and _lacks_key(files.get("certificate_file", b"")):
            yield "private_key_file", "is missing; certificate_file holds no private key of its own"

    @property
    def password(self) -> bytes | None:
        """Of the key, or of the PFX."""
        given = self.certificate_password
        return None if given is None else given.get_secret_value().encode()

    def end(self) -> CredentialEnd:
        """What the certificate itself says."""
        # The library takes a while to import, and most applications have a secret.
        from m365watch.auth.certificates.certificate import load_certificate, thumbprints_of

        try:
            content, _ = read_small_file(self.certificate_file, bytes_max=FILE_BYTES_MAX)
            found = load_certificate(content, self.password, reads_key=False).certificate
        except FileNotFoundError:
            return CredentialEnd(self.type, note=f"{self.certificate_file} is not there", key=self.name)
        except ValueError as error:
            return CredentialEnd(self.type, note=f"{self.certificate_file} {error}", key=self.name)
        return CredentialEnd(
            self.type,
            Source.CERTIFICATE,
            (found.not_valid_after_utc,),
            key=self.name,
            mark=thumbprints_of(found).sha1_hex,
        )

    def fault(self) -> CredentialsRefused | None:
        """Whether certificate and key can be read and belong together."""
        from m365watch.auth.credentials.client_certificate import read_pair

        try:
            read_pair(self)
        except CredentialsRefused as fault:
            return fault
        return None


def _is_key(text: str) -> bool:
    """Whether it is PEM, or a variable that has no value where nothing is sent."""
    return "${" in text or PEM_KEY.search(text.encode("utf-8", "replace")) is not None


def _lacks_key(content: bytes) -> bool:
    """Whether it is a certificate alone: DER, as `.cer` files are, or PEM."""
    if content.startswith(_DER):
        return not PFX.match(content)
    return PEM_CERTIFICATE.search(content) is not None and not PEM_KEY.search(content)


def _build(settings: CertificateSettings, context: CredentialContext) -> Credential:
    # What reads keys and signs takes 60 ms to import, and a secret does without.
    from m365watch.auth.credentials.client_certificate import CertificateAssertion

    return CertificateAssertion(context.client_id, settings, clock=context.clock)


_UPLOAD = (
    "upload the certificate of credentials.certificate_file to the application in Entra, "
    "or name one that is uploaded, and the key that belongs to it"
)

SPEC = CredentialSpec(
    type=CERTIFICATE,
    label="certificate",
    upkeep=2,
    section=CertificateSettings,
    build=_build,
    fixes={
        **dict.fromkeys((50013, 50027, 700027, 700030), _UPLOAD),
        7000218: "name a certificate and its key in credentials.certificate_file",
    },
    prompts=(
        Prompt(
            key="certificate_file",
            about="registered on the application; its key never leaves this machine",
            question="file of the certificate; empty to have one made",
            usual="",
        ),
        Prompt(
            key="private_key_file",
            about="in PEM; only its owner may read it",
            question="file of its private key; empty where it is in the same file",
            usual="",
        ),
        Prompt(key="certificate_password_file", about="of the key or the PFX; only its owner may read it"),
    ),
    renew="make a new one with `m365watch certificate create`, upload it to the application in Entra, "
    "and name it in {place}",
    known_by="the certificate itself",
    unreadable_fix="name a certificate that this user may read, and its password",
)
