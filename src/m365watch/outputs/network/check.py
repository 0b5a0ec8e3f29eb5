"""A receiver of lines tried: a connection, and the certificates on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.options import SendingKeys
from m365watch.registry.checks import Check, Checked, good, odd
from m365watch.registry.output_specs import CheckContext

_RENEW = "have a new one issued"


async def check_wire(
    name: str, address: str, port: int, tls: TlsSettings | None, sending: SendingKeys, context: CheckContext
) -> list[Checked]:
    """Connect and say nothing. Raises: CollectorError: the receiver cannot be reached, or does not match."""
    from m365watch.outputs.network.connector import try_wire
    from m365watch.outputs.network.sender import OWN_END_NEAR, SERVER_END_NEAR

    tried = await try_wire(address, port, tls, sending, name=name)
    how = "in TLS" if tls is not None else "in the clear"
    if tried.own_end_at is not None:
        how += " with the client certificate"
    now = context.clock.now()
    return [
        good(Check.OUTPUT, f"{address}:{port} takes connections {how}", subject=name),
        *_judge_end("the client certificate", tried.own_end_at, OWN_END_NEAR, now=now, name=name),
        *_judge_end("the server's certificate", tried.server_end_at, SERVER_END_NEAR, now=now, name=name),
    ]


def _judge_end(
    whose: str, ends_at: datetime | None, near: timedelta, *, now: datetime, name: str
) -> Iterator[Checked]:
    """A note on a certificate that ends soon."""
    if ends_at is not None and ends_at - now < near:
        yield odd(Check.OUTPUT, f"{whose} ends at {ends_at:%Y-%m-%d %H:%MZ}", fix=_RENEW, subject=name)
