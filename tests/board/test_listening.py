"""Where the board is served, and what that asks for."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from ports import kept_port
from promises import guarantee
from structlog.testing import capture_logs

from asking import ask, board_of
from m365watch.board.access.local_users import Users
from m365watch.board.app.application import Board, Listening
from m365watch.board.factory import (
    CERTIFICATE_EVERY_S,
    open_entrance,
    plan_listening,
    read_listen,
    renew_certificate,
    serve_board,
    tls_of,
)
from m365watch.board.query.data_sources import Sources
from m365watch.common.clock import SystemClock
from m365watch.common.errors import SettingsRefused
from m365watch.config.loader import load_settings
from m365watch.config.models.listeners import BoardSection
from m365watch.config.models.settings import Settings
from m365watch_testing.certificates import Authority
from m365watch_testing.clock import FakeClock
from signing import user_named
from test_trail import Memory

ADDRESS = "https://board.example"
PROXIED = {"address": ADDRESS, "proxy": {"addresses": "10.0.0.0/24"}}
HOST = {"host": "board.example"}


def settings_with(folder: Path, board: dict[str, Any] | None) -> Settings:
    credentials = {
        "tenant_id": str(UUID(int=1)),
        "client_id": str(UUID(int=2)),
        "client_secret": "${NOT_THERE}",
    }
    document: dict[str, Any] = {"inputs": {"one": {"type": "office365", "credentials": credentials}}}
    document |= {} if board is None else {"board": board}
    file = folder / "m365watch.json"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return load_settings(file, environment={"KEY": "k"}, for_reading=True, for_board=True)


def test_without_a_section_the_board_is_this_machines(tmp_path: Path) -> None:
    """Nobody has to sign in who could read the files as well."""
    settings = settings_with(tmp_path, None)
    listening = plan_listening(settings, None)

    assert (listening.url, open_entrance(settings, listening, clock=FakeClock())) == (
        "http://127.0.0.1:8365",
        None,
    )


@guarantee(42)
@pytest.mark.parametrize(
    ("board", "given"),
    [(PROXIED, "0.0.0.0:8365"), (PROXIED, None), ({"sign_in": True}, None), (PROXIED, "9000")],
)
def test_a_board_without_users_says_how_to_add_one(
    tmp_path: Path, board: dict[str, Any], given: str | None
) -> None:
    """Nobody gets in before, also on loopback behind a proxy; who is added gets in without a restart."""
    settings = settings_with(tmp_path, board)
    with capture_logs() as lines:
        entrance = open_entrance(settings, plan_listening(settings, given), clock=FakeClock())
    assert entrance is not None
    assert ["m365watch board user add" in line["event"] for line in lines] == [True]

    Users(settings.state_directory).put(user_named("ann"))
    with capture_logs() as lines:
        assert open_entrance(settings, plan_listening(settings, given), clock=FakeClock()) is not None
    assert lines == []


@guarantee(20)
def test_a_board_starts_with_a_damaged_database(tmp_path: Path) -> None:
    """The damaged file is kept, the log says what was in it, and users can be added again."""
    settings = settings_with(tmp_path, {"sign_in": True})
    users = Users(settings.state_directory)
    users.put(user_named("ann"))
    users.path.write_bytes(b"SQLite format 3\0" + b"no database" * 2_000)
    stop = asyncio.Event()

    async def main() -> None:
        with kept_port() as port:
            listening = plan_listening(settings, f"127.0.0.1:{port}")
            await serve_board(settings, listening, clock=SystemClock(), stop=stop, tell=stop.set)

    with capture_logs() as lines:
        asyncio.run(main())

    [kept] = settings.state_directory.glob("board-*.damaged.sqlite")
    told = [one["event"] for one in lines if one["log_level"] == "error"]
    assert [str(kept) in one for one in told] == [True, False]
    assert "it has no users" in told[1]


@pytest.mark.parametrize(
    ("board", "key"),
    [
        ({"certificate_file": "c.pem", "private_key_file": "k.pem"}, "board.address"),
        ({"certificate_file": "c.pem", "address": ADDRESS}, "board.private_key_file"),
        ({"proxy": {"addresses": []}, "address": ADDRESS}, "board.proxy.addresses"),
        ({"proxy": {"addresses": "all"}, "address": ADDRESS}, "board.proxy.addresses"),
        (
            {"proxy": {"addresses": "10.0.0.1", "headers": "x-real-ip"}, "address": ADDRESS},
            "board.proxy.headers",
        ),
        (PROXIED | {"certificate_file": "c.pem", "private_key_file": "k.pem"}, "board.proxy"),
        ({"address": "http://board.example"}, "board.address"),
        ({"address": f"{ADDRESS}/m365"}, "board.address"),
        ({"listen": "everywhere"}, "board.listen"),
        ({"idle_minutes": 0}, "board.idle_minutes"),
        ({"entra": {"tenant_id": "x"}}, "board.entra.tenant_id"),
    ],
)
def test_a_mistake_is_told_by_its_key(tmp_path: Path, board: dict[str, Any], key: str) -> None:
    """Every mistake of the section is named where it stands."""
    (tmp_path / "c.pem").touch()
    (tmp_path / "k.pem").touch(mode=0o600)
    with pytest.raises(SettingsRefused) as refused:
        settings_with(tmp_path, board)

    assert any(one.startswith((f"{key}: ", f"{key}[0]: ")) for one in refused.value.mistakes)


def test_the_boards_secrets_are_read_and_no_others(tmp_path: Path) -> None:
    """The board needs its key's password, and does without the collector's secrets."""
    issued = Authority(tmp_path).issue("board.example", password="k")
    issued.key.chmod(0o600)
    files = {
        "certificate_file": issued.cert.name,
        "private_key_file": issued.key.name,
        "key_password": "${KEY}",
    }

    board = settings_with(tmp_path, files | {"address": ADDRESS}).board

    assert board is not None
    assert board.key_password is not None
    assert board.key_password.get_secret_value() == "k"
    assert board.private_key_file == issued.key
    assert tls_of(board)["ssl_keyfile"] == issued.key


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    """The next connection has it; one that cannot be used leaves the old one."""
    authority = Authority(tmp_path)
    first, second = (authority.issue("localhost") for _ in range(2))
    paths = BoardSection(
        address=ADDRESS, certificate_file=tmp_path / "b.pem", private_key_file=tmp_path / "b.key"
    )

    def put(cert: bytes, key: bytes, at_s: int) -> None:
        for path, content in ((paths.certificate_file, cert), (paths.private_key_file, key)):
            assert path is not None
            path.write_bytes(content)
            os.utime(path, (at_s, at_s))

    async def served(port: int) -> bytes:
        trusting = ssl.create_default_context(cafile=authority.chain)
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(shown)

    async def act() -> list[bytes]:
        put(first.cert.read_bytes(), first.key.read_bytes(), 1)
        config = uvicorn.Config(lambda: None, lifespan="off", **tls_of(paths))
        config.load()
        clock = FakeClock()
        renewing = asyncio.create_task(renew_certificate(config, paths, clock))
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", ssl=config.ssl)
        port = server.sockets[0].getsockname()[1]
        found = [await served(port)]
        for number, content in (
            (2, (b"no", b"no")),
            (3, (second.cert.read_bytes(), second.key.read_bytes())),
        ):
            put(*content, number)
            await clock.advance(CERTIFICATE_EVERY_S)
            found.append(await served(port))
        renewing.cancel()
        server.close()
        return found

    before, unusable, after = asyncio.run(act())

    assert before == unusable != after


def test_a_certificate_is_renewed_after_a_defect(tmp_path: Path) -> None:
    """It is told once, and tried again: the one in use would have run out, and nobody had been told why."""
    issued = Authority(tmp_path).issue("localhost")
    paths = BoardSection(address=ADDRESS, certificate_file=issued.cert, private_key_file=issued.key)
    tried: list[object] = []

    class Context:
        def load_cert_chain(self, *given: object) -> None:
            tried.append(given)
            if len(tried) < 3:
                raise RuntimeError("nobody has thought of it")

    async def act() -> None:
        config = uvicorn.Config(lambda: None)
        config.ssl = Context()  # type: ignore[assignment]
        clock = FakeClock()
        renewing = asyncio.create_task(renew_certificate(config, paths, clock))
        await asyncio.sleep(0)
        os.utime(issued.cert, (1, 1))
        for _ in range(5):
            await clock.advance(CERTIFICATE_EVERY_S)
        renewing.cancel()

    with capture_logs() as heard:
        asyncio.run(act())

    [line] = [one["event"] for one in heard if one["log_level"] == "error"]
    assert len(tried) == 3
    assert line.startswith("board: unexpected RuntimeError in ")


@pytest.fixture
def proxied(sources: Sources) -> Board:
    """A board behind a proxy that sets every header."""
    every = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
    return board_of(sources, listening=Listening("0.0.0.0", 8365, ADDRESS, ("10.0.0.0/24",), every))


@guarantee(42)
@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("10.0.0.7", HOST, 200),
        ("::ffff:10.0.0.7", HOST, 200),
        ("10.0.1.7", HOST, 403),
        ("127.0.0.1", HOST, 403),
        ("", HOST, 403),
        ("10.0.0.7", HOST | {"x-forwarded-proto": "http"}, 403),
        ("10.0.0.7", {"host": "inner:1", "x-forwarded-host": "board.example"}, 200),
        ("10.0.0.7", {"host": "board.example", "x-forwarded-host": "evil.example"}, 421),
        ("10.0.1.7", HOST | {"x-forwarded-for": "10.0.0.7"}, 403),
    ],
)
def test_only_the_proxy_is_answered(
    proxied: Board, client: str, headers: dict[str, str], status: int
) -> None:
    """Whoever comes past it is refused, whatever they claim."""
    assert asyncio.run(ask(proxied, "/overview", headers=headers, client=client)).status == status


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_come_by_address_and_past_the_proxy(proxied: Board, path: str) -> None:
    """A kubelet and a load balancer know neither the board's name nor its proxy; they learn nothing else."""
    headers = {"host": "10.0.0.4:8365", "x-forwarded-proto": "http"}

    def status(path: str, method: str = "GET") -> int:
        return asyncio.run(ask(proxied, path, method=method, headers=headers, client="192.0.2.9")).status

    assert (status(path), status(path, "HEAD")) == (200, 200)
    assert (status(path, "POST"), status("/overview"), status("/metrics")) == (403, 403, 403)


