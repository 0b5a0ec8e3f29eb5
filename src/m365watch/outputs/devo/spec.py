"""Output `devo_platform`: Devo's own way in, syslog over TLS with a client certificate."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from m365watch.config.models.base import DESTINATION, UPLOAD, FilePath, GlobalKey, Number, Section, Whole
from m365watch.config.models.globals import compression_oddities
from m365watch.config.models.wire_values import parse_transport_type
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.check import check_wire
from m365watch.outputs.network.options import (
    PEM,
    AddressKeys,
    SendingKeys,
    TagKeys,
    VerifiedTlsKeys,
    any_server,
    short_retention,
)
from m365watch.outputs.network.settings import AT_DEVO, TaggedOutput
from m365watch.registry.checks import Checked
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output

DEVOS_ADDRESSES = tuple(f"collector-{region}.devo.io" for region in ("us", "ca", "eu", "ap"))
"""Where Devo takes lines.

Source: Devo's SDK for Python 7.0.2, "Endpoints".
"""


class CompressionKeys(Section):
    """Devo's compression of the lines; each left out is taken from `globals`."""

    threshold_for_using_gzip_in_transport_layer: Annotated[
        Number, GlobalKey("devo_sender_threshold_for_using_gzip_in_transport_layer")
    ] = Field(default=1.1, ge=-1.0, le=1.1, title="a number, -1.0 to 1.1")
    """How full the queue is when the sender starts to compress: below 0 always, above 1 never."""

    compression_level: Annotated[Whole, GlobalKey("devo_sender_compression_level")] = Field(
        default=6, ge=1, le=9, title="a whole number, 1 to 9"
    )
    """How hard the sender compresses: 1 to 6 quickly (ISA-L at its level 1), from 7 on as hard as zlib at
    that level."""

    compression_buffer_in_bytes: Annotated[Whole, GlobalKey("devo_sender_compression_buffer_in_bytes")] = (
        Field(default=51_200, ge=1, le=10_485_760, title="a whole number of bytes, 1 to 10,485,760")
    )
    """How much the sender compresses at once."""


class CertificateKeys(VerifiedTlsKeys):
    """The client's certificate and the authority's."""

    chain: Annotated[FilePath, DESTINATION, UPLOAD] = Field(title=PEM)
    """The certificates of the authority that the server's certificate has to come from; also `chain_loc`."""

    cert: Annotated[FilePath, UPLOAD] = Field(title=PEM)
    """The client's certificate; also `cert_loc`."""

    key: Annotated[FilePath, UPLOAD] = Field(title=PEM)
    """The client's private key, which others should not be able to read; also `key_loc`."""


class SecuredAddressKeys(AddressKeys):
    """Where to send to, and how that is secured."""

    type: Annotated[str, AfterValidator(parse_transport_type), DESTINATION] = Field(
        default="SSL", title="SSL"
    )
    """How the connection is secured: TLS 1.2 or 1.3 with a client certificate, the server always verified."""


class DevoConfig(TagKeys, SendingKeys, CompressionKeys, CertificateKeys, SecuredAddressKeys):
    """Options of an output of type `devo_platform`.

    Relative paths of certificates start at the configuration file's folder; a file that is not there is
    looked for in the folder `certs` in it and beside it, as Devo's container has it.
    """


class DevoSection(TaggedOutput):
    """Devo's own way in: one line a record, over TLS with a client certificate."""

    type: Literal["devo_platform", "relay"] = Field(title="devo_platform or relay")
    """The kind of output; the two names are the same."""

    config: DevoConfig = Field(title="an object with address, port, chain, cert and key")
    """The options of the output."""

    @property
    def place(self) -> str:
        """The address."""
        return f"{self.config.address}:{self.config.port}"

    @property
    def secured_by(self) -> TlsSettings:
        """How a connection is secured."""
        return self.config.tls

    @property
    def compresses_by_globals(self) -> bool:
        """As Devo's collector does."""
        return True

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """What Devo has."""
        return (PersonalData(self.config.address, AT_DEVO),)

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """An address that is none of Devo's, and what is unsafe or has less effect than it reads."""
        at, config = (*path, "config"), self.config
        if config.address.lower().rstrip(".") not in DEVOS_ADDRESSES:
            yield (*at, "address"), f"{config.address} is none of Devo's own ({', '.join(DEVOS_ADDRESSES)})"
        if not config.verify_hostname:
            yield any_server(at)
        yield from compression_oddities(config, (*at, "compression_level"))
        yield from short_retention(config, at)


def _build(settings: DevoSection, context: BuildContext) -> Output:
    from m365watch.outputs.devo.devo_output import DevoOutput

    return DevoOutput(settings, clock=context.clock, random=context.random)


async def _check(settings: DevoSection, context: CheckContext) -> Sequence[Checked]:
    config = settings.config
    return await check_wire(settings.name, config.address, config.port, config.tls, config, context)


SPEC = OutputSpec(
    type="devo_platform",
    aliases=("relay",),
    summary="Devo, by syslog over TLS",
    section=DevoSection,
    build=_build,
    check=_check,
    template="""\
type: devo_platform
config:
  address: "<collector-xx.devo.io>"   # of your region
  port: 443
  chain: "<upload it>"                # the authority's certificates, in PEM
  cert: "<upload it>"
  key: "<upload it>"
""",
    prompts={"address": None, "port": "443", "chain": None, "cert": None, "key": None},
)
