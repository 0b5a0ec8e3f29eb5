"""How a connection comes to be, and by which name its failure goes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from yarl import URL

from m365watch.http.aiohttp_transport import ConnectionPool
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.transport import ExchangeFailed, RawAnswer
from raw_server import LOOPS, OK, Loop, RawServer, Say, certificate, run, server_tls

pytestmark = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])

HOST = "service.example"
WHO = "the proxy answered HTTP 407: it wants a user name and a password it knows"
TOKEN = {"Authorization": "Bearer t"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


@pytest.fixture
def pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of both names, that the environment vouches for."""
    made = certificate(tmp_path, "localhost", HOST)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    return made


async def ask(url: str, *, times: int = 1, network: NetworkSettings = UNSET_NETWORK) -> RawAnswer | str:
    """The last of so many answers, or what is said of the failure."""
    pool = ConnectionPool(connections_max=4, body_bytes_max=1_000, stall_s=5.0, total_s=10.0, network=network)
    try:
        for _ in range(times):
            answer = await pool.exchange("GET", URL(url, encoded=True), headers=TOKEN, body=None)
    except ExchangeFailed as error:
        return str(error)
    finally:
        await pool.close()
    return answer


def body_of(answer: RawAnswer | str) -> bytes | str:
    return answer.body if isinstance(answer, RawAnswer) else answer


