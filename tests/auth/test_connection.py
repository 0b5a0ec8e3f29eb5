"""What is an answer on the wire, where it ends, and what is none; whole and byte by byte."""

from __future__ import annotations

import pytest
from promises import guarantee
from yarl import URL

from m365watch.http.aiohttp_transport import HEAD_BYTES_MAX, INFORMATIONAL_MAX, ConnectionPool
from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer
from raw_server import LOOPS, OK, Loop, RawServer, Say, run

BODY_BYTES_MAX = 5_000

pytestmark = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


def answer_to(loop: Loop, raw: bytes, *, closes: bool = False, bit_by_bit: bool = False) -> RawAnswer:
    """What a server's bytes are taken for."""

    async def main() -> RawAnswer:
        pool = ConnectionPool(connections_max=1, body_bytes_max=BODY_BYTES_MAX, stall_s=0.5, total_s=10.0)
        try:
            async with RawServer(Say(raw, closes=closes, bit_by_bit=bit_by_bit)) as server:
                return await pool.exchange("GET", URL(f"{server.url}/"), headers={}, body=None)
        finally:
            await pool.close()

    return run(loop, main())


def failure_of(loop: Loop, raw: bytes, *, closes: bool = False, bit_by_bit: bool = False) -> Failure:
    """Why a server's bytes are no answer."""
    with pytest.raises(ExchangeFailed) as caught:
        answer_to(loop, raw, closes=closes, bit_by_bit=bit_by_bit)
    return caught.value.failure


