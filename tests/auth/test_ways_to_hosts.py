"""The way to a host: each thing on it that breaks has its own step, words and cure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S
from pydantic import SecretStr
from yarl import URL

from m365watch.common.clock import SystemClock
from m365watch.health.checks.network_checks import Network, Way, way_to
from m365watch.http.client import open_session
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.registry.checks import Check, Checked, Verdict
from m365watch_testing.certificates import Authority, CertificateFiles
from raw_server import OK as OK_ANSWER
from raw_server import RawServer, Say, certificate, server_tls

LOGIN_WANTED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
OK, BROKEN, SKIPPED = Verdict.OK, Verdict.BROKEN, Verdict.SKIPPED


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy_for.cache_clear()
    yield
    proxy_for.cache_clear()


def steps_to(*addresses: str) -> list[Checked]:
    """What a look at the hosts of these addresses comes to."""

    async def main() -> list[Checked]:
        return await looked(*addresses)

    return asyncio.run(main())


async def looked(*addresses: str, network: NetworkSettings = UNSET_NETWORK) -> list[Checked]:
    ways = [way_to(one, network) for one in addresses]
    async with asyncio.timeout(PATIENCE_S), open_session(stall_s=5, total_s=5) as session:
        return await Network(session, SystemClock(), limit_s=5).look(ways)


async def serving(server: RawServer, *, host: str = "localhost") -> list[Checked]:
    async with server:
        return await looked(server.url.replace("127.0.0.1", host))


def verdicts(steps: list[Checked]) -> dict[str, str]:
    return {str(step.check): str(step.verdict) for step in steps}


def tls_server(files: CertificateFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


def test_a_server_that_is_trusted_tells_its_tls_and_who_vouches_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version and the issuer, which is how a proxy that inspects TLS shows."""
    authority = Authority(tmp_path, "House CA")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.chain))
    server = RawServer(tls=tls_server(authority.issue("server", names=["localhost"])))
    steps = asyncio.run(serving(server))

    assert verdicts(steps) == {"proxy": "ok", "dns": "ok", "tls": "ok", "clock": "note"}
    assert steps[2].seen == "localhost TLS 1.3, certificate issued by House CA"
    assert [heard.first_line for heard in server.heard] == ["GET / HTTP/1.1"]
    assert "Authorization" not in server.heard[0].head


@pytest.mark.parametrize(
    ("lasts", "names", "is_trusted", "text"),
    [
        (
            timedelta(days=9),
            ["localhost"],
            False,
            "it is issued by Inspecting CA, which this system does not",
        ),
        (timedelta(days=9), ["other.example"], True, "it is for other.example (issued by Inspecting CA)"),
        (timedelta(days=-1_000), ["localhost"], True, "it ended at "),
    ],
)
def test_a_certificate_that_is_not_accepted_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lasts: timedelta,
    names: list[str],
    *,
    is_trusted: bool,
    text: str,
) -> None:
    """Whose it is, and that a proxy may inspect TLS; nothing is asked over a connection that is not safe."""
    authority = Authority(tmp_path, "Inspecting CA")
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.chain))
    server = RawServer(tls=tls_server(authority.issue("server", names=names, lasts=lasts)))
    steps = asyncio.run(serving(server))

    assert verdicts(steps) == {"proxy": "ok", "dns": "ok", "tls": "broken", "clock": "skipped"}
    assert f"localhost: the server's certificate was not accepted: {text}" in steps[2].seen
    assert "a proxy that inspects TLS needs its CA" in str(steps[2].fix)
    assert server.heard == []


def test_a_certificate_that_vouches_for_itself_is_told(tmp_path: Path) -> None:
    """As a test machine has one."""
    steps = asyncio.run(serving(RawServer(tls=server_tls(certificate(tmp_path, "localhost")))))

    assert steps[2].seen.endswith("localhost has signed it itself")


