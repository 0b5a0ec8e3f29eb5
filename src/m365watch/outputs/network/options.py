"""The keys that outputs over a network have in common.

Devo's keys come first, with the defaults and ranges of its collector; the others are of this collector.
"""

# Annotations stay objects here (`config.models.base.Section` says why).

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from m365watch.common.secret import secret_of
from m365watch.config.defaults import MEBIBYTE_BYTES
from m365watch.config.models import values
from m365watch.config.models.base import (
    DESTINATION,
    NO_EFFECT,
    ON_OFF,
    UPLOAD,
    FilePath,
    GlobalKey,
    SecretText,
    Section,
    Switch,
    Whole,
    listed,
)
from m365watch.config.models.wire_values import (
    parse_address,
    parse_line_host,
    parse_table,
)
from m365watch.config.validation_report import KeyPath
from m365watch.http.settings import TlsSettings

WAIT = "a whole number of seconds, 1 to 3,600"
_TRIES = "a whole number, 1 to 10"
PEM = "the path of a PEM file"

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

    period_sender_stats_in_seconds: Annotated[Whole, GlobalKey("sender_stats_period_in_sec")] = Field(
        default=300, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400"
    )
    """How often the sender reports its figures; left out, `sender_stats_period_in_sec` of `globals`."""

    connecting_retries: Whole = Field(default=5, ge=1, le=10, title=_TRIES)
    """How often a connection is tried before the trouble is reported; it is tried on all the same."""

    connecting_initial_wait_in_seconds: Whole = Field(default=2, ge=1, le=3_600, title=WAIT)
    """The first wait between two tries to connect; each further one is twice as long."""

    connecting_max_wait_in_seconds: Whole = Field(default=60, ge=1, le=3_600, title=WAIT)
    """The longest wait between two tries to connect."""

    sending_timeout: Whole = Field(default=5, ge=1, le=3_600, title=WAIT)
    """How long the other side may take nothing at all before the connection counts as broken."""

    sending_retries: Whole = Field(default=5, ge=1, le=10, title=_TRIES)
    """How often the same lines are sent again over new connections before the trouble is reported."""

    sending_initial_wait_in_seconds: Whole = Field(default=2, ge=1, le=3_600, title=WAIT)
    """The first wait before lines are sent again; each further one is twice as long."""

    sending_max_wait_in_seconds: Whole = Field(default=60, ge=1, le=3_600, title=WAIT)
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

    retention_secs: Whole = Field(default=10, ge=1, le=3_600, title=WAIT)
    """How long what was sent is kept, unless `retention_megabytes` more follow first. Only then does a record
    count as delivered, since the protocol has no acknowledgement."""

    line_bytes_max: Whole = Field(
        default=1_048_576, ge=1_024, le=67_108_864, title="a whole number of bytes, 1,024 to 67,108,864"
    )
    """The longest line that is sent; a record beyond it goes to quarantine."""

    idle_secs: Whole = Field(default=60, ge=1, le=86_400, title="a whole number of seconds, 1 to 86,400")
    """How long a connection may be idle before it is closed in order."""

    @property
    def retention_bytes(self) -> int:
        """`retention_megabytes` in bytes."""
        return self.retention_megabytes * MEBIBYTE_BYTES


class TlsKeys(Section):
    """The certificates of `transport: tls`, and how the private key is opened."""

    chain: Annotated[FilePath | None, DESTINATION, UPLOAD] = Field(default=None, title=PEM)
    """The authority's certificates for `transport: tls`; left out, those that the system trusts."""

    cert: Annotated[FilePath | None, UPLOAD] = Field(default=None, title=PEM)
    """The client's certificate for `transport: tls`, if the server asks for one; `key` comes with it."""

    key: Annotated[FilePath | None, UPLOAD] = Field(default=None, title=PEM)
    """The client's private key for `transport: tls`."""

    key_password: SecretText | None = Field(
        default=None, title="the password in quotes, or ${NAME}, or the key key_password_file"
    )
    """The password of the private key, if it has one."""

    key_password_file: FilePath | None = Field(
        default=None, title="the path of a file that only its owner may read"
    )
    """A file that holds the password, in place of `key_password`."""

    @property
    def tls(self) -> TlsSettings:
        """How a connection is secured."""
        return TlsSettings(self.chain, self.cert, self.key, secret_of(self.key_password))


class VerifiedTlsKeys(TlsKeys):
    """How the server is checked."""

    verify_hostname: Annotated[Switch, DESTINATION] = Field(default=True, title=ON_OFF)
    """Whether the server's certificate has to name `address`. With false, any server with a certificate of
    the same authority can take the records; its chain is verified all the same."""

    @property
    def tls(self) -> TlsSettings:
        """How a connection is secured."""
        return replace(super().tls, verify_hostname=self.verify_hostname)


class AddressKeys(Section):
    """Where to send to."""

    address: Annotated[str, AfterValidator(parse_address), DESTINATION] = Field(
        title="a host name or an IP address"
    )
    """The server; `url` and `location`, as on Devo's collector server, are the same key."""

    port: Annotated[Whole, DESTINATION] = Field(ge=1, le=65_535, title="a whole number, 1 to 65,535")
    """The server's port: 443 at Devo, 13000 at an in-house relay."""


def any_server(at: KeyPath) -> tuple[KeyPath, str]:
    """Says that the server's name is not verified; `at` is the path of the options."""
    return (
        (*at, "verify_hostname"),
        (
            "UNSAFE: any server with a certificate of the same authority can take the records; remove the "
            "key as soon as the server's certificate names its address"
        ),
    )


def short_retention(config: SendingKeys, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Says where what was sent is forgotten before a break would show."""
    if config.retention_secs <= config.sending_timeout:
        yield (
            (*at, "retention_secs"),
            (
                f"is not above sending_timeout ({config.sending_timeout:g} s): what a receiver leaves unread "
                "just before its connection breaks is lost"
            ),
        )
