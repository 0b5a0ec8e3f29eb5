"""The keys of outputs that send over a network: `devo_platform`, `devo_http`, `syslog` and their aliases.

Devo's keys come first, with the defaults and ranges of its collector; the others are of this collector.
"""

# Annotations stay objects here (`kinds.Section` says why).

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.config.models import values
from m365watch.config.models.base import (
    DESTINATION,
    NO_EFFECT,
    ON_OFF,
    BaseUrl,
    FilePath,
    Number,
    Output,
    SecretText,
    Section,
    Switch,
    Whole,
    listed,
)
from m365watch.config.models.wire_values import (
    FACILITIES,
    SEVERITIES,
    parse_address,
    parse_app_name,
    parse_facility,
    parse_line_host,
    parse_severity,
    parse_table,
    parse_transport_type,
    parse_url_part,
)

_WAIT = "a whole number of seconds, 1 to 3,600"
_TRIES = "a whole number, 1 to 10"
_PEM = "the path of a PEM file"

LineHost = Annotated[str, AfterValidator(parse_line_host)]
Tag = Annotated[str, AfterValidator(values.parse_tag)]
Tables = Annotated[
    tuple[Annotated[str, AfterValidator(parse_table)], ...], BeforeValidator(listed), Field(max_length=1_000)
]


class TagKeys(Section):
    """Who the lines come from, and what Devo's tables need."""

    hostname: LineHost | None = Field(default=None, title="a host name without spaces")
    """The host that each line names; left out, the machine's own name."""

    fallback_tag: Tag = Field(
        default="cloud.office365.other", title='a Devo tag of 2 to 6 levels of letters, digits, "_" and "-"'
    )
    """The table for records whose Workload has no table at Devo, which would end in `unknown.unknown`."""

    known_tables: Tables = Field(default=(), title="a list of tables")
    """Tables that Devo has beside those that are built in, by their full names or their last level."""

    add_devo_fields: Switch | None = Field(default=None, title=ON_OFF)
    """Whether `@devo_pulling_id` and `@devo_environment` are added to each record, as Devo's collector does.
    Left out: true where Devo reads the lines, false for other formats of `syslog`."""

    collectors_out: Switch | None = Field(default=None, title=ON_OFF)
    """Whether what the collector says of itself is sent too, to `devo.collectors.out`. Left out: as for
    `add_devo_fields`."""


class SendingKeys(Section):
    """How a connection without acknowledgement is kept up."""

    concurrent_connections: Whole = Field(default=1, ge=1, le=64, title="a whole number, 1 to 64")
    """How many connections send side by side; `sender_concurrent_connections` is the same key."""

    period_sender_stats_in_seconds: Whole | None = Field(
        default=None, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400"
    )
    """How often the sender reports its figures; left out, `sender_stats_period_in_sec` of `globals`."""

    connecting_retries: Whole = Field(default=5, ge=1, le=10, title=_TRIES)
    """How often a connection is tried before the trouble is reported; it is tried on all the same."""

    connecting_initial_wait_in_seconds: Whole = Field(default=2, ge=1, le=3_600, title=_WAIT)
    """The first wait between two tries to connect; each further one is twice as long."""

    connecting_max_wait_in_seconds: Whole = Field(default=60, ge=1, le=3_600, title=_WAIT)
    """The longest wait between two tries to connect."""

    sending_timeout: Whole = Field(default=5, ge=1, le=3_600, title=_WAIT)
    """How long the other side may take nothing at all before the connection counts as broken."""

    sending_retries: Whole = Field(default=5, ge=1, le=10, title=_TRIES)
    """How often the same lines are sent again over new connections before the trouble is reported."""

    sending_initial_wait_in_seconds: Whole = Field(default=2, ge=1, le=3_600, title=_WAIT)
    """The first wait before lines are sent again; each further one is twice as long."""

    sending_max_wait_in_seconds: Whole = Field(default=60, ge=1, le=3_600, title=_WAIT)
    """The longest wait before lines are sent again."""

    sending_wait_between_retries_in_seconds: Annotated[Whole | None, NO_EFFECT] = Field(
        default=None, ge=0, title="a whole number of seconds"
    )
    """Devo's older wait; the two keys above set it."""

    activate_final_queue: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=ON_OFF)
    """Devo's second queue in memory; lines wait in the ledger here."""

    generate_metrics: Annotated[Switch | None, NO_EFFECT] = Field(default=None, title=ON_OFF)
    """Devo's figures about its queue."""

    retention_megabytes: Whole = Field(
        default=16, ge=1, le=1_024, title="a whole number of megabytes, 1 to 1,024"
    )
    """How much of what was sent last (in megabytes of 1,048,576 bytes) is kept for each connection, to be
    sent again after a break."""

    retention_secs: Whole = Field(default=10, ge=1, le=3_600, title=_WAIT)
    """How long what was sent is kept, unless `retention_megabytes` more follow first. Only then does a record
    count as delivered, since the protocol has no acknowledgement."""

    line_bytes_max: Whole = Field(
        default=1_048_576, ge=1_024, le=67_108_864, title="a whole number of bytes, 1,024 to 67,108,864"
    )
    """The longest line that is sent; a record beyond it goes to quarantine."""

    idle_secs: Whole = Field(default=60, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400")
    """How long a connection may be idle before it is closed in order."""


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


class KeyKeys(Section):
    """How the private key is opened, and how the server is checked."""

    key_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key key_password_file"
    )
    """The password of the private key, if it has one."""

    key_password_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the password, in place of `key_password`."""

    verify_hostname: Annotated[Switch, DESTINATION] = Field(default=True, title=ON_OFF)
    """Whether the server's certificate has to name `address`. With false, any server with a certificate of
    the same authority can take the records; its chain is verified all the same."""


class CertificateKeys(Section):
    """The client's certificate and the authority's."""

    chain: Annotated[FilePath, DESTINATION] = Field(title=_PEM)
    """The certificates of the authority that the server's certificate has to come from; also `chain_loc`."""

    cert: FilePath = Field(title=_PEM)
    """The client's certificate; also `cert_loc`."""

    key: FilePath = Field(title=_PEM)
    """The client's private key, which others should not be able to read; also `key_loc`."""