def test_a_host_that_speaks_no_tls_is_found() -> None:
    """Something else answers in its place."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK_ANSWER)
        writer.close()

    async def main() -> list[Checked]:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            return await looked(f"https://localhost:{server.sockets[0].getsockname()[1]}")

    step = asyncio.run(main())[2]

    assert (step.check, step.verdict) == (Check.TLS, BROKEN)
    assert "TLS was not accepted" in step.seen


def test_a_closed_port_is_a_firewalls(tmp_path: Path) -> None:
    """With the system's own reason."""
    gone = RawServer()

    async def main() -> list[Checked]:
        async with gone:
            pass
        return await looked(gone.url)

    step = asyncio.run(main())[2]

    assert "no connection" in step.seen
    assert "firewall" in str(step.fix)


def test_a_name_that_nobody_knows_skips_its_tls() -> None:
    """The other host is looked at all the same, and tells the time."""

    async def main() -> list[Checked]:
        said = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n\r\n"
        async with RawServer(Say(said)) as server:
            return await looked("https://login.invalid", server.url)

    steps = asyncio.run(main())

    assert [(step.check, step.verdict) for step in steps][:3] == [
        (Check.PROXY, OK),
        (Check.DNS, BROKEN),
        (Check.TLS, SKIPPED),
    ]
    assert "login.invalid cannot be resolved" in steps[1].seen
    assert steps[2].waits_for is Check.DNS
    assert steps[-1].check is Check.CLOCK
    assert steps[-1].verdict is not SKIPPED


@pytest.mark.parametrize(
    ("say", "text", "cure"),
    [
        (
            Say(LOGIN_WANTED),
            "the proxy answered HTTP 407",
            "network.proxy_username and network.proxy_password",
        ),
        (
            Say(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
            "HTTP 403",
            "whether the proxy lets this machine",
        ),
    ],
)
def test_a_proxy_that_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, say: Say, text: str, cure: str
) -> None:
    """By its address, and never by its password."""

    async def main() -> list[Checked]:
        async with RawServer(say) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:pr0xy-secret@127.0.0.1:{proxy.port}")
            return await looked("https://login.example")

    steps = asyncio.run(main())

    assert verdicts(steps) == {"proxy": "ok", "dns": "ok", "tls": "broken", "clock": "skipped"}
    assert steps[0].seen.startswith("login.example by http://127.0.0.1:")
    assert steps[1].seen == "the proxy 127.0.0.1", "as if the host's own name led here"
    assert text in steps[2].seen
    assert cure in str(steps[2].fix)
    assert "pr0xy-secret" not in str(steps)


def test_the_network_of_a_tenant_holds_for_its_hosts(tmp_path: Path) -> None:
    """Its proxy, whose password is told nowhere, and its authorities."""
    authority = Authority(tmp_path, "House CA")
    trusting = NetworkSettings(ca_bundle=authority.chain)

    async def main() -> tuple[list[Checked], list[Checked]]:
        async with RawServer(Say(LOGIN_WANTED)) as proxy:
            chosen = NetworkSettings(
                proxy=f"http://127.0.0.1:{proxy.port}",
                proxy_username="somebody",
                proxy_password=SecretStr("pr0xy-secret"),
            )
            refused = await looked("https://login.example", network=chosen)
        async with RawServer(tls=tls_server(authority.issue("server", names=["localhost"]))) as server:
            return refused, await looked(server.url.replace("127.0.0.1", "localhost"), network=trusting)

    refused, trusted = asyncio.run(main())

    assert refused[0].seen.startswith("login.example by http://127.0.0.1:")
    assert "HTTP 407" in refused[2].seen
    assert "pr0xy-secret" not in str(refused)
    assert (trusted[2].verdict, "issued by House CA" in trusted[2].seen) == (OK, True)


def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens where it should be."""
    gone = RawServer()

    async def main() -> list[Checked]:
        async with gone:
            pass
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{gone.port}")
        return await looked("https://login.example")

    step = asyncio.run(main())[2]

    assert (step.verdict, step.seen) == (BROKEN, "login.example: the proxy cannot be reached")
    assert "HTTPS_PROXY" in str(step.fix)


def test_one_host_of_many_tenants_is_looked_at_once() -> None:
    """A way is a value: the same host is the same way."""
    assert way_to("https://login.example/one") == way_to("https://login.example/two")
    assert way_to("https://login.example") == Way(URL("https://login.example"), None)
