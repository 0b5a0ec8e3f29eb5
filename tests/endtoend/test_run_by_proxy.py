"""A whole run from behind a company's proxy: nothing of the service can be reached otherwise."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import pytest
from promises import guarantee

from commands import Scene, scene_in
from m365watch_testing.certificates import Authority
from m365watch_testing.proxy import ConnectProxy
from place import FILES, assert_discreet

LOGIN, MANAGE = "login.service.example", "manage.service.example"
PASSWORD = "p4ss:wörd-of-the-proxy"


@asynccontextmanager
async def secured(port: int, authority: Authority) -> AsyncIterator[int]:
    """A port that speaks TLS for the service on `port`, which does not."""
    issued = authority.issue("service", names=[LOGIN, MANAGE])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    writers: list[asyncio.StreamWriter] = []

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await source.read(1 << 16):
                target.write(part)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, back))
        await asyncio.gather(carry(reader, back), carry(onward, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def put_behind(scene: Scene, proxy: ConnectProxy, authority: Authority, *, password: str) -> int:
    """Let the scene's service be behind `proxy` alone; the port where it is."""
    scene.configure({"files": FILES})
    document = json.loads(scene.file.read_text())
    section = document["inputs"]["office365"]
    address: SplitResult = urlsplit(section["cloud"]["management_url"])
    section["cloud"] |= {
        "audience": section["cloud"].get("audience") or section["cloud"]["management_url"],
        "login_url": f"https://{LOGIN}",
        "management_url": f"https://{MANAGE}",
    }
    (scene.place.folder / "password").write_text(password)
    (scene.place.folder / "password").chmod(0o600)
    document["globals"] = {
        "network": {
            "proxy": proxy.url,
            "proxy_username": "collector",
            "proxy_password_file": "password",
            "ca_bundle": str(authority.chain),
            **({"bind_address": "127.0.0.2"} if sys.platform == "linux" else {}),
        }
    }
    scene.file.write_text(json.dumps(document))
    return address.port or 0


@guarantee(23)
@pytest.mark.parametrize("password", [PASSWORD, "wrong-password"])
def test_a_run_behind_a_proxy_is_complete_or_says_what_is_wrong(tmp_path: Path, password: str) -> None:
    """Every record arrives by way of it, or one line says what it wants; the password appears nowhere."""

    async def main() -> tuple[int, list[str], ConnectProxy]:
        authority = Authority(tmp_path)
        ports: dict[str, int] = {}
        async with (
            scene_in(tmp_path, records_per_day=10) as scene,
            ConnectProxy(ports, user="collector", password=PASSWORD) as proxy,
        ):
            port = put_behind(scene, proxy, authority, password=password)
            async with secured(port, authority) as tls_port:
                ports.update({f"{LOGIN}:443": tls_port, f"{MANAGE}:443": tls_port})
                run = await scene.run_once() if password == PASSWORD else await scene.validate()
            if password == PASSWORD:
                scene.check_complete()
            assert_discreet(run.out + run.err, secrets=[password], records=[])
            return run.exit_code, run.complaints, proxy

    code, complaints, proxy = asyncio.run(main())
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "password"]

    assert not [path for path in written if password.encode() in path.read_bytes()]
    assert set(proxy.asked) <= {f"CONNECT {host}:443 HTTP/1.1" for host in (LOGIN, MANAGE)}
    assert not any("Bearer" in head for head in proxy.heads)
    if sys.platform == "linux":
        assert proxy.peers == {"127.0.0.2"}
    if password == PASSWORD:
        assert (code, complaints) == (0, [])
        assert len(set(proxy.asked)) == 2
    else:
        assert code == 1
        assert "the proxy answered HTTP 407: it wants a user name and a password it knows" in complaints[0]