class AddressKeys(Section):
    """Where to send to."""

    address: Annotated[str, AfterValidator(parse_address), DESTINATION] = Field(
        title="a host name or an IP address"
    )
    """The server; `url` and `location`, as on Devo's collector server, are the same key."""

    port: Annotated[Whole, DESTINATION] = Field(ge=1, le=65_535, title="a whole number, 1 to 65,535")
    """The server's port: 443 at Devo, 13000 at an in-house relay."""


class SecuredAddressKeys(AddressKeys):
    """Where to send to, and how that is secured."""

    type: Annotated[str, AfterValidator(parse_transport_type), DESTINATION] = Field(
        default="SSL", title="SSL"
    )
    """How the connection is secured: TLS 1.2 or 1.3 with a client certificate, the server always verified."""


class DevoPlatformConfig(TagKeys, SendingKeys, CompressionKeys, KeyKeys, CertificateKeys, SecuredAddressKeys):
    """Options of an output of type `devo_platform`.

    Relative paths of certificates start at the configuration file's folder; a file that is not there is
    looked for in the folder `certs` in it and beside it, as Devo's container has it.
    """


class DevoPlatformOutput(Output):
    """Devo's own way in: one line a record, over TLS with a client certificate."""

    type: Literal["devo_platform", "relay"] = Field(title="devo_platform or relay")
    """The kind of output; the two names are the same."""

    config: DevoPlatformConfig = Field(title="an object with address, port, chain, cert and key")
    """The options of the output."""


class DevoHttpConfig(TagKeys):
    """Options of an output of type `devo_http`."""

    endpoint: Annotated[BaseUrl, DESTINATION] = Field(title="an https URL (http for loopback hosts only)")
    """Devo's HTTP endpoint, for example https://http-us.devo.io or https://http-eu.devo.io."""

    domain: Annotated[str, AfterValidator(parse_url_part), DESTINATION] = Field(
        title="the name of the Devo domain"
    )
    """The domain that the token is of."""

    token: SecretText = Field(title="the token in quotes, or ${NAME}, or the key token_file")
    """A token of Devo's that may send over HTTP, or `${NAME}` to take it from the environment."""

    token_file: FilePath | None = Field(default=None, title="the path of a file that only its owner may read")
    """A file that holds the token, in place of `token`. A line break at its end is left out."""

    compression: Literal["none", "gzip"] = Field(default="gzip", title="none or gzip")
    """How requests are compressed."""

    request_megabytes_max: Whole = Field(
        default=32, ge=1, le=32, title="a whole number of megabytes, 1 to 32"
    )
    """The largest request before compression, in megabytes of 1,048,576 bytes; Devo takes no more than 32. A
    record beyond it goes to quarantine."""

    timeout_secs: Whole = Field(default=30, ge=1, le=3_600, title=_WAIT)
    """How long an answer is waited for."""


class DevoHttpOutput(Output):
    """Devo's HTTP endpoint: one request for each table of a batch, acknowledged by its answer."""

    type: Literal["devo_http"] = Field(title="devo_http")
    """The kind of output."""

    config: DevoHttpConfig = Field(title="an object with endpoint, domain and token")
    """The options of the output."""


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


class OptionalCertificateKeys(Section):
    """The certificates of `transport: tls`."""

    chain: Annotated[FilePath | None, DESTINATION] = Field(default=None, title=_PEM)
    """The authority's certificates for `transport: tls`; left out, those that the system trusts."""

    cert: FilePath | None = Field(default=None, title=_PEM)
    """The client's certificate for `transport: tls`, if the server asks for one; `key` comes with it."""

    key: FilePath | None = Field(default=None, title=_PEM)
    """The client's private key for `transport: tls`."""


class SyslogConfig(TagKeys, SendingKeys, KeyKeys, OptionalCertificateKeys, LineKeys):
    """Options of an output of type `syslog`, `in_house_relay` or `sidecar`.

    Certificates are looked for as those of `devo_platform` are.
    """


class SyslogOutput(Output):
    """Lines of syslog to Devo's in-house relay or to any other receiver."""

    type: Literal["syslog", "in_house_relay", "sidecar"] = Field(title="syslog, in_house_relay or sidecar")
    """The kind of output; the names differ in the `format` that they have if none is set."""

    config: SyslogConfig = Field(title="an object with address and port")
    """The options of the output."""
