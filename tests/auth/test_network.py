"""What `network` says is what happens on the wire: proxies, authorities, own addresses, time-outs, TLS."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import pytest
from made_outputs import devo_http_to
from promises import guarantee

import network_scene
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import CollectorError
from m365watch.config.loader import parse_settings
from m365watch.http.client import Answer, open_session
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.outputs.devo_http.devo_http_output import DevoHttpOutput
from m365watch.sources.factory import reach_queries, reach_tenant
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch_testing.proxy import ConnectProxy
from network_scene import (
    HOST,
    _bare_environment,  # noqa: F401 - for every test here
    ask,
    ask_over,
    ended,
    within,
)
from raw_server import LOOPS, Loop, RawServer, Say, certificate, run, server_tls

pem = network_scene.pem

TENANT = "0a1b2c3d-0000-4000-8000-00000000000a"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


def by(
    proxy: ConnectProxy, pem: Path, *, user: str = "", password: str = "", **more: object
) -> NetworkSettings:
    """A network that leads by `proxy` and trusts `pem`."""
    whose = {"proxy_username": user, "proxy_password": password} if user else {}
    return NetworkSettings.model_validate({"proxy": proxy.url, "ca_bundle": pem, **whose, **more})


@guarantee(23)
def test_a_proxy_that_wants_a_user_gets_the_configured_one(pem: Path) -> None:
    """The server behind it gets the request, and the proxy hears nothing of the token."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> tuple[Answer | str, ConnectProxy]:
        async with (
            server,
            ConnectProxy({f"{HOST}:443": server.port}, user="üser", password="p:ss wörd") as proxy,
        ):
            return await ask_over(by(proxy, pem, user="üser", password="p:ss wörd")), proxy

    answer, proxy = within(main)

    assert ended(answer) == b"ok"
    assert "Authorization: Bearer t0ken" in server.heard[0].lines
    assert not any("Proxy" in line for line in server.heard[0].lines)
    assert proxy.asked == [f"CONNECT {HOST}:443 HTTP/1.1"]
    assert "t0ken" not in proxy.heads[0]


@pytest.mark.parametrize(("user", "password"), [("", ""), ("user", "wrong"), ("other", "right")])
def test_a_proxy_that_knows_somebody_else_is_told_so(pem: Path, user: str, password: str) -> None:
    """HTTP 407 is the proxy's, not the service's; the password is in no word of it."""

    async def main() -> Answer | str:
        async with ConnectProxy({}, user="user", password="right") as proxy:
            return await ask_over(by(proxy, pem, user=user, password=password))

    assert within(main) == "the proxy answered HTTP 407: it wants a user name and a password it knows"


