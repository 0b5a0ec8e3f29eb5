"""One connection to a receiver as a sender makes it, and nothing sent over it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.connection_errors import ConnectFailed
from m365watch.outputs.network.connector import Target, check_address, connect
from m365watch.outputs.network.settings import WireSettings
from m365watch.outputs.network.tls import make_context, read_end, read_own_end


@dataclass(frozen=True, slots=True)
class Tried:
    """What the connection showed."""

    own_end_at: datetime | None
    """When the client's certificate ends; None without one."""
    server_end_at: datetime | None
    """When the server's does; None in the clear."""


async def try_wire(
    address: str, port: int, tls: TlsSettings | None, settings: WireSettings, *, name: str
) -> Tried:
    """Connect, do TLS with the client's certificate, hear whether it is refused, and leave in order.

    Raises: OutputUnusable, OutputUnavailable: what is in the way.
    """
    where = f"output {name}: {address}:{port}"
    check_address(address, where=where)
    context = make_context(tls, where=where) if tls is not None else None
    own_end_at = read_own_end(tls, where=where) if tls is not None else None
    target = Target(address, port, tls, context, settings.sending_timeout_s, where)
    try:
        connection, certificate = await connect(target)
    except ConnectFailed as failed:
        raise failed.why.error(where=where) from None
    try:
        connection.end()
        connection.push()
    finally:
        connection.close()
    return Tried(own_end_at, read_end(certificate) if certificate else None)
