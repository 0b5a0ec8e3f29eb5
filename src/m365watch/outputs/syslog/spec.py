"""Output `syslog`: RFC 5424 or RFC 3164 over TCP, TLS or UDP, to Devo's in-house relay or anywhere else."""

# Annotations stay objects here (`config.models.base.Section` says why).

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models.base import DESTINATION, NO_EFFECT
from m365watch.config.models.globals import GlobalOverrides
from m365watch.config.models.wire_values import (
    FACILITIES,
    SEVERITIES,
    parse_app_name,
    parse_facility,
    parse_severity,
)
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.check import check_wire
from m365watch.outputs.network.options import (
    AddressKeys,
    SendingKeys,
    TagKeys,
    VerifiedTlsKeys,
    any_server,
    short_retention,
)
from m365watch.outputs.network.settings import TaggedOutput
from m365watch.registry.checks import Check, Checked, bad, odd
from m365watch.registry.output_specs import (
    BuildContext,
    CheckContext,
    OutputSpec,
    PersonalData,
)
from m365watch.registry.outputs import Output

RELAY_PORT = 13_000
"""Where Devo's in-house relay listens, in the examples of its collectors."""
_OF_CONNECTIONS = {
    "framing",
    *(name for name, field in SendingKeys.model_fields.items() if NO_EFFECT not in field.metadata),
} - {"line_bytes_max", "period_sender_stats_in_seconds", "sending_timeout"}
"""Keys that mean something for connections alone."""


class LineKeys(AddressKeys):
    """Where to send to, and how a line looks."""

    transport: Annotated[Literal["tcp", "tls", "udp"], DESTINATION] = Field(
        default="tcp", title="tcp, tls or udp"
    )
    """How lines travel; `protocol` is the same key. UDP may lose lines, and nobody can tell."""

    format: Literal["rfc5424", "rfc3164", "devo"] | None = Field(
        default=None, title="rfc5424, rfc3164 or devo"
    )
    """How a line is written; devo is the line of `devo_platform`. Left out: devo for `in_house_relay` and
    `sidecar`, and for `syslog` on port 13000 or with Devo's own keys, as Devo's collectors name their relay;
    else rfc5424."""

    framing: Literal["newline", "octet-counting"] = Field(
        default="newline", title="newline or octet-counting"
    )
    """How lines are told apart on TCP and TLS; over UDP each is a datagram of its own."""

    facility: Annotated[int, BeforeValidator(parse_facility)] = Field(
        default=1, title=f"a number, 0 to 23, or one of {', '.join(FACILITIES)}"
    )
    """The facility of every line: `user` unless set."""

    severity: Annotated[int, BeforeValidator(parse_severity)] = Field(
        default=6, title=f"a number, 0 to 7, or one of {', '.join(SEVERITIES)}"
    )
    """The severity of every line: `info` unless set."""

    app_name: Annotated[str, AfterValidator(parse_app_name)] = Field(
        default="m365watch", title="a text of up to 48 printable characters without spaces"
    )
    """The sending application: APP-NAME in RFC 5424, TAG in RFC 3164; `{table}` stands for the table."""


_TLS_KEYS = {*VerifiedTlsKeys.model_fields}


class SyslogConfig(TagKeys, SendingKeys, VerifiedTlsKeys, LineKeys):
    """Options of an output of type `syslog`, `in_house_relay` or `sidecar`.

    Certificates are looked for as those of `devo_platform` are.
    """