def test_settings_win_over_the_environment(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that names another proxy, or excepts the host, changes nothing."""
    server = RawServer(tls=server_tls(pem))
    monkeypatch.setenv("HTTPS_PROXY", "http://nowhere.invalid:3128")
    monkeypatch.setenv("NO_PROXY", HOST)

    async def main() -> tuple[Answer | str, list[str]]:
        async with server, ConnectProxy({f"{HOST}:443": server.port}) as proxy:
            return await ask_over(by(proxy, pem)), proxy.asked

    answer, asked = within(main)

    assert (ended(answer), len(asked)) == (b"ok", 1)


@pytest.mark.parametrize(
    ("network", "host", "proxy"),
    [
        (UNSET_NETWORK, HOST, "http://shell.example:3128"),
        (NetworkSettings(proxy="none"), HOST, None),
        (NetworkSettings(no_proxy=(HOST,)), HOST, None),
        (NetworkSettings(no_proxy=(".example",)), HOST, None),
        (NetworkSettings(no_proxy=("example",)), HOST, None),
        (NetworkSettings(no_proxy=("*",)), HOST, None),
        (NetworkSettings(no_proxy=("vice.example",)), HOST, "http://shell.example:3128"),
        (NetworkSettings(proxy="http://own.example:8080"), HOST, "http://own.example:8080"),
        (NetworkSettings(proxy="http://own.example:8080", no_proxy=(HOST,)), HOST, None),
        (NetworkSettings(proxy="http://own.example:8080"), "127.0.0.1", None),
        (NetworkSettings(proxy="http://own.example:8080"), "localhost", None),
        (NetworkSettings(proxy="http://own.example:8080"), "169.254.169.254", None),
        (NetworkSettings(proxy="http://own.example:8080"), "fe80::1", None),
    ],
)
def test_each_host_is_reached_by_the_proxy_that_is_meant_for_it(
    network: NetworkSettings, host: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine and the metadata service beside it are never asked for by a proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://shell.example:3128")
    found = proxy_for("https", host, network)

    assert (str(found.url.origin()) if found else None) == proxy


def test_two_tenants_may_go_two_ways(pem: Path) -> None:
    """One session of the process; each network has connections of its own, used again by whoever has it."""
    server = RawServer(tls=server_tls(pem))
    ports = {f"{HOST}:443": 0}

    async def main() -> tuple[list[bytes | str], list[int]]:
        async with (
            server,
            ConnectProxy(ports) as one,
            ConnectProxy(ports) as other,
            open_session() as session,
        ):
            ports[f"{HOST}:443"] = server.port
            ways = [by(one, pem), by(other, pem), by(one, pem)]
            answers = [ended(await ask(session.over(way))) for way in ways]
            return answers, [len(one.asked), len(other.asked)]

    answers, asked = within(main)

    assert answers == [b"ok"] * 3
    assert asked == [1, 1]
    assert server.connections == [1, 2, 1]


def test_a_session_closes_every_way_it_opened(pem: Path) -> None:
    """Nothing stays open behind a run."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> tuple[int, int]:
        async with server, ConnectProxy({f"{HOST}:443": server.port}) as proxy:
            async with open_session() as session:
                await ask(session.over(by(proxy, pem)))
                open_before = server.open
            await asyncio.sleep(0.05)
            return open_before, server.open

    assert within(main) == (1, 0)


@guarantee(23)
def test_a_tenant_s_token_and_calls_go_by_its_network(tmp_path: Path) -> None:
    """From the configuration file to the wire: login, API and Graph, all by the input's proxy."""
    token = json.dumps({"access_token": "t0ken"}).encode()

    def say(body: bytes) -> Say:
        return Say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    names = [f"{service}.service.example" for service in ("login", "manage", "graph")]
    pem = certificate(tmp_path, *names)
    query = b'{"id":"q1","status":"succeeded"}'
    server = RawServer(say(token), say(b"[]"), say(token), say(query), tls=server_tls(pem))
    ports: dict[str, int] = {}

    async def main() -> ConnectProxy:
        async with server, ConnectProxy(ports, user="user", password="right") as proxy:
            ports.update((f"{name}:443", server.port) for name in names)
            document = {
                "globals": {"network": {"proxy": "http://nowhere.invalid:1", "ca_bundle": str(pem)}},
                "inputs": {
                    "office365": {
                        "credentials": {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "s3cr3t"},
                        "cloud": {
                            "login_url": f"https://{names[0]}",
                            "management_url": f"https://{names[1]}",
                            "graph_url": f"https://{names[2]}",
                        },
                        "network": {
                            "proxy": proxy.url,
                            "proxy_username": "user",
                            "proxy_password": "${PROXY_PASSWORD}",
                        },
                    }
                },
            }
            settings = parse_settings(
                document, path=tmp_path / "c.json", environment={"PROXY_PASSWORD": "right"}
            )
            [tenant] = settings.tenants
            clock = SystemClock()
            async with open_session() as session:
                budget = RequestBudget(None, clock)
                reached = reach_tenant(tenant, session, budget=budget, clock=clock, random=system_random(1))
                await reached.api.enabled_subscriptions()
                await reach_queries(tenant, session, clock=clock).look("q1")
            return proxy

    proxy = within(main)

    assert proxy.asked == [f"CONNECT {name}:443 HTTP/1.1" for name in names]
    assert not any("t0ken" in head or "s3cr3t" in head for head in proxy.heads)


def test_devo_s_endpoint_is_reached_by_the_network_of_all(pem: Path) -> None:
    """An output `devo_http` is HTTP as well; its token stays inside the tunnel."""
    server = RawServer(tls=server_tls(pem))

    async def main() -> tuple[ConnectProxy, CollectorError | None]:
        async with server, ConnectProxy({f"{HOST}:443": server.port}) as proxy:
            output = DevoHttpOutput(
                devo_http_to(f"https://{HOST}", "0123456789").with_network(by(proxy, pem)),
                clock=SystemClock(),
            )
            await output.open(last_batch=0, position="")
            await output.close()
            return proxy, output.trouble

    proxy, trouble = within(main)

    assert trouble is None
    assert server.heard[0].first_line.startswith("POST /stream/acme/token!0123456789/")
    assert proxy.asked == [f"CONNECT {HOST}:443 HTTP/1.1"]
    assert "0123456789" not in proxy.heads[0]


@LINUX
@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_server_sees_the_address_that_connections_are_to_come_from(loop: Loop) -> None:
    """As a firewall, or a conditional access policy, would."""
    seen: list[str] = []

    async def main() -> Answer | str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer.get_extra_info("peername")[0])
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}/"
            await ask_over(NetworkSettings(bind_address=("127.0.0.3", "::1")), url)
            return await ask_over(NetworkSettings(bind_address=("127.0.0.2",)), url)

    assert ended(run(loop, main())) == b"ok"
    assert seen == ["127.0.0.3", "127.0.0.2"]


@LINUX
def test_a_proxy_sees_it_as_well(pem: Path) -> None:
    """It is the proxy that the connection leads to."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(writer.get_extra_info("peername")[0])
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await ask_over(NetworkSettings(proxy=url, ca_bundle=pem, bind_address=("127.0.0.2",)))
        return seen

    assert within(main) == ["127.0.0.2"]


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"])
def test_an_address_that_is_not_this_machine_s_is_named(proxy: str | None) -> None:
    """With what the system says of it, whether there is a proxy or not."""
    network = NetworkSettings(proxy=proxy, bind_address=("192.0.2.1",))
    said = within(lambda: ask_over(network, "http://service.example/" if proxy else "http://127.0.0.1:1/"))

    assert said == "no connection from 192.0.2.1: Cannot assign requested address"


def test_a_host_without_an_address_of_that_kind_is_named() -> None:
    """From an IPv6 address no IPv4 address can be reached."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    said = within(lambda: ask_over(NetworkSettings(bind_address=("::1",)), "http://127.0.0.1:1/"))

    assert said == "no connection from ::1: the host has no address of its kind"
