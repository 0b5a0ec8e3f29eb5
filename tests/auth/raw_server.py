"""A server on loopback that says exactly what a test has written down, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from patience import PATIENCE_S

from m365watch_testing.clock import START

T = TypeVar("T")
Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def run(loop: Loop, what: Coroutine[Any, Any, T]) -> T:
    """What it comes to, in a loop of that kind; nothing may hang."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(asyncio.wait_for(what, PATIENCE_S))


@dataclass(frozen=True, slots=True)
class Say:
    """What is done about one request."""

    raw: bytes = OK
    closes: bool = False
    resets: bool = False
    after_s: float = 0.0
    bit_by_bit: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A request as it came."""

    connection: int
    """Which of the server's connections it came by, from 1."""
    head: str
    body: bytes = b""

    @property
    def first_line(self) -> str:
        return self.head.partition("\r\n")[0]

    @property
    def lines(self) -> list[str]:
        return self.head.split("\r\n")[1:-2]


class RawServer:
    """Answers one request after the other with what was laid ready; the last of it again and again."""

    def __init__(self, *say: Say, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.heard: list[Heard] = []
        self.open = 0
        self.open_most = 0
        self.port = 0
        self._say = list(say) or [Say()]
        self._tls = tls
        self._host = host
        self._connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}"

    @property
    def connections(self) -> list[int]:
        """The connection by which each request came."""
        return [heard.connection for heard in self.heard]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.open += 1
        self.open_most = max(self.open, self.open_most)
        self._writers.append(writer)
        number = self._connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [int(line[16:]) for line in head.split("\r\n") if line.startswith("Content-Length: ")]
        self.heard.append(Heard(number, head, await reader.readexactly(length[0]) if length else b""))
        say = self._say.pop(0) if len(self._say) > 1 else self._say[0]
        await asyncio.sleep(say.after_s)
        for part in [say.raw[at : at + 1] for at in range(len(say.raw))] if say.bit_by_bit else [say.raw]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if say.resets:
            writer.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        return not say.closes


def certificate(folder: Path, *names: str) -> Path:
    """A file with a key and a certificate for `names` that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=3650))
        .not_valid_after(START + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = folder / f"{names[0]}.pem"
    pem.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return pem


def server_tls(pem: Path) -> ssl.SSLContext:
    """TLS of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
