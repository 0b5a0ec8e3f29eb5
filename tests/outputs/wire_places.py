"""Certificates, settings and senders for the tests of wires without acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from patience import PATIENCE_S

from m365watch.common.clock import SystemClock, system_random
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.network.sender import WireSender
from m365watch_testing.certificates import Authority
from m365watch_testing.devo_server import DevoServer, Faults, server_tls

QUICK = SendingKeys.model_construct(
    connecting_retries=3,
    connecting_initial_wait_in_seconds=0.01,
    connecting_max_wait_in_seconds=0.05,
    sending_timeout=30.0,
    sending_retries=3,
    sending_initial_wait_in_seconds=0.01,
    sending_max_wait_in_seconds=0.05,
    retention_secs=0.1,
)
"""As the defaults, with shorter waits; a peer that is only slow, as on a busy machine, is not left."""


class Papers:
    """One authority, a server's certificate and a client's, made once for many tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.client = self.authority.issue("client")
        self.tls = TlsSettings(self.authority.chain, self.client.cert, self.client.key)

    def serve(self, faults: Callable[[int], Faults] | None = None, *, port: int = 0) -> DevoServer:
        """A server with the right certificate that takes the client's."""
        return DevoServer(server_tls(self.authority), faults=faults, port=port)

    def tls_of(self, *, lasts: timedelta = timedelta(days=90), **changes: Any) -> TlsSettings:
        """The client's side with a certificate of its own, and with `changes`."""
        client = self.authority.issue("client", lasts=lasts)
        return replace(self.tls, cert=client.cert, key=client.key, **changes)


def make_sender(
    port: int,
    tls: TlsSettings | None,
    settings: SendingKeys = QUICK,
    *,
    address: str = "localhost",
    deliveries_max: int = 100,
) -> WireSender:
    """A sender named `wire`, not opened."""
    return WireSender(
        address,
        port,
        tls,
        settings,
        name="wire",
        deliveries_max=deliveries_max,
        clock=SystemClock(),
        random=system_random(1),
    )


class Opened:
    """A sender that is open while entered."""

    def __init__(self, sender: WireSender) -> None:
        self.sender = sender

    async def __aenter__(self) -> WireSender:
        await self.sender.open()
        return self.sender

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.sender.close()


def opened(port: int, tls: TlsSettings | None, settings: SendingKeys = QUICK, **options: Any) -> Opened:
    """A sender named `wire`, open while entered."""
    return Opened(make_sender(port, tls, settings, **options))


def changed(settings: SendingKeys, **changes: Any) -> SendingKeys:
    """The same with other values, which may be smaller than those of a file."""
    return settings.model_copy(update=changes)


LONG = changed(QUICK, retention_secs=3_600.0)
"""Nothing is released by time, so that a slow reader loses nothing where connections break."""


async def deliver_proven(sender: WireSender, *deliveries: Sequence[bytes]) -> None:
    """Deliver all of them together, and wait for the proof instead of the retention."""
    tasks = [asyncio.create_task(sender.deliver(chunks)) for chunks in deliveries]
    await asyncio.sleep(0)
    await sender.flush()
    await asyncio.gather(*tasks)


def make_chunks(count: int, *, start: int = 0, chunk_bytes: int = 16_384) -> list[bytes]:
    """Chunks of numbered lines, no two alike."""
    filler = b"x" * 90
    lines = chunk_bytes // 100
    return [
        b"".join(b"<14>%08d %s\n" % (number * lines + line, filler) for line in range(lines))
        for number in range(start, start + count)
    ]


def lines_in(chunks: Sequence[bytes]) -> list[bytes]:
    """The lines of chunks, without their ends."""
    return b"".join(chunks).splitlines()


async def until(happened: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    """Return once it has happened."""
    async with asyncio.timeout(within_s):
        while not happened():
            await asyncio.sleep(0.002)


def warnings_in(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `capture_logs` caught at WARNING and above."""
    return [line["event"] for line in lines if line["log_level"] in {"warning", "error"}]
