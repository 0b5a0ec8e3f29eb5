"""Channel `syslog`: lines of RFC 5424 with structured data, or of CEF."""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models.base import Whole
from m365watch.config.models.notifications import ChannelSection
from m365watch.config.models.wire_values import FACILITIES, parse_address, parse_facility, parse_line_host
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.options import TlsKeys
from m365watch.outputs.syslog.spec import SyslogSection as SyslogOutputSection
from m365watch.registry.channel_specs import Channel, ChannelContext, ChannelSpec, Sender


class AlertLineKeys(ChannelSection):
    """Where to send to, and how a line looks."""

    type: Literal["syslog"] = Field(title="syslog")

    address: Annotated[str, AfterValidator(parse_address)] = Field(title="a host name or an IP address")
    """The receiver."""

    port: Whole = Field(ge=1, le=65_535, title="a whole number, 1 to 65,535")
    """Its port: 6514 over TLS, 514 otherwise, as a rule."""

    transport: Literal["tcp", "tls", "udp"] = Field(default="tcp", title="tcp, tls or udp")
    """How lines travel. UDP may lose them, and nobody can tell."""

    format: Literal["rfc5424", "cef"] = Field(default="rfc5424", title="rfc5424 or cef")
    """What a line says: `rfc5424` has the alert's fields as structured data, `cef` as ArcSight's Common Event
    Format behind the same header."""

    framing: Literal["newline", "octet-counting"] = Field(
        default="octet-counting", title="newline or octet-counting"
    )
    """How lines are told apart on TCP and TLS; over UDP each is a datagram of its own."""

    facility: Annotated[int, BeforeValidator(parse_facility)] = Field(
        default=10, title=f"a number, 0 to 23, or one of {', '.join(FACILITIES)}"
    )
    """The facility of every line: `authpriv` unless set. The severity is the alert's."""

    hostname: Annotated[str, AfterValidator(parse_line_host)] | None = Field(
        default=None, title="a host name without spaces"
    )
    """The host that each line names; left out, the machine's own name."""

    tells_closed: ClassVar[bool] = True


class SyslogSection(TlsKeys, AlertLineKeys):
    """A line for each alert to a receiver of syslog."""

    @property
    def secured_by(self) -> TlsSettings | None:
        """How the connection is secured, if it is."""
        return self.tls if self.transport == "tls" else None

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """Those of certificates, as for an output."""
        return SyslogOutputSection.disagreements(options, path)


def _build(channel: Channel[SyslogSection], context: ChannelContext) -> Sender:
    from m365watch.notifications.channels.syslog.syslog_sender import SyslogSender

    return SyslogSender(channel, collector=context.collector, clock=context.clock, random=context.random)


SPEC = ChannelSpec(
    type="syslog",
    arrives="a line: RFC 5424 with structured data, or CEF (`format: cef`)",
    needs="a receiver over TLS, TCP or UDP",
    section=SyslogSection,
    build=_build,
)
