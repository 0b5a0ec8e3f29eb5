"""The places of a board: who takes many of them keeps neither probes nor others out."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from shifted import now

from board_client import Session, signed_in
from raw_http import Served, served, status_of, write_config
from served_board import OWN_PAGE, TYPED, add_user

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="has one loopback address"),
]

ADDRESS = "https://board.example"
PROXY, SOMEBODY, ANOTHER = "127.0.0.9", "127.0.0.66", "127.0.0.7"
PER_ADDRESS = 128
PLACES = PER_ADDRESS + 2
STREAMS_OF_A_SESSION = 4
HANDSHAKE_S_MAX = 20.0
"""Twice what a client has for it, on a machine that is busy."""
ANSWER_S_MAX = 5.0


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A board behind a proxy, with a few places more than one address may have."""
    folder = tmp_path_factory.mktemp("proxy")
    add_user(Path(write_config(folder)), "ann")
    section = {"address": ADDRESS, "proxy": {"addresses": [PROXY]}}
    with served("board", folder, limits=[f"-n {3 * PLACES}"], board=section) as board:
        yield board


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A board with a certificate of its own."""
    folder = tmp_path_factory.mktemp("tls")
    for name, content in zip(("board.pem", "board.key"), certificate_and_key(), strict=True):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    section = {"address": ADDRESS, "certificate_file": "board.pem", "private_key_file": "board.key"}
    with served("board", folder, board=section) as board:
        yield board


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Connections that stay open until the test ends."""
    with ExitStack() as held:
        yield held


def connect(board: Served, held: ExitStack, request: bytes, *, address: str) -> socket.socket:
    """A connection that stays, with what was asked by it."""
    peer = held.enter_context(board.connect(address=address))
    peer.sendall(request)
    return peer


def has_ended(peer: socket.socket) -> bool:
    """Whether the board has ended a connection by which it owes nothing."""
    peer.settimeout(0.1)
    try:
        return not peer.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


def request_of(board: Served, path: str, session: Session | None = None) -> bytes:
    """A request that keeps its connection open, as a page of somebody's sends it."""
    cookie = "; ".join(f"{name}={value}" for name, value in session.cookies.items()) if session else ""
    headers = {"host": f"127.0.0.1:{board.port}", **OWN_PAGE, **({"cookie": cookie} if cookie else {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


@pytest.mark.parametrize(("address", "ended"), [(SOMEBODY, 1), (PROXY, 0)])
def test_an_address_has_128_places_and_the_proxy_all(
    behind_proxy: Served, held: ExitStack, address: str, ended: int
) -> None:
    """The oldest of theirs makes room for one more, and nobody else's."""
    head = request_of(behind_proxy, "/sign-in")[:-2]
    other = connect(behind_proxy, held, head, address=ANOTHER)
    theirs = [connect(behind_proxy, held, head, address=address) for _ in range(PER_ADDRESS + 1)]
    other.sendall(b"\r\n")

    assert status_of(other) == 403  # it is not the proxy's, and has been heard
    assert sum(map(has_ended, theirs[:2])) == ended
    theirs[-1].sendall(b"\r\n")
    assert status_of(theirs[-1]) == (200 if address == PROXY else 403)


def test_event_streams_take_half_of_the_places_at_most(behind_proxy: Served, held: ExitStack) -> None:
    """One more of them is refused; pages are served."""
    statuses = []
    for number in range(PLACES // 2 + 1):
        if number % STREAMS_OF_A_SESSION == 0:
            session = signed_in(behind_proxy.port, "ann", address=PROXY)
        request = request_of(behind_proxy, "/live", session)
        statuses.append(status_of(connect(behind_proxy, held, request, address=PROXY)))

    assert statuses == [200] * (PLACES // 2) + [503]
    assert session.ask("GET", "/overview", headers=TYPED).status == 200


def test_an_answer_that_is_not_read_gives_way(behind_proxy: Served, held: ExitStack) -> None:
    """While every place is held by one, a new request is answered, and the client of one loses the rest."""
    session = signed_in(behind_proxy.port, "ann", address=PROXY)
    request = request_of(behind_proxy, "/api/v1/openapi.json", session)
    for _ in range(PLACES):
        peer = held.enter_context(behind_proxy.ask_unread(request, address=PROXY))
        assert peer.recv(12) == b"HTTP/1.1 200"

    assert behind_proxy.answers()
    assert status_of(connect(behind_proxy, held, request_of(behind_proxy, "/sign-in"), address=PROXY)) == 200


def test_a_handshake_without_an_end_ends_in_ten_seconds(over_tls: Served, held: ExitStack) -> None:
    """Whether it has begun or not; others speak TLS with the board meanwhile."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of one, of 512
    peers = [connect(over_tls, held, begin, address=SOMEBODY) for begin in (b"", hello)]
    begun_s = time.monotonic()

    assert over_tls.speaks_tls()
    for peer in peers:
        peer.settimeout(HANDSHAKE_S_MAX)
        with suppress(ConnectionError):
            assert peer.recv(1) == b""
    assert time.monotonic() - begun_s < HANDSHAKE_S_MAX


def test_a_board_with_a_certificate_answers_each_client(over_tls: Served) -> None:
    """Also one that begins its handshake with the connection."""
    for _ in range(20):
        with over_tls.secured(timeout_s=ANSWER_S_MAX) as peer:
            peer.sendall(over_tls.probe)
            assert b"".join(iter(lambda: peer.recv(4096), b"")).endswith(b"\r\n\r\nok\n")


def certificate_and_key() -> tuple[bytes, bytes]:
    """Of the board itself, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "board.example")])
    begins = now() - timedelta(hours=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return made.public_bytes(pem), key.private_bytes(pem, pkcs8, serialization.NoEncryption())