class SyslogSection(TaggedOutput):
    """Lines of syslog to Devo's in-house relay or to any other receiver."""

    type: Literal["syslog", "in_house_relay", "sidecar"] = Field(title="syslog, in_house_relay or sidecar")
    """The kind of output; the names differ in the `format` that they have if none is set."""

    config: SyslogConfig = Field(title="an object with address and port")
    """The options of the output."""

    def for_run(self, name: str, *, folder: Path, overall: GlobalOverrides) -> Self:
        """The same as a run has it: also with the format that it has if none is set."""
        made = super().for_run(name, folder=folder, overall=overall)
        return made.with_options(format=self.format)

    @property
    def format(self) -> str:
        """How the output writes its lines: as set, or as its name promises."""
        if self.config.format is not None:
            return self.config.format
        return "rfc5424" if self.type == "syslog" and not _is_devos_relay(self.config) else "devo"

    @property
    def is_read_by_devo(self) -> bool:
        """Whether the lines are Devo's."""
        return self.format == "devo"

    @property
    def place(self) -> str:
        """The address."""
        return f"{self.config.address}:{self.config.port}"

    @property
    def secured_by(self) -> TlsSettings | None:
        """How a connection is secured."""
        return self.config.tls if self.config.transport == "tls" else None

    @property
    def waits_on_disk(self) -> bool:
        """A receiver may be away for hours; nobody waits for one of datagrams."""
        return self.config.transport != "udp"

    @property
    def personal_data(self) -> Sequence[PersonalData]:
        """What the receiver has."""
        advice = "not searched: what was sent is with the receiver; erase it there"
        return (PersonalData(self.config.address, advice),)

    @classmethod
    def disagreements(cls, options: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """Half of a client's certificate, and keys of TLS where nothing is encrypted."""
        given = {key for key, value in options.items() if value is not None}
        if options.get("transport") != "tls":
            for key in sorted(_TLS_KEYS & given):
                yield (*path, key), "is for transport tls only; set the transport, or remove the key"
            return
        for one, other in (("cert", "key"), ("key", "cert")):
            if one in given and other not in given:
                yield (*path, other), f"is missing; {one} needs it"

    def oddities(self, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
        """What has no effect over UDP, what is unsafe, and a format that was guessed."""
        at, config = (*path, "config"), self.config
        if config.transport == "udp":
            yield (*at, "transport"), "udp may lose lines, and neither side can tell; use tcp or tls"
            for key in sorted(_OF_CONNECTIONS & config.model_fields_set):
                yield (*at, key), "has no effect over udp"
        if config.transport == "tls" and not config.verify_hostname:
            yield any_server(at)
        if self.type == "syslog" and config.format is None and _is_devos_relay(config):
            yield (
                (*at, "format"),
                (
                    "is left out; this looks like Devo's in-house relay, so lines are written as devo; "
                    "for another receiver give rfc5424"
                ),
            )
        if config.transport != "udp":
            yield from short_retention(config, at)


def _is_devos_relay(config: SyslogConfig) -> bool:
    """Whether the keys are those with which Devo's collectors name their in-house relay."""
    devos_keys = {"concurrent_connections", "period_sender_stats_in_seconds"}
    return config.port == RELAY_PORT or bool(devos_keys & config.model_fields_set)


def _build(settings: SyslogSection, context: BuildContext) -> Output:
    from m365watch.outputs.syslog.syslog_output import SyslogOutput

    return SyslogOutput(settings, clock=context.clock, random=context.random)


async def _check(settings: SyslogSection, context: CheckContext) -> Sequence[Checked]:
    config = settings.config
    if config.transport == "udp":
        return [await _check_name(settings)]
    return await check_wire(settings.name, config.address, config.port, settings.secured_by, config, context)


async def _check_name(settings: SyslogSection) -> Checked:
    """The name is all that can be tried: nobody answers a datagram."""
    config = settings.config
    try:
        await asyncio.get_running_loop().getaddrinfo(config.address, config.port)
    except (OSError, UnicodeError):
        fix = "correct `address`"
        return bad(Check.OUTPUT, f"{config.address} cannot be resolved", fix=fix, subject=settings.name)
    seen = f"{settings.place} over UDP: nobody can tell whether anything arrives there"
    fix = "use transport tcp or tls where no record may be missing"
    return odd(Check.OUTPUT, seen, fix=fix, subject=settings.name)


SPEC = OutputSpec(
    type="syslog",
    aliases=("in_house_relay", "sidecar"),
    summary="any syslog receiver",
    section=SyslogSection,
    build=_build,
    check=_check,
    template="""\
type: syslog
config:
  address: "<host>"
  port: 6514
  transport: tls                      # or tcp, udp
  format: rfc5424                     # or rfc3164, devo
""",
    prompts={"address": None, "port": "443", "transport": "tls"},
)
