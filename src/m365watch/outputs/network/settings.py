"""How an output over a network behaves, made of its options."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from m365watch.config.defaults import MEBIBYTE_BYTES
from m365watch.config.models.globals import GlobalOverrides
from m365watch.outputs.network.options import SendingKeys, TagKeys
from m365watch.registry.output_specs import PersonalData

_NOT_IN_A_LINES_HOST = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class WireSettings:
    """How a sender without acknowledgement behaves; the defaults are those of Devo's SDK."""

    connections: int = 1
    connecting_retries: int = 5
    connecting_wait_first_s: float = 2.0
    connecting_wait_max_s: float = 60.0
    sending_timeout_s: float = 5.0
    """How long the peer may take nothing at all before the connection counts as broken."""
    sending_retries: int = 5
    sending_wait_first_s: float = 2.0
    sending_wait_max_s: float = 60.0
    retention_bytes: int = 16 * 1024 * 1024
    retention_s: float = 10.0
    """What was sent is kept, to be sent again after a break, until it has been with the peer's system
    for this long or until `retention_bytes` more were taken after it."""
    line_bytes_max: int = 1024 * 1024
    """A line beyond this goes to quarantine."""
    idle_s: float = 60.0
    """A connection without traffic is closed in order after this long."""
    stats_period_s: float = 300.0
    """How often the sender reports its figures."""


@dataclass(frozen=True, slots=True)
class TagSettings:
    """Which tags an output of Devo's may use."""

    fallback_tag: str = "cloud.office365.other"
    """The tag of records whose Workload has no table at Devo."""
    known_tables: tuple[str, ...] = ()
    """Tables to know beside those that are built in."""
    overrides: tuple[str, ...] = ()
    """Every `override_tag` of the inputs: what it says is used as it is, placeholders filled in."""

    def with_table(self, table: str) -> TagSettings:
        """The same, with one table more that is known."""
        return replace(self, known_tables=(*self.known_tables, table))


def wire_of(config: SendingKeys, overall: GlobalOverrides) -> WireSettings:
    """How lines are sent; `overall` has what the options leave to `globals`."""
    return WireSettings(
        connections=config.concurrent_connections,
        connecting_retries=config.connecting_retries,
        connecting_wait_first_s=float(config.connecting_initial_wait_in_seconds),
        connecting_wait_max_s=float(config.connecting_max_wait_in_seconds),
        sending_timeout_s=float(config.sending_timeout),
        sending_retries=config.sending_retries,
        sending_wait_first_s=float(config.sending_initial_wait_in_seconds),
        sending_wait_max_s=float(config.sending_max_wait_in_seconds),
        retention_bytes=config.retention_megabytes * MEBIBYTE_BYTES,
        retention_s=float(config.retention_secs),
        line_bytes_max=config.line_bytes_max,
        idle_s=float(config.idle_secs),
        stats_period_s=float(config.period_sender_stats_in_seconds or overall.sender_stats_period_in_sec),
    )


def tags_of(config: TagKeys) -> TagSettings:
    """Which tags an output with these options may use."""
    return TagSettings(fallback_tag=config.fallback_tag, known_tables=config.known_tables)


def own_host() -> str:
    """The machine's own name, as a line names it."""
    return _NOT_IN_A_LINES_HOST.sub("_", socket.gethostname())[:255] or "-"


def host_of(config: TagKeys) -> str:
    """The host that each line names."""
    return config.hostname or own_host()


def is_on(*, given: bool | None, default: bool) -> bool:
    """What a switch says, or the default where it was left out."""
    return default if given is None else given


def at_devo(place: str) -> Sequence[PersonalData]:
    """What is told of records that were sent to Devo."""
    advice = "not searched: what was sent stays there for as long as Devo keeps it; ask Devo to delete it"
    return (PersonalData(place, advice),)
