"""Whoever reaches a port can neither fill the memory behind it nor keep others out, before any sign-in."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from raw_http import FILES_MAX, Served, ended_within_s, raise_own_limit, served, status_of

KINDS = ("board", "simulator", "webhook")
GROWTH_BYTES_MAX = 50 << 20
SENT_BYTES_MAX = 200 << 20
"""Four times the growth that is allowed: a server that keeps what it gets is seen."""
CUT_BYTES_MAX = 40 << 20
"""What is sent before a client sees that it was cut off: kernels keep up to 36 MB on the way."""
FEW_FILES = 200
LIMITS = [f"-S -n {FEW_FILES}", f"-H -n {FILES_MAX}"]
"""Few at first, and as many as a login shell may have for whoever asks for more."""
PLACES = FILES_MAX // 3
UNREAD_S = (20.0, 60.0)
"""The 30 s of an answer that is not read, on a machine that is busy."""
HELD_S_MAX = 20.0
"""The 10 s of a request's head or body, on a machine that is busy."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(params=KINDS)
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Each of the servers, with ordinary limits."""
    with served(request.param, tmp_path) as one:
        yield one


@pytest.fixture(params=KINDS)
def few_files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """Each of the servers, with the files that a login shell lets it have."""
    raise_own_limit()
    with served(request.param, tmp_path, limits=LIMITS) as one:
        yield one


def pour(one: Served, begin: bytes, part: bytes) -> int:
    """Send `part` after `begin` until the server has had enough; how many bytes it took."""
    sent = 0
    with one.connect() as peer, suppress(OSError):
        peer.sendall(begin)
        while sent < SENT_BYTES_MAX:
            peer.sendall(part)
            sent += len(part)
    return sent


def styles_of(board: Served) -> bytes:
    """What is answered before any sign-in and by the most bytes, as often as it may be asked at once."""
    head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with board.connect() as peer:
        peer.sendall(head % b"/open" + b"Sec-Fetch-Site: none\r\nConnection: close\r\n\r\n")
        page = b"".join(iter(lambda: peer.recv(65_536), b""))
    path: bytes
    [path] = re.findall(rb'href="(/static/[^"]+/board\.css)"', page)
    return (head % path + b"\r\n") * 15


@pytest.mark.slow
def test_heads_without_end_cost_no_memory(one: Served) -> None:
    """Many headers, one header, a URL, trailers behind a body: the server stays as small as it was.

    A head of 62 kB is answered, and one of 66 kB refused.
    """
    for kilobytes, status in ((62, one.status), (66, 431)):
        with one.connect() as peer:
            filler = (b"X-Filler: " + b"x" * 1012 + b"\r\n") * kilobytes
            peer.sendall(one.probe.removesuffix(b"\r\n") + filler + b"\r\n")
            assert status_of(peer) == status
    port = f"Host: 127.0.0.1:{one.port}\r\n".encode()
    get, post = b"GET /healthz HTTP/1.1\r\n" + port, b"POST /sign-in HTTP/1.1\r\n" + port
    header = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    before = one.rss_bytes

    for begin, part in (
        (get, header * 64),
        (get + b"X-Long: ", b"x" * 65_536),
        (b"GET /", b"x" * 65_536),
        (post + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", header * 64),
    ):
        assert pour(one, begin, part) < CUT_BYTES_MAX
        assert one.rss_bytes - before < GROWTH_BYTES_MAX

    assert one.answers()


@pytest.mark.slow
def test_half_open_connections_keep_nobody_out(few_files: Served) -> None:
    """More of them than the process may have files, again and again: others are answered all the while."""
    with ExitStack() as held:
        for _ in range(2):
            for number in range(FILES_MAX + 26):
                with suppress(OSError):
                    peer = held.enter_context(few_files.connect(timeout_s=2))
                    peer.sendall(b"GET / HTTP/1.1\r\nHost: here" if number % 2 else b"")
                if number % 350 == 349:
                    assert few_files.answers()
            assert few_files.answers()
            held.close()
    assert few_files.process.poll() is None


@pytest.mark.slow
def test_idle_connections_keep_nobody_out(few_files: Served) -> None:
    """More of them than there are places, each asking again and again: probes and users are answered."""
    request = few_files.probe.replace(b"Connection: close\r\n", b"")
    with ExitStack() as held:
        peers = []
        for number in range(FILES_MAX // 2 + 88):
            peer = held.enter_context(few_files.connect(address=f"127.0.0.{1 + number % 6}"))
            with suppress(OSError):
                peer.sendall(request)
                peer.recv(4096)
            peers.append(peer)
        for _ in range(3):
            assert few_files.answers()
            assert few_files.answers(b"GET /open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            for peer in peers:
                with suppress(OSError):
                    peer.sendall(request)
    assert few_files.process.poll() is None


@pytest.mark.slow
def test_a_request_has_ten_seconds(one: Served) -> None:
    """No byte, or a head or a body byte by byte: the connection ends, and meanwhile others are answered."""
    host = f"Host: 127.0.0.1:{one.port}\r\n".encode()
    head = b"GET /healthz HTTP/1.1\r\n" + host + b"X-Slow: "
    body = b"POST /alerts/state HTTP/1.1\r\n" + host + b"Content-Length: 100000\r\n\r\n"
    with ExitStack() as held, ThreadPoolExecutor() as threads:
        ends = []
        for begin, more in ((b"", b""), (head, b"x"), (body, b"x")):
            peer = held.enter_context(one.connect())
            peer.sendall(begin)
            ends.append(threads.submit(ended_within_s, peer, send=more, most_s=HELD_S_MAX))
        assert one.answers()
        assert all(ended.result() < HELD_S_MAX for ended in ends)


@pytest.mark.slow
def test_who_does_not_take_the_answer_is_let_go(tmp_path: Path) -> None:
    """Answers that nobody reads end with their connection, rather than to fill memory and places."""
    with served("board", tmp_path) as one, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(10)
        peer.connect(("127.0.0.1", one.port))
        before, sent = one.rss_bytes, 0
        with suppress(OSError):
            while sent < SENT_BYTES_MAX // 20:
                peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000)
                sent += 43_000
        assert one.rss_bytes - before < GROWTH_BYTES_MAX
        assert one.answers()

        begun_s = time.monotonic()
        with one.ask_unread(styles_of(one)) as reader:
            while one.holds(reader) and time.monotonic() < begun_s + UNREAD_S[1]:
                time.sleep(0.5)
        assert UNREAD_S[0] < time.monotonic() - begun_s < UNREAD_S[1]


@pytest.mark.slow
def test_slow_readers_keep_nobody_out(tmp_path: Path) -> None:
    """As many of them as there are places, which are as many as the machine allows: others are answered."""
    raise_own_limit()
    with served("board", tmp_path, limits=LIMITS) as board, ExitStack() as held:
        request = styles_of(board)
        readers = []
        for number in range(PLACES):
            address = f"127.0.0.{10 + number % 3}"
            readers.append(held.enter_context(board.ask_unread(request, address=address)))
            if number == FEW_FILES // 2:
                assert readers[-1].recv(1)  # answered: those before it have their places, or lost them
                assert all(map(board.holds, readers))
        for _ in range(3):
            assert board.answers()
            assert board.answers(b"GET /open HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            for reader in readers:
                with suppress(OSError):
                    reader.recv(650)
        held.close()
        assert board.answers()
        assert "unexpected" not in (tmp_path / "board.out").read_text(encoding="utf-8")


@pytest.mark.slow
def test_who_leaves_is_no_defect(tmp_path: Path) -> None:
    """A client that ends its connection within a body is no news, however often it does."""
    with served("board", tmp_path) as board:
        head = f"POST /open HTTP/1.1\r\nHost: 127.0.0.1:{board.port}\r\nSec-Fetch-Site: same-origin\r\n"
        for _ in range(20):
            with board.connect() as peer:
                peer.sendall(f"{head}Content-Length: 50\r\n\r\nab".encode())
                time.sleep(0.01)
        assert board.answers()
        log = (tmp_path / "board.out").read_text(encoding="utf-8")

    assert "unexpected" not in log


@pytest.mark.slow
def test_nobody_keeps_the_browser_out_that_consent_waits_for(tmp_path: Path) -> None:
    """Heads without end cost no memory there either, and half-open connections end or give way."""
    with served("consent", tmp_path, limits=[f"-n {FEW_FILES}"]) as one, ExitStack() as held:
        begin = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\n".encode()
        before = one.rss_bytes
        assert pour(one, begin + b"X-Long: ", b"x" * 65_536) < CUT_BYTES_MAX
        assert pour(one, begin, b"X-Filler: " + b"x" * 1000 + b"\r\n") < CUT_BYTES_MAX
        assert one.rss_bytes - before < GROWTH_BYTES_MAX

        for _ in range(FEW_FILES + 26):
            peer = held.enter_context(one.connect())
            with suppress(OSError):
                peer.sendall(begin)
        assert one.answers()
        assert ended_within_s(peer, send=b"x", most_s=HELD_S_MAX) < HELD_S_MAX