def test_tls_names_the_host_and_its_protocol(loop: Loop, pem: Path) -> None:
    """SNI, HTTP/1.1 by ALPN, and the certificates that SSL_CERT_FILE names."""
    seen: list[tuple[str | None, str | None]] = []
    context = server_tls(pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((names[-1], writer.get_extra_info("ssl_object").selected_alpn_protocol()))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    async def main() -> RawAnswer | str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        async with server:
            return await ask(f"https://localhost:{server.sockets[0].getsockname()[1]}/")

    assert body_of(run(loop, main())) == b"ok"
    assert seen == [("localhost", "http/1.1")]


def test_a_connection_in_tls_is_used_again(loop: Loop, pem: Path) -> None:
    """Handshakes are dear."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> RawAnswer | str:
        async with server:
            return await ask(server.url.replace("127.0.0.1", "localhost"), times=3)

    assert body_of(run(loop, main())) == b"ok"
    assert server.connections == [1, 1, 1]


def test_a_certificate_for_another_name_is_not_accepted(loop: Loop, pem: Path) -> None:
    """It is vouched for, but not for this host."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> RawAnswer | str:
        async with server:
            return await ask(server.url)

    assert str(run(loop, main())).startswith(
        "the server's certificate was not accepted (IP address mismatch, certificate is not valid for"
    )
    assert server.heard == []


def test_a_server_without_tls_is_named_so(loop: Loop) -> None:
    """Nothing is wrong with a certificate that never came."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    async def main() -> RawAnswer | str:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            return await ask(f"https://localhost:{server.sockets[0].getsockname()[1]}/")

    assert str(run(loop, main())).startswith("the server's TLS was not accepted (")


def test_a_name_that_nobody_knows_is_named_so(loop: Loop) -> None:
    """Also one that cannot be a name."""
    said = "the host's name cannot be resolved"

    assert run(loop, ask("http://nowhere.invalid/")) == said
    assert run(loop, ask(f"http://{'x' * 70}.invalid/")) == said


def test_a_closed_port_is_named_so(loop: Loop) -> None:
    """With the system's own reason."""

    async def main() -> RawAnswer | str:
        async with RawServer() as gone:
            pass
        return await ask(gone.url)

    assert str(run(loop, main())).startswith("no connection (Conne")


def test_a_host_that_does_not_answer_is_waited_for_so_long(loop: Loop) -> None:
    """Here one that takes the connection, and never begins with TLS."""
    network = NetworkSettings(connect_timeout_in_seconds=0.1)

    async def main() -> RawAnswer | str:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            return await ask(f"https://localhost:{silent.getsockname()[1]}/", network=network)

    assert run(loop, main()) == "no connection (not within 0.1 s)"


def test_every_address_of_a_host_is_tried(loop: Loop) -> None:
    """`localhost` may be ::1 first, where nobody listens."""
    server = RawServer(host="127.0.0.1")

    async def main() -> RawAnswer | str:
        async with server:
            return await ask(f"http://localhost:{server.port}/")

    assert body_of(run(loop, main())) == b"ok"


def test_an_ipv6_address_is_reached(loop: Loop) -> None:
    """Written in brackets, looked up without."""
    server = RawServer(host="::1")

    async def main() -> RawAnswer | str:
        async with server:
            return await ask(server.url)

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert body_of(run(loop, main())) == b"ok"
    assert f"Host: [::1]:{server.port}" in server.heard[0].lines


def test_a_request_waits_for_no_other_to_leave(loop: Loop) -> None:
    """Small segments go out at once (TCP_NODELAY)."""

    async def main() -> int:
        pool = ConnectionPool(connections_max=4, body_bytes_max=1_000, stall_s=5.0, total_s=10.0)
        async with RawServer() as server:
            await pool.exchange("GET", URL(server.url), headers={}, body=None)
            [connection] = pool._usable
            assert connection._transport is not None
            found = connection._transport.get_extra_info("socket")
            no_delay: int = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await pool.close()
        return no_delay

    assert run(loop, main())


def test_a_proxy_carries_requests_in_the_clear(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given the whole address and its own password."""
    proxy = RawServer()

    async def main() -> RawAnswer | str:
        async with proxy:
            monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//a:b@"))
            return await ask(f"http://{HOST}/x?y=z", times=2)

    assert body_of(run(loop, main())) == b"ok"
    assert proxy.heard[0].first_line == f"GET http://{HOST}/x?y=z HTTP/1.1"
    assert {f"Host: {HOST}", "Proxy-Authorization: Basic YTpi"} <= set(proxy.heard[0].lines)
    assert proxy.connections == [1, 1]


class TunnelProxy(RawServer):
    """A proxy that leads on to a port of this machine, whatever the host."""

    def __init__(self, to_port: int, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(Say(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"), tls=tls)
        self._to_port = to_port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer(reader, writer, 1)
        onward, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        await asyncio.gather(self._carry(reader, back), self._carry(onward, writer))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await source.read(1 << 16):
                target.write(part)
        target.close()


@pytest.mark.parametrize("proxy_in_tls", [False, True])
def test_a_proxy_leads_to_tls_and_hears_no_token(
    loop: Loop, proxy_in_tls: bool, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees where to, and its own password; the rest is between the host and us."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> tuple[RawAnswer | str, TunnelProxy]:
        async with server, TunnelProxy(server.port, tls=server_tls(pem) if proxy_in_tls else None) as proxy:
            url = proxy.url.replace("127.0.0.1", "a:b@localhost")
            monkeypatch.setenv("https_proxy", url)
            answer = await ask(f"https://{HOST}/x", times=2)
            await asyncio.sleep(0.05)
            return answer, proxy

    answer, proxy = run(loop, main())

    assert body_of(answer) == b"ok"
    assert server.connections == [1, 1]
    assert "Authorization: Bearer t" in server.heard[0].lines
    assert not any("Proxy" in line for line in server.heard[0].lines)
    [asked] = proxy.heard
    assert asked.first_line == f"CONNECT {HOST}:443 HTTP/1.1"
    assert {f"Host: {HOST}:443", "Proxy-Authorization: Basic YTpi"} <= set(asked.lines)
    assert "Bearer" not in asked.head


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (Say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!"), "the proxy answered HTTP 403"),
        (Say(b"HTTP/1.1 407 Who\r\n\r\n"), WHO),
        (Say(b"HTTP/1.1 204 Odd\r\n\r\n"), "the proxy answered HTTP 204"),
        (
            Say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad\r\n\r\n", bit_by_bit=True),
            "the proxy answered HTTP 502",
        ),
        (Say(b"HTTP/1.1 200 OK\r\n\r\nsurplus"), "the answer is not HTTP"),
        (Say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nsurplus"), "the answer is not HTTP"),
        (Say(b"SSH-2.0-x\r\n"), "the answer is not HTTP"),
        (Say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "the answer's head is larger than 65536 bytes"),
        (Say(b"", closes=True), "the connection was broken: the server closed it"),
    ],
)
def test_a_proxy_that_does_not_lead_on_is_named_so(
    loop: Loop, say: Say, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its status, if it has one."""

    async def main() -> RawAnswer | str:
        async with RawServer(say) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            return await ask(f"https://{HOST}/x")

    assert run(loop, main()) == said


def test_a_host_behind_a_proxy_may_be_away(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy led on, and the way ended in the handshake."""

    async def main() -> RawAnswer | str:
        async with RawServer(Say(b"HTTP/1.1 200 OK\r\n\r\n", closes=True)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            return await ask(f"https://{HOST}/x")

    assert str(run(loop, main())).startswith(
        (
            "no connection (the server closed it)",
            "the connection was broken: the server closed it",
            "the server's TLS was not accepted",
        )
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_away_is_named_so(loop: Loop, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the host that cannot be reached."""

    async def main(proxy: str) -> RawAnswer | str:
        async with RawServer() as gone:
            pass
        proxy_for.cache_clear()
        monkeypatch.setenv(f"{scheme}_proxy", proxy or gone.url)
        return await ask(f"{scheme}://{HOST}/x")

    for proxy in ("", "http://nowhere.invalid:3128"):
        assert run(loop, main(proxy)) == "the proxy cannot be reached"