def head(*lines: str, status: str = "200 OK") -> bytes:
    """A head with these lines."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("bit_by_bit", [False, True])
@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (head("Content-Length: 3") + b"abc", 200, b"abc"),
        (head("content-length:3") + b"abc", 200, b"abc"),
        (head("Content-Length: 0"), 200, b""),
        (head("Content-Length: 3", status="200") + b"abc", 200, b"abc"),
        (head(CHUNKED) + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", 200, b"abc"),
        (head(CHUNKED) + b"3;note=x\r\nabc\r\n0\r\nTrailer: t\r\nX: y\r\n\r\n", 200, b"abc"),
        (head(CHUNKED) + b"3  \r\nabc\r\n0\r\n\r\n", 200, b"abc"),
        (head("transfer-encoding: Chunked") + b"0\r\n\r\n", 200, b""),
        (head(status="204 No Content"), 204, b""),
        (head("Content-Length: 7", status="304 Not Modified"), 304, b""),
        (head(status="100 Continue") + OK, 200, b"ok"),
        (head("Link: x", status="103 Early Hints") * 3 + OK, 200, b"ok"),
        (head("Content-Length: 2", status="503 Service Unavailable") + b"no", 503, b"no"),
    ],
)
def test_an_answer_ends_where_it_says(
    loop: Loop, raw: bytes, status: int, body: bytes, bit_by_bit: bool
) -> None:
    """By its length, by its last chunk, or because its status has no body."""
    answer = answer_to(loop, raw, bit_by_bit=bit_by_bit)

    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_an_answer_may_end_with_its_connection(loop: Loop, body: bytes) -> None:
    """As all did before HTTP/1.1."""
    assert answer_to(loop, head() + body, closes=True).body == body


def test_headers_are_those_of_the_head(loop: Loop) -> None:
    """Without regard to case, in their order, and without those of 1xx and of the trailer."""
    raw = head("Early: 1", status="103 x") + head("X-A:  b \t", "x-a: c", CHUNKED, "E:")
    headers = answer_to(loop, raw + b"0\r\nLate: 1\r\n\r\n").headers

    assert list(headers.items()) == [("X-A", "b"), ("x-a", "c"), ("Transfer-Encoding", "chunked"), ("E", "")]
    assert headers["X-a"] == "b"


@pytest.mark.parametrize(
    "raw",
    [
        head("Content-Length: 5") + b"abc",
        head("Content-Length: 5"),
        head(CHUNKED) + b"5\r\nabc",
        head(CHUNKED) + b"3\r\nabc\r\n",
        head(CHUNKED) + b"3\r\nabc\r\n0\r\n",
        head(CHUNKED),
    ],
)
def test_a_body_that_ends_before_its_end_is_cut_short(loop: Loop, raw: bytes) -> None:
    """Half a list of records is no list of records."""
    assert failure_of(loop, raw, closes=True) is Failure.CUT_SHORT


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-", head(status="100 Continue")])
def test_a_head_that_ends_before_its_end_is_no_answer(loop: Loop, raw: bytes) -> None:
    """The server closed the connection unanswered."""
    assert failure_of(loop, raw, closes=True) is Failure.CLOSED


@pytest.mark.parametrize("bit_by_bit", [False, True])
@pytest.mark.parametrize(
    "raw",
    [
        head("Content-Length: 2", CHUNKED) + b"0\r\n\r\n",
        head(CHUNKED, "Content-Length: 2") + b"0\r\n\r\n",
        head("Content-Length: 2", "Content-Length: 3") + b"abc",
        head("Content-Length: -2") + b"ab",
        head("Content-Length: 99999999999999999999") + b"ab",
        head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        head("X: a", " folded", "Content-Length: 0"),
        head("X : a", "Content-Length: 0"),
        head(CHUNKED) + b"x\r\n",
        head(status="101 Switching Protocols"),
        head("Upgrade: x", "Connection: upgrade", status="101 Switching Protocols"),
        head(status="100 Continue") * (INFORMATIONAL_MAX + 1) + OK,
        head(status="99 Nothing") + OK,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
)
def test_what_can_be_read_in_two_ways_is_not_http(loop: Loop, raw: bytes, bit_by_bit: bool) -> None:
    """Where an answer ends must never be a guess."""
    assert failure_of(loop, raw, bit_by_bit=bit_by_bit) is Failure.NOT_HTTP


@pytest.mark.parametrize(
    "raw",
    [
        head(f"X: {'x' * HEAD_BYTES_MAX}", "Content-Length: 0"),
        head(*["X: y"] * (HEAD_BYTES_MAX // 6), "Content-Length: 0"),
        f"HTTP/1.1 200 OK\r\nX: {'x' * HEAD_BYTES_MAX * 2}".encode(),
        head(CHUNKED) + b"1\r\na\r\n0\r\n" + b"X: y\r\n" * (HEAD_BYTES_MAX // 5) + b"\r\n",
        head(CHUNKED) + b"1;" + b"x" * 2 * HEAD_BYTES_MAX,
        head(f"X: {'x' * HEAD_BYTES_MAX}", status="103 x") + OK,
    ],
)
def test_a_head_is_bounded(loop: Loop, raw: bytes) -> None:
    """So are trailers, the rims of chunks, and answers before the answer."""
    assert failure_of(loop, raw) is Failure.HEAD_TOO_LARGE


def test_a_large_head_within_the_bound_is_taken(loop: Loop) -> None:
    """A front door may set many cookies."""
    raw = head(f"X: {'x' * (HEAD_BYTES_MAX - 100)}", "Content-Length: 2")

    assert answer_to(loop, raw + b"ok").body == b"ok"


def test_chunks_of_one_byte_are_taken(loop: Loop) -> None:
    """Their rims are larger than all that they bring."""
    raw = head(CHUNKED) + b"1\r\nx\r\n" * BODY_BYTES_MAX + b"0\r\n\r\n"

    assert answer_to(loop, raw).body == b"x" * BODY_BYTES_MAX


def test_tiny_pieces_come_together_in_their_order(loop: Loop) -> None:
    """More of them than are kept one by one, which would take seventy times their size."""
    pieces = [f"{number % 100:02}".encode() for number in range(BODY_BYTES_MAX // 2)]
    raw = head(CHUNKED) + b"".join(b"2\r\n" + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"

    assert answer_to(loop, raw).body == b"".join(pieces)


@guarantee(26)
@pytest.mark.parametrize(
    "raw",
    [
        head(f"Content-Length: {BODY_BYTES_MAX + 1}") + bytes(BODY_BYTES_MAX + 1),
        head(f"Content-Length: {1 << 40}") + bytes(1 << 20),
        head(CHUNKED) + b"100000\r\n" + bytes(1 << 20),
        head() + bytes(1 << 20),
    ],
)
def test_a_body_is_bounded_while_it_comes(loop: Loop, raw: bytes) -> None:
    """Its end is not waited for."""
    assert failure_of(loop, raw) is Failure.BODY_TOO_LARGE


@pytest.mark.parametrize("status", ["003", "101 Switching Protocols"])
def test_a_status_that_answers_nothing_ends_with_its_connection(loop: Loop, status: str) -> None:
    """Found by the fuzzer: an error in the loop was all that came of it, and who waited went on waiting."""
    assert failure_of(loop, head(status=status), closes=True) in {Failure.CUT_SHORT, Failure.NOT_HTTP}