def test_what_a_proxy_does_not_set_is_not_believed(sources: Sources) -> None:
    """Headers that are not declared are a browser's, and count for nothing."""
    listening = Listening("127.0.0.1", 8365, ADDRESS, ("10.0.0.7/32",), ("x-forwarded-for",))
    board = board_of(sources, listening=listening)
    headers = HOST | {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http"}

    assert asyncio.run(ask(board, "/overview", headers=headers, client="10.0.0.7")).status == 200


@pytest.mark.parametrize(
    ("headers", "warned"),
    [(None, 0), ("X-Forwarded-For", 0), ([], 1), (["x-forwarded-proto"], 1), ("x-forwarded-host", 1)],
)
def test_a_proxy_that_does_not_tell_addresses_is_warned_of(
    tmp_path: Path, headers: object, warned: int
) -> None:
    """Everybody has the proxy's address then, so that one stranger's guesses keep all others out."""
    proxy: dict[str, object] = {"addresses": "10.0.0.5"}
    if headers is not None:
        proxy["headers"] = headers

    settings = settings_with(tmp_path, {"address": ADDRESS, "proxy": proxy})
    with capture_logs() as logged:
        open_entrance(settings, read_listen("127.0.0.1:0", settings.board), clock=FakeClock())

    told = [one for one in settings.warnings if one.startswith("board.proxy.headers: lacks x-forwarded-for")]
    assert len(told) == warned
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == told


def test_a_proxy_that_tells_no_address_though_it_should_is_told_once(sources: Sources) -> None:
    """The header is believed, and does not come: a line says so, one for all requests, and none otherwise."""
    listening = Listening("127.0.0.1", 8365, ADDRESS, ("10.0.0.7/32",), ("x-forwarded-for",))
    board = board_of(sources, listening=listening)

    with capture_logs() as told:
        for headers in (HOST | {"x-forwarded-for": "192.0.2.7"}, HOST, HOST):
            asyncio.run(ask(board, "/overview", headers=headers, client="10.0.0.7"))

    [line] = [one["event"] for one in told if one["log_level"] == "warning"]
    assert "x-forwarded-for" in line


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:50123", "192.0.2.7"),
        ("[2001:DB8::7]:50123, 10.0.0.7", "2001:db8::7"),
        ("192.0.2.7, <b>me</b>", "unknown"),
        ("192.0.2.7, 192.0.2.300", "unknown"),
        ("fe80::1%<b>", "unknown"),
        ("", "unknown"),
    ],
)
def test_what_is_no_address_is_not_told_as_one(sources: Sources, forwarded: str, address: str) -> None:
    """A proxy hands on any text; what is told, and tries are counted by, is an address without a port."""
    listening = Listening("127.0.0.1", 8365, ADDRESS, ("10.0.0.7/32",), ("x-forwarded-for",))
    trail = Memory()
    board = board_of(sources, listening=listening, trail=trail)

    asyncio.run(ask(board, "/overview", headers=HOST | {"x-forwarded-for": forwarded}, client="10.0.0.7"))

    assert [one.address for one in trail.deeds] == [address]


def test_the_address_of_the_section_is_where_it_is_served(tmp_path: Path) -> None:
    """`--listen` wins over it, and the URL that is told is the one that people type."""
    settings = settings_with(tmp_path, {"listen": "127.0.0.1:9001"})

    assert plan_listening(settings, None).url == "http://127.0.0.1:9001"
    assert plan_listening(settings, "[::1]:9002").url == "http://[::1]:9002"
    public = replace(settings, board=BoardSection(address=ADDRESS))
    assert plan_listening(public, None).url == ADDRESS
