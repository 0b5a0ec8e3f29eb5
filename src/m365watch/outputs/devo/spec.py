"""Output `devo_platform`: Devo's own way in, syslog over TLS with a client certificate."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from m365watch.common.secret import secret_of
from m365watch.config.models.base import DESTINATION, UPLOAD, FilePath, Number, Section, Whole
from m365watch.config.models.globals import GlobalOverrides, compression_oddities
from m365watch.config.models.outputs import OutputSection
from m365watch.config.models.wire_values import parse_transport_type
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.check import check_wire
from m365watch.outputs.network.options import (
    PEM,
    AddressKeys,
    KeyKeys,
    SendingKeys,
    TagKeys,
    any_server,
    short_retention,
)
from m365watch.outputs.network.settings import (
    TagSettings,
    WireSettings,
    at_devo,
    host_of,
    is_on,
    tags_of,
    wire_of,
)
from m365watch.registry.checks import Checked
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
    OutputSettings,
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

    threshold_for_using_gzip_in_transport_layer: Number | None = Field(
        default=None, ge=-1.0, le=1.1, title="a number, -1.0 to 1.1"
    )
    """How full the queue is when the sender starts to compress: below 0 always, above 1 never."""

    compression_level: Whole | None = Field(default=None, ge=1, le=9, title="a whole number, 1 to 9")
    """How hard the sender compresses: 1 to 6 quickly (ISA-L at its level 1), from 7 on as hard as zlib at
    that level."""

    compression_buffer_in_bytes: Whole | None = Field(
        default=None, ge=1, le=10_485_760, title="a whole number of bytes, 1 to 10,485,760"
    )
    """How much the sender compresses at once."""


class CertificateKeys(Section):
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


class DevoConfig(TagKeys, SendingKeys, CompressionKeys, KeyKeys, CertificateKeys, SecuredAddressKeys):
    """Options of an output of type `devo_platform`.

    Relative paths of certificates start at the configuration file's folder; a file that is not there is
    looked for in the folder `certs` in it and beside it, as Devo's container has it.
    """


@dataclass(frozen=True, slots=True)
class CompressionSettings:
    """Devo's compression of the transport; the defaults are those of its SDK."""

    threshold: float = 1.1
    """Below 0: always; above 1: never; else from this fullness of the queue on (mean of the last 1,000)."""
    level: int = 6
    """1 to 9."""
    buffer_bytes: int = 51_200
    """How much is compressed at once, as one gzip member."""


@dataclass(frozen=True, slots=True)
class DevoSettings(OutputSettings):
    """Syslog over TLS with a client certificate."""

    type: ClassVar[str] = "devo_platform"
    address: str
    port: int
    tls: TlsSettings
    host: str
    """The host of each line; the machine's name unless set."""
    wire: WireSettings = field(default_factory=WireSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    tags: TagSettings = field(default_factory=TagSettings)
    adds_devo_fields: bool = True
    """Whether `@devo_pulling_id` and `@devo_environment` are added to each record."""
    sends_notices: bool = True
    """Whether the collector's own events go to `devo.collectors.out`."""

    @property
    def place(self) -> str:
        """The address."""
        return f"{self.address}:{self.port}"

    @property
    def secured_by(self) -> TlsSettings:
        """How a connection is secured."""
        return self.tls

    @property
    def waits_on_disk(self) -> bool:
        """Devo may be away for hours."""
        return True

    @property
    def sends_events(self) -> bool:
        """What `collectors_out` says, or else whether Devo reads the lines."""
        return self.sends_notices

    @property
    def override_tags(self) -> tuple[str, ...]:
        """Tags that are used as they are."""
        return self.tags.overrides

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """What Devo has."""
        return at_devo(self.address)

    def with_override_tags(self, tags: tuple[str, ...]) -> "DevoSettings":
        """Devo is taken to have the tables that somebody names."""
        return replace(self, tags=replace(self.tags, overrides=tags))

    def for_alerts(self, name: str, table: str) -> "DevoSettings":
        """The same receiver, which need not know the table beforehand."""
        return replace(self, name=name, tags=self.tags.with_table(table))


class DevoSection(OutputSection):
    """Devo's own way in: one line a record, over TLS with a client certificate."""

    type: Literal["devo_platform", "relay"] = Field(title="devo_platform or relay")
    """The kind of output; the two names are the same."""

    config: DevoConfig = Field(title="an object with address, port, chain, cert and key")
    """The options of the output."""

    @property
    def adds_devo_fields(self) -> bool:
        """Unless that is switched off."""
        return is_on(given=self.config.add_devo_fields, default=True)

    @property
    def sends_events_unasked(self) -> bool:
        """Devo's own collector sends them, too."""
        return self.config.collectors_out is None

    def resolve(self, name: str, *, folder: Path, overall: GlobalOverrides) -> DevoSettings:  # noqa: ARG002
        """The settings of the sender."""
        config = self.config
        return DevoSettings(
            name=name,
            address=config.address,
            port=config.port,
            tls=TlsSettings(
                chain=config.chain,
                cert=config.cert,
                key=config.key,
                key_password=secret_of(config.key_password),
                verify_hostname=config.verify_hostname,
            ),
            host=host_of(config),
            wire=wire_of(config, overall),
            compression=_compression_of(config, overall),
            tags=tags_of(config),
            adds_devo_fields=self.adds_devo_fields,
            sends_notices=is_on(given=config.collectors_out, default=True),
        )

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """An address that is none of Devo's, and what is unsafe or has less effect than it reads."""
        at, config = (*path, "config"), self.config
        if config.address.lower().rstrip(".") not in DEVOS_ADDRESSES:
            yield (*at, "address"), f"{config.address} is none of Devo's own ({', '.join(DEVOS_ADDRESSES)})"
        if not config.verify_hostname:
            yield any_server(at)
        yield from compression_oddities(config, (*at, "compression_level"))
        yield from short_retention(config, at)


def _compression_of(config: DevoConfig, overall: GlobalOverrides) -> CompressionSettings:
    threshold = config.threshold_for_using_gzip_in_transport_layer
    if threshold is None:
        threshold = overall.devo_sender_threshold_for_using_gzip_in_transport_layer
    return CompressionSettings(
        threshold=threshold,
        level=config.compression_level or overall.devo_sender_compression_level,
        buffer_bytes=config.compression_buffer_in_bytes or overall.devo_sender_compression_buffer_in_bytes,
    )


def _build(settings: DevoSettings, context: BuildContext) -> Output:
    from m365watch.outputs.devo.devo_output import DevoOutput

    return DevoOutput(settings, clock=context.clock, random=context.random)


async def _check(settings: DevoSettings, context: CheckContext) -> Sequence[Checked]:
    return await check_wire(settings, settings.tls, context)


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
