from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from promises import guarantee
from yarl import URL

from m365watch.common.errors import BadAnswer, CollectorError, ConnectionClosed, Unavailable
from m365watch.http.client import Answer, open_session
from m365watch.http.proxies import proxy_for
from m365watch_testing.clock import START
from m365watch_testing.loopback import Fault, LoopbackServer, Received, Reply

BODY = b'[{"Id":"1"}]'


def answer_of(
    reply: Reply, *, method: str = "GET", stall_s: float = 5.0, body_bytes_max: int = 1_000
) -> tuple[Answer, Received]:
    """What comes back from a server that gives `reply`, and what it was asked."""

    async def ask() -> tuple[Answer, Received]:
        async with (
            LoopbackServer(lambda _: reply) as server,
            open_session(stall_s=stall_s, body_bytes_max=body_bytes_max) as session,
        ):
            url = URL(f"{server.url}/a$b%2Fc?x=1", encoded=True)
            answer = await session.send(method, url, headers={"Authorization": "Bearer t"}, where="here")
            return answer, server.received[0]

    return asyncio.run(ask())


def test_an_answer_comes_whole_whatever_its_status() -> None:
    """Meaning is given to it elsewhere."""
    answer, _ = answer_of(Reply(403, BODY, {"nextpageuri": "x"}))

    assert (answer.status, answer.body, answer.headers["NextPageUri"]) == (403, BODY, "x")


def test_a_compressed_body_is_inflated() -> None:
    """The media type does not matter."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}
    answer, _ = answer_of(Reply(200, gzip.compress(BODY), headers))

    assert answer.body == BODY


def test_the_address_goes_out_as_it_is() -> None:
    """A `$` stays a `$` and an encoded slash stays encoded."""
    _, received = answer_of(Reply())

    assert received.target == "/a$b%2Fc?x=1"


def test_a_post_says_its_length() -> None:
    """A POST without a body needs `Content-Length: 0`, and no media type."""
    _, received = answer_of(Reply(), method="POST")

    assert received.headers["Content-Length"] == "0"
    assert "Content-Type" not in received.headers


@guarantee(24)
def test_a_redirect_is_not_followed() -> None:
    """A token goes only where it was sent."""
    answer, _ = answer_of(Reply(302, b"", {"Location": "/elsewhere"}))

    assert answer.status == 302


def test_cookies_are_not_kept() -> None:
    """A front door's cookies would tie tenants together."""

    async def ask() -> list[Received]:
        reply = Reply(200, BODY, {"Set-Cookie": "a=b"})
        async with LoopbackServer(lambda _: reply) as server, open_session() as session:
            for _ in range(2):
                url = URL(server.url.replace("127.0.0.1", "localhost"))
                await session.send("GET", url, headers={}, where="here")
            return server.received

    assert all("Cookie" not in received.headers for received in asyncio.run(ask()))


def test_a_netrc_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of others are nothing of ours."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _, received = answer_of(Reply())

    assert received.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (Reply(200, BODY, fault=Fault.RESET), ConnectionClosed, "broken"),
        (Reply(200, BODY, fault=Fault.CUT), BadAnswer, "cut short"),
        (Reply(200, BODY, fault=Fault.STALL), Unavailable, "in time"),
        (Reply(200, gzip.compress(BODY)[:-3], {"Content-Encoding": "gzip"}), BadAnswer, "cut short"),
        (Reply(200, bytes(1_001)), BadAnswer, "larger"),
        (Reply(200, gzip.compress(bytes(1_001)), {"Content-Encoding": "gzip"}), BadAnswer, "larger"),
    ],
)
def test_a_broken_answer_is_an_error_to_be_tried_again(
    reply: Reply, kind: type[CollectorError], said: str
) -> None:
    """What arrived of it is thrown away."""
    with pytest.raises(kind, match=said) as caught:
        answer_of(reply, stall_s=0.2)

    assert "Bearer" not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_slow_drip_is_no_stall() -> None:
    """What keeps coming is waited for, however slowly it comes."""
    answer, _ = answer_of(Reply(200, BODY * 4, fault=Fault.DRIP), stall_s=0.15)

    assert answer.body == BODY * 4


def test_a_closed_port_is_unavailable() -> None:
    """Nobody listens there."""

    async def ask() -> None:
        async with LoopbackServer(lambda _: Reply()) as server:
            url = server.url
        async with open_session() as session:
            await session.send("GET", URL(url), headers={}, where="here")

    with pytest.raises(Unavailable, match="no connection"):
        asyncio.run(ask())


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_connection_that_the_server_closes_unanswered_is_named(*, abruptly: bool) -> None:
    """In order or with a reset: operators count closed connections apart from time-outs."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if abruptly:
            writer.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, open_session() as session:
            await session.send("GET", URL(f"http://127.0.0.1:{port}"), headers={}, where="here")

    with pytest.raises(ConnectionClosed, match="here: the connection was broken: the server closed it"):
        asyncio.run(ask())


def test_an_answer_that_is_no_http_is_a_bad_answer() -> None:
    """Another protocol on the port."""

    async def ask() -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-server\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, open_session() as session:
            await session.send("GET", URL(f"http://127.0.0.1:{port}/"), headers={}, where="here")

    with pytest.raises(BadAnswer, match="not HTTP"):
        asyncio.run(ask())


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    """A token is sent to nobody who cannot prove to be the host."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    heard: list[bytes] = []

    async def ask() -> None:
        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read())
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server, open_session() as session:
            await session.send("GET", URL(f"https://127.0.0.1:{port}/"), headers={}, where="here")

    with pytest.raises(Unavailable, match="certificate"):
        asyncio.run(ask())
    assert b"".join(heard) == b""


@pytest.fixture
def _fresh_proxies() -> Iterator[None]:
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


@pytest.mark.usefixtures("_fresh_proxies")
def test_a_proxy_is_used_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the host behind it is the proxy's to resolve; the token stays inside the tunnel."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def ask() -> Received:
        async with LoopbackServer(lambda _: Reply(407)) as proxy, open_session() as session:
            monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//a:b@"))
            url = URL("https://service.example/x")
            with pytest.raises(Unavailable, match="the proxy answered HTTP 407"):
                await session.send("GET", url, headers={"Authorization": "Bearer t"}, where="here")
            return proxy.received[0]

    received = asyncio.run(ask())

    assert (received.method, received.target) == ("CONNECT", "service.example:443")
    assert received.headers["Proxy-Authorization"] == "Basic YTpi"
    assert "Authorization" not in received.headers


def self_signed() -> bytes:
    """A key and a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START - timedelta(days=3650))
        .not_valid_after(START + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
