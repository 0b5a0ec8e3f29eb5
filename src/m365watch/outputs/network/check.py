"""A receiver of lines tried: a connection, and the certificates on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol

from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.settings import WireSettings
from m365watch.registry.checks import Check, Checked, good, odd
from m365watch.registry.output_specs import CheckContext

_RENEW = "have a new one issued"


class Receiver(Protocol):
    """Who lines are sent to."""

    @property
    def name(self) -> str:
        """The output's."""
        ...

    @property
    def address(self) -> str:
        """A host name or an IP address."""
        ...

    @property
    def port(self) -> int:
        """TCP's."""
        ...

    @property
    def wire(self) -> WireSettings:
        """How lines are sent."""
        ...


async def check_wire(receiver: Receiver, tls: TlsSettings | None, context: CheckContext) -> list[Checked]:
    """Connect and say nothing. Raises: CollectorError: the receiver cannot be reached, or does not match."""
    from m365watch.outputs.network.connector import try_wire
    from m365watch.outputs.network.sender import OWN_END_NEAR, SERVER_END_NEAR

    name = receiver.name
    tried = await try_wire(receiver.address, receiver.port, tls, receiver.wire, name=name)
    how = "in TLS" if tls is not None else "in the clear"
    if tried.own_end_at is not None:
        how += " with the client certificate"
    now = context.clock.now()
    return [
        good(Check.OUTPUT, f"{receiver.address}:{receiver.port} takes connections {how}", subject=name),
        *_judge_end("the client certificate", tried.own_end_at, OWN_END_NEAR, now=now, name=name),
        *_judge_end("the server's certificate", tried.server_end_at, SERVER_END_NEAR, now=now, name=name),
    ]


def _judge_end(
    whose: str, ends_at: datetime | None, near: timedelta, *, now: datetime, name: str
) -> Iterator[Checked]:
    """A note on a certificate that ends soon."""
    if ends_at is not None and ends_at - now < near:
        yield odd(Check.OUTPUT, f"{whose} ends at {ends_at:%Y-%m-%d %H:%MZ}", fix=_RENEW, subject=name)
